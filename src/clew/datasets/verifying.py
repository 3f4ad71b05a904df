"""Whether what a snapshot's parts hold is what was recorded of them."""

from __future__ import annotations

from collections.abc import Iterator

from clew.datasets.digest import content_digest
from clew.datasets.erasing import digest_of_parts
from clew.datasets.lookup import read_rows
from clew.datasets.parts import block_digests, read_part
from clew.datasets.records import snapshot_id
from clew.entities import Snapshot
from clew.errors import NotFound, StoreError
from clew.storage import Store, Where

SHORT = 12


def verify_snapshot(store: Store, snapshot: Snapshot) -> list[str]:
    """What is not as it was recorded, in sentences that name the part; empty when all is.

    Every part is read: its bytes must have the digest that names them, its rows the digest of their content,
    and all rows together must give the snapshot its name. Of a snapshot that lost rows to an erasure the
    parts must be those that the erasure wrote into the audit log, since its name tells of rows that are gone.
    """
    faults = list(_faulty_parts(store, snapshot))
    if faults or snapshot.declaration is None:
        return faults
    if snapshot.erased:
        return list(_untold(store, snapshot))
    blocks = block_digests(read_rows(store, snapshot))
    if snapshot_id(snapshot.declaration, snapshot.columns, blocks) != snapshot.id:
        faults.append(f"the rows of snapshot {snapshot.id[:SHORT]} are not those that its name was made of")
    return faults


def _faulty_parts(store: Store, snapshot: Snapshot) -> Iterator[str]:
    names = [column.name for column in snapshot.columns]
    start = 0
    for number, part in enumerate(snapshot.parts, start=1):
        what = f"part {number} of {len(snapshot.parts)}, rows {start:,} to {start + part.n_rows:,}"
        start += part.n_rows
        try:
            rows = read_part(store.objects, part, names)
        except (StoreError, NotFound) as error:
            yield f"{what}: {error}"
            continue
        # Of a part that says which keys it holds the bytes alone are named.
        is_other = part.keys is None and content_digest(rows) != part.content
        if rows.num_rows != part.n_rows or is_other:
            yield f"{what}: its rows are not those that were recorded"


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
