"""Whether a snapshot still is what its name says: every byte of every part, and every row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from clew.datasets.digest import content_digest
from clew.datasets.erasing import digest_of_parts
from clew.datasets.parts import ROWS_A_BLOCK, read_part
from clew.datasets.records import snapshot_id
from clew.entities import Snapshot
from clew.errors import NotFound, ObjectDamaged
from clew.storage import Store, Where
from clew.storage.objects import object_name


@dataclass(frozen=True, slots=True)
class Damage:
    """A part that is lost or is not what it was.

    Attributes
    ----------
    part
        Its number; the first is 1.
    first_row, n_rows
        Which rows of the snapshot it holds; the first row is 0.
    file
        Where it lies.
    what
        What is wrong, as the rest of a sentence.
    """

    part: int
    first_row: int
    n_rows: int
    file: str
    what: str


@dataclass(frozen=True, slots=True)
class SnapshotCheck:
    """What was found in a snapshot.

    Attributes
    ----------
    damaged
        Parts whose bytes are lost or changed.
    unlike
        What else contradicts the snapshot's name, in sentences: the record was changed, or a part holds
        other rows than it did.
    """

    dataset: str
    snapshot: str
    n_parts: int
    n_rows: int
    n_bytes: int
    damaged: tuple[Damage, ...]
    unlike: tuple[str, ...] = ()

    @property
    def is_whole(self) -> bool:
        return not self.damaged and not self.unlike


def verify_snapshot(store: Store, snapshot: Snapshot) -> SnapshotCheck:
    """Read every part from where it is kept and hash it again; then hash its rows, and the name of these.

    The rows are hashed only when all bytes are there: a snapshot with damaged parts needs those first. Of a
    snapshot that lost rows to an erasure the parts must be those that the erasure wrote into the audit log.
    """
    damaged: list[Damage] = []
    n_bytes = first_row = 0
    for number, part in enumerate(snapshot.parts, start=1):
        try:
            n_bytes += len(store.objects.get(part.object_digest))
        except (NotFound, ObjectDamaged) as error:
            what = "is lost" if isinstance(error, NotFound) else "is not what it was"
            file = f"{store.objects.name}/{object_name(part.object_digest)}"
            damaged.append(Damage(number, first_row, part.n_rows, file, what))
        first_row += part.n_rows
    return SnapshotCheck(
        dataset=snapshot.dataset,
        snapshot=snapshot.id,
        n_parts=len(snapshot.parts),
        n_rows=snapshot.n_rows,
        n_bytes=n_bytes,
        damaged=tuple(damaged),
        unlike=() if damaged else tuple(_unlike(store, snapshot)),
    )


def _unlike(store: Store, snapshot: Snapshot) -> Iterator[str]:
    declaration = snapshot.declaration
    if declaration is not None and snapshot_id(declaration, snapshot.columns, snapshot.blocks) != snapshot.id:
        yield "its record names columns, roles or rows that its id does not"
    if snapshot.erased:
        # Its name tells of rows that are gone; what is left was written into the audit log.
        yield from _untold(store, snapshot)
        return
    found = list(_block_digests(store, snapshot))
    if len(found) != len(snapshot.blocks):
        yield f"its parts hold {len(found)} blocks of rows, its record names {len(snapshot.blocks)}"
        return
    for place, (one, other) in enumerate(zip(found, snapshot.blocks, strict=True)):
        if one != other:
            first = place * ROWS_A_BLOCK
            end = min(first + ROWS_A_BLOCK, snapshot.n_rows)
            yield f"rows {first:,} to {end - 1:,} are not those that it was named by"


def _block_digests(store: Store, snapshot: Snapshot) -> Iterator[str]:
    """The digest of each 65,536 rows, however they are cut into parts; a part at a time in memory."""
    names = [column.name for column in snapshot.columns]
    waiting: list[pa.Table] = []
    for part in snapshot.parts:
        waiting.append(read_part(store.objects, part, names))
        if sum(rows.num_rows for rows in waiting) >= ROWS_A_BLOCK:
            rows = pa.concat_tables(waiting)
            n_whole = rows.num_rows // ROWS_A_BLOCK * ROWS_A_BLOCK
            for start in range(0, n_whole, ROWS_A_BLOCK):
                yield content_digest(rows.slice(start, ROWS_A_BLOCK))
            waiting = [rows.slice(n_whole)]
    rest = pa.concat_tables(waiting)
    if rest.num_rows:
        yield content_digest(rest)


def _untold(store: Store, snapshot: Snapshot) -> Iterator[str]:
    """What erasures tell otherwise of a snapshot that lost rows: of it the name tells no longer."""
    with store.read() as reader:
        told = [row["evidence"]["changes"] for row in reader.find("audit", {"action": "forget"})]
        told += [row["changes"] for row in reader.find("erasures", {"status": Where("!=", "done")})]
    mine = [each for changes in told for each in changes or [] if each.get("snapshot") == snapshot.id]
    n_rows = sum(each["n_rows"] for each in mine)
    if n_rows != snapshot.n_erased:
        yield f"{snapshot.n_erased:,} rows are gone, but the audit log tells of {n_rows:,} that were erased"
    elif digest_of_parts(snapshot.parts) not in [each["holds"] for each in mine]:
        yield f"other parts are named than those that the erasures of {n_rows:,} rows left"
