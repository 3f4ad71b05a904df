"""What a folder's snapshot lists: path, kind, size, hash and place of every file; its name, and differences.

A manifest is kept as a Parquet file, which any engine reads. The snapshot's name is a hash over the sorted
entries without their places: where contents lie may change, what they are may not.
"""

from __future__ import annotations

import hashlib
import struct
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from clew.datasets.folder_scan import FileKind, shown
from clew.datasets.packs import NOWHERE, Place
from clew.errors import DataError, ObjectDamaged

FORMAT = 0

_KINDS: tuple[FileKind, ...] = get_args(FileKind)
_LETTERS = {kind: kind[0].encode() for kind in ("executable", "link")} | {"file": b"f", "folder": b"d"}
_FACTS = struct.Struct(">cQ32sI")

_SCHEMA = pa.schema(
    [
        pa.field("path", pa.binary(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("sha256", pa.binary(32), nullable=False),
        pa.field("first_pack", pa.int64(), nullable=False),
        pa.field("n_packs", pa.int64(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
    ]
)


class FileEntry(NamedTuple):
    """One name of a folder: its content is the file's bytes, or where a link points."""

    path: bytes
    kind: FileKind
    size: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class Manifest:
    """All names of a folder, sorted by their bytes, and where each content lies."""

    entries: tuple[FileEntry, ...]
    places: Mapping[bytes, Place]

    @property
    def packs(self) -> tuple[str, ...]:
        """The packs, those of one content beside each other."""
        return tuple(pack for packs in _runs(self) for pack in packs)

    @property
    def n_files(self) -> int:
        return sum(entry.kind != "folder" for entry in self.entries)

    @property
    def n_bytes(self) -> int:
        return sum(entry.size for entry in self.entries)

    def place(self, entry: FileEntry) -> Place:
        return self.places[entry.digest] if entry.size else NOWHERE


def _runs(manifest: Manifest) -> dict[tuple[str, ...], None]:
    """Each pack, or run of packs of one content, in the order of the entries."""
    return {manifest.places[entry.digest].packs: None for entry in manifest.entries if entry.size}


def folder_id(dataset: str, entries: Iterable[FileEntry]) -> str:
    """The name of a folder's snapshot: SHA-256 over the dataset's name and every entry in order.

    The dataset is in it, so that an id names one snapshot. An entry is hashed as a letter for its kind
    (``f``, ``e``, ``l``, ``d``), its size in 8 bytes, its content's SHA-256, the length of its path in 4,
    its path.

    Examples
    --------
    >>> content = b"hello"
    >>> entry = FileEntry(b"a.txt", "file", 5, hashlib.sha256(content).digest())
    >>> folder_id("words", [entry])[:12]
    '8c90575ab1b6'
    """
    hashed = hashlib.sha256(f"clew folder {FORMAT}\0{dataset}\0".encode())
    hashed.update(
        b"".join(
            _FACTS.pack(_LETTERS[entry.kind], entry.size, entry.digest, len(entry.path)) + entry.path
            for entry in entries
        )
    )
    return hashed.hexdigest()


def encode_manifest(manifest: Manifest) -> bytes:
    """A manifest as a Parquet file; `Manifest.packs` is to be kept beside it."""
    first, n_before = {NOWHERE.packs: 0}, 0
    for packs in _runs(manifest):
        first[packs] = n_before
        n_before += len(packs)
    places = [manifest.place(entry) for entry in manifest.entries]
    columns = [[entry[number] for entry in manifest.entries] for number in range(4)]
    columns += [
        [first[place.packs] for place in places],
        [len(place.packs) for place in places],
        [place.offset for place in places],
    ]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, _SCHEMA, strict=True)]
    sink = pa.BufferOutputStream()
    options = {"use_dictionary": ["kind"], "compression": "zstd"}
    pq.write_table(pa.Table.from_arrays(arrays, schema=_SCHEMA), sink, **options)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def decode_manifest(content: bytes, packs: Sequence[str]) -> Manifest:
    """The manifest that `encode_manifest` encoded.

    Raises
    ------
    DataError
        When a path in it would lead out of the folder.
    """
    table = pq.read_table(pa.BufferReader(content))
    columns = [table.column(field.name).to_pylist() for field in _SCHEMA]
    entries = tuple(map(FileEntry, *columns[:4]))
    places = {
        entry.digest: Place(tuple(packs[first : first + n_packs]), offset)
        for entry, first, n_packs, offset in zip(entries, *columns[4:], strict=True)
        if entry.size
    }
    _refuse_ways_out(entries)
    if any(not place.packs for place in places.values()):
        raise ObjectDamaged("A manifest names packs that its snapshot does not list.")
    return Manifest(entries, places)


def _refuse_ways_out(entries: Sequence[FileEntry]) -> None:
    """A manifest may come from elsewhere; no path in it may lead out of the folder, or through a link."""
    leaves = {entry.path for entry in entries}
    for entry in entries:
        parts = entry.path.split(b"/")
        if (
            entry.kind not in _KINDS
            or b"\0" in entry.path
            or any(part in (b"", b".", b"..") for part in parts)
        ):
            raise DataError(f"A manifest lists {shown(entry.path)!r}, which is no path inside a folder.")
        if any(b"/".join(parts[:depth]) in leaves for depth in range(1, len(parts))):
            raise DataError(f"A manifest lists {shown(entry.path)!r} below something that is no folder.")


# -- differences ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FolderChange:
    """What differs between two versions of a folder; paths as people read them.

    Attributes
    ----------
    moved
        Pairs of where a file was and where the same content is now.
    """

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    moved: tuple[tuple[str, str], ...]
    n_same: int

    @property
    def is_none(self) -> bool:
        return not (self.added or self.removed or self.changed or self.moved)


def folder_change(then: Manifest, now: Manifest) -> FolderChange:
    """What was added, removed, changed and moved.

    A file that has gone and one that came with the same content are one that moved; of several with the same
    content, the first by name goes with the first.
    """
    before = {entry.path: entry for entry in then.entries}
    after = {entry.path: entry for entry in now.entries}
    gone = [entry for path, entry in before.items() if path not in after]
    come = [entry for path, entry in after.items() if path not in before]
    both = [(before[path], entry) for path, entry in after.items() if path in before]
    moved = dict(_moves(gone, come))
    arrived = set(moved.values())
    return FolderChange(
        added=tuple(shown(entry.path) for entry in come if entry.path not in arrived),
        removed=tuple(shown(entry.path) for entry in gone if entry.path not in moved),
        changed=tuple(shown(new.path) for old, new in both if old != new),
        moved=tuple((shown(old), shown(new)) for old, new in moved.items()),
        n_same=sum(old == new for old, new in both),
    )


def _moves(gone: Sequence[FileEntry], come: Sequence[FileEntry]) -> Iterator[tuple[bytes, bytes]]:
    arrivals: defaultdict[tuple[str, bytes], list[bytes]] = defaultdict(list)
    for entry in reversed(come):
        if entry.size:
            arrivals[entry.kind, entry.digest].append(entry.path)
    for entry in gone:
        if arrivals[entry.kind, entry.digest]:
            yield entry.path, arrivals[entry.kind, entry.digest].pop()
