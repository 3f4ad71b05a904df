"""A stretch of the audit log as a zip file that anybody can verify, without Clew."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from clew.entities import AuditEntry
from clew.errors import NotFound
from clew.registry.audit import entries_in_order
from clew.storage.chain import canonical

if TYPE_CHECKING:
    from clew.storage import Store

Place: TypeAlias = int | datetime
"""Where a stretch begins or ends: at a row's number, or at a time."""

SCRIPT = Path(__file__).with_name("bundle_script.py")

README = """\
Rows {first} to {last} of an audit log kept by Clew: who changed what, when, why, on what evidence.

rows.jsonl   One row a line, as JSON. A row's hash is the SHA-256 of its line without the line break, and the
             next row holds it as "before". So who changes a row has to change every later one.
chain.json   "before", the hash of the row before the first one here (zeros when there is none), and "after",
             the hash of the newest row here.
verify.py    Checks all of that with Python's standard library alone:

    python verify.py

It ends with 0 when every row is what was written, and else with 3 and a line about each fault.

What nobody can see from these files alone is whether all of them were made anew. For that, compare "after"
with a hash of the same log that you were given earlier or from elsewhere, or have the script look for it:

    python verify.py HASH

With sha256sum: head -n 1 rows.jsonl | tr -d '\\n' | sha256sum gives what the second row holds as "before".
"""


@dataclass(frozen=True, slots=True)
class AuditBundle:
    """What was written: the numbers of its first and last row, and the hashes before and after them."""

    path: str
    n_rows: int
    first: int
    last: int
    before: str
    after: str


def export_audit(
    store: Store, path: Path, start: Place | None = None, end: Place | None = None
) -> AuditBundle:
    """Write the rows from `start` to `end` to a zip file, whole or not at all; by default all rows.

    Numbers count both ends in; times take from the first row at or after `start` to the last one before
    `end`, with every row between, since a chain has no holes. The same rows give the same bytes.

    Raises
    ------
    NotFound
        When there is no such row.
    """
    with store.read() as reader:
        rows = stretch(list(entries_in_order(reader)), start, end)
    if not rows:
        raise NotFound(
            "The audit log has no row there, so nothing was written. List them with: clew audit list"
        )
    bundle = AuditBundle(
        str(path), len(rows), rows[0].sequence, rows[-1].sequence, rows[0].before, rows[-1].hash
    )
    files = {
        "README.txt": README.format(first=bundle.first, last=bundle.last),
        "rows.jsonl": "".join(f"{_line(row)}\n" for row in rows),
        "chain.json": json.dumps(asdict(bundle) | {"path": path.name}, indent=2) + "\n",
        "verify.py": SCRIPT.read_text(encoding="ascii"),
    }
    _write(path, files)
    return bundle


def stretch(entries: Sequence[AuditEntry], start: Place | None, end: Place | None) -> list[AuditEntry]:
    """The entries of a stretch, in the order of their numbers."""
    from_here = [n for n, entry in enumerate(entries) if start is None or not _is_before(entry, start)]
    to_here = [n for n, entry in enumerate(entries) if end is None or _is_within(entry, end)]
    return list(entries[from_here[0] : to_here[-1] + 1]) if from_here and to_here else []


def _is_before(entry: AuditEntry, place: Place) -> bool:
    return entry.at < place if isinstance(place, datetime) else entry.sequence < place


def _is_within(entry: AuditEntry, place: Place) -> bool:
    return entry.at < place if isinstance(place, datetime) else entry.sequence <= place


def _line(entry: AuditEntry) -> str:
    row = asdict(entry)
    return canonical(row).decode("ascii")


def _write(path: Path, files: dict[str, str]) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                # Without a time of its own, which would make other bytes of the same rows.
                archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
