"""Which objects are needed: those that a row names, and those that a needed list of files names.

A row names an object by its digest, in whichever column. So every text of every table is looked through for
digests, and what a later table names is kept without a word here: too much may be kept by that, never too
little. Only the audit log does not count: it tells what was, and nothing of that is needed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Set
from typing import TYPE_CHECKING, Any

from clew.storage.tables import metadata

if TYPE_CHECKING:
    from clew.storage.objects import ObjectStore
    from clew.storage.rows import Reader

_DIGEST = re.compile(r"(?=([0-9a-f]{64}))")
_DIGEST_IN_BYTES = re.compile(rb"(?=([0-9a-f]{64}))")

LIST_OF_FILES = b'{"files":'
"""How the list of a package's files begins, and that of captured code."""
PARQUET = b"PAR1"
PACK = b"CLWPACK"

_NOT_NEEDS = ("audit",)
_LEAVES = (
    ("snapshots", "parts"),
    ("snapshots", "keys"),
    ("folder_snapshots", "manifest"),
    ("folder_snapshots", "packs"),
    ("log_parts", "object_digest"),
    ("log_segments", "parts"),
)


def digests_in(content: bytes) -> set[str]:
    """Whatever looks like a digest."""
    return {found.decode() for found in _DIGEST_IN_BYTES.findall(content)}


def named_in_rows(
    reader: Reader, only: Mapping[str, Mapping[str, Any]] | None = None, without: Iterable[str] = ()
) -> set[str]:
    """Every digest that a row names.

    Parameters
    ----------
    only
        By table the condition that its rows must meet to count.
    without
        Tables that do not count.
    """
    skipped = {*_NOT_NEEDS, *without}
    texts = (
        text
        for table in metadata.tables
        if table not in skipped
        for text in reader.texts(table, (only or {}).get(table), n_least=64)
    )
    return set(_all_digests(texts))


def named_in_row(reader: Reader, table: str, **key: Any) -> set[str]:
    """Every digest that one row names."""
    return set(_all_digests(reader.texts(table, key, n_least=64)))


def _all_digests(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        yield from _DIGEST.findall(text)


def with_their_files(objects: ObjectStore, reader: Reader, named: Set[str], there: Set[str]) -> set[str]:
    """`named`, and what the lists of files among them name.

    Parameters
    ----------
    there
        The objects that exist, set aside or not: others cannot be looked into.

    Raises
    ------
    ObjectDamaged
        When a list cannot be read, since nobody knows what it names.
    """
    leaves = {
        digest
        for table, column in _LEAVES
        for row in reader.find(table)
        for digest in _DIGEST.findall(str(row[column]))
    }
    needed = set(named)
    for digest in (named & there) - leaves:
        if objects.start_of(digest, len(LIST_OF_FILES)) == LIST_OF_FILES:
            needed |= digests_in(objects.get(digest))
    return needed


def kind_of(start: bytes) -> str:
    """Of what kind an object is, by its first bytes.

    Examples
    --------
    >>> kind_of(b"PAR1"), kind_of(LIST_OF_FILES + b"{}}"), kind_of(PACK + b"0"), kind_of(b"tree")
    ('part', 'list of files', 'pack of files', 'file')
    """
    if start.startswith(PACK):
        return "pack of files"
    if start.startswith(PARQUET):
        return "part"
    return "list of files" if start.startswith(LIST_OF_FILES) else "file"
