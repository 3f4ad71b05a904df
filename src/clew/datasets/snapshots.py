"""Immutable versions of a dataset: taking, finding and listing them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from clew.datasets.cutting import cuts_for, parts_that_stay
from clew.datasets.lookup import read_rows
from clew.datasets.parts import (
    FORMAT,
    ROWS_A_BLOCK,
    Kept,
    block_digests,
    n_rows_of,
    n_same_rows,
    store_parts,
)
from clew.datasets.schema import in_order, prepare, refuse_known_keys
from clew.entities import Column, Cuts, DatasetDeclaration, Part, RowRange, Snapshot
from clew.errors import NotFound, StoreTooNew
from clew.storage import ObjectStore, Reader, Store, Transaction, Where, link

# Of the name, which is older than the way parts are cut, and stays when that changes.
_ID_FORMAT = 0


@dataclass(frozen=True, slots=True)
class Dataset:
    """What is on record of a dataset.

    `schema_version` counts how often its columns changed; `code` made the newest snapshot.
    """

    name: str
    columns: tuple[Column, ...]
    schema_version: int
    created_at: datetime
    code: str | None = None


def take_snapshot(
    store: Store,
    declaration: DatasetDeclaration,
    table: pa.Table,
    *,
    source: str,
    code: str | None,
    now: datetime,
) -> Snapshot:
    """Keep the rows of a table as a version of its dataset.

    Repeating it is harmless: the same rows have the same id, whatever their order or where they were
    read from, and a snapshot that is the newest already leaves the history as it is. A process that dies
    on the way leaves nothing visible. The declared schema is made by the first snapshot; later ones may
    add columns, and may drop or change them only when `code` has changed too.

    Parameters
    ----------
    table
        What the dataset's function returned; see `prepare` for what is asked of it.
    source
        Where the rows came from, in words.
    code
        Id of the captured code that made the table, or None.

    Raises
    ------
    DataError
        When the table contradicts the declaration or the declared schema; nothing is stored then.
    """
    while True:
        with store.read() as reader:
            dataset, newest = _find_dataset(reader, declaration.name), _newest(reader, declaration.name)
        code_changed = dataset is not None and dataset.code != code
        declared = dataset.columns if dataset else None
        rows, columns = prepare(table, declaration, declared, may_change=code_changed)
        kept = _keep(store, rows, declaration, columns, newest)
        snapshot = _described(declaration, columns, kept, source=source, code=code, now=now)
        with store.write() as tx:
            if _record(tx, snapshot, dataset):
                return _recorded(tx, snapshot.dataset, snapshot.id)
        # Another process changed the declared schema meanwhile: the table must agree with that one.


def append_rows(
    store: Store,
    declaration: DatasetDeclaration,
    table: pa.Table,
    *,
    source: str,
    code: str | None,
    now: datetime,
) -> Snapshot:
    """Keep the rows of the newest snapshot and new ones as a version of the dataset.

    It is the snapshot that `take_snapshot` would make of all these rows, part by part. Of the older rows
    only the keys are read, and those that lie behind the first new one or a little before it. New rows may
    be late, and may all wait for their labels; with a column that is new every part is made anew. Labels
    that came for older rows need the whole table.

    Parameters
    ----------
    table
        The new rows alone, as `prepare` asks of them.
    source, code
        As for `take_snapshot`.

    Raises
    ------
    DataError
        When a key is there already, or the rows contradict the declaration or the declared schema;
        nothing is stored then.
    """
    while True:
        with store.read() as reader:
            dataset, newest = _find_dataset(reader, declaration.name), _newest(reader, declaration.name)
        declared = dataset.columns if dataset else None
        rows, columns = prepare(table, declaration, declared, is_whole=newest is None)
        if newest is not None and _goes_on(newest, declaration, columns, rows.num_rows):
            kept = _keep_longer(store, newest, rows, declaration)
        else:
            if newest is not None:
                whole = pa.concat_tables([read_rows(store, newest), rows], promote_options="default")
                rows, columns = prepare(whole, declaration, declared)
            kept = _keep(store, rows, declaration, columns, newest)
        snapshot = _described(declaration, columns, kept, source=source, code=code, now=now)
        with store.write() as tx:
            if _newest(tx, declaration.name) == newest and _record(tx, snapshot, dataset):
                return _recorded(tx, snapshot.dataset, snapshot.id)
        # Another process took a snapshot meanwhile: the rows are to follow that one.


def _goes_on(
    newest: Snapshot, declaration: DatasetDeclaration, columns: tuple[Column, ...], n_added: int
) -> bool:
    """Whether with so many more rows the columns, the order and the cuts stay what they are."""
    before = newest.declaration
    same_order = before is not None and (before.time, before.key) == (declaration.time, declaration.key)
    cuts = cuts_for(newest.n_rows + n_added, declaration.key, newest.cuts)
    return same_order and (newest.columns, newest.cuts) == (columns, cuts)


def _n_rows_before(store: Store, snapshot: Snapshot, column: str, time: pa.Scalar) -> int:
    """How many rows are older than this time."""
    if snapshot.last_time is not None and snapshot.last_time < time.as_py():
        return snapshot.n_rows
    times = read_rows(store, snapshot, columns=[column]).column(0)
    return int(pc.sum(pc.less(times, time)).as_py())


def _keep_longer(store: Store, newest: Snapshot, rows: pa.Table, declaration: DatasetDeclaration) -> Kept:
    """Store what changes when `rows` join the newest snapshot."""
    keys = read_rows(store, newest, columns=[declaration.key]).column(0)
    refuse_known_keys(rows[declaration.key], keys, declaration.key)
    n_before = _n_rows_before(store, newest, declaration.time, rows[declaration.time][0])
    cuts = cuts_for(newest.n_rows + rows.num_rows, declaration.key, newest.cuts)
    staying = _staying(store.objects, newest, n_before, cuts)
    n_staying, n_blocks = n_rows_of(staying), n_before // ROWS_A_BLOCK
    first = min(n_staying, n_blocks * ROWS_A_BLOCK)
    older = read_rows(store, newest, RowRange(first, newest.n_rows))
    tail = in_order(pa.concat_tables([older, rows]), declaration)
    blocks = (*newest.blocks[:n_blocks], *block_digests(tail.slice(n_blocks * ROWS_A_BLOCK - first)))
    added = store_parts(store.objects, tail.slice(n_staying - first), cuts, newest.parts)
    times = tail[declaration.time]
    first_time = newest.first_time if n_before else times[0].as_py()
    return Kept((*staying, *added), blocks, cuts, first_time, times[-1].as_py())


def _keep(
    store: Store,
    rows: pa.Table,
    declaration: DatasetDeclaration,
    columns: tuple[Column, ...],
    newest: Snapshot | None,
) -> Kept:
    """Store what is not there yet of a whole table."""
    times, blocks = rows[declaration.time], block_digests(rows)
    first_time, last_time = times[0].as_py(), times[-1].as_py()
    there = _find_whole(store, declaration.name, _snapshot_id(declaration, columns, blocks))
    if there is not None:
        return Kept(there.parts, blocks, there.cuts, first_time, last_time)
    cuts = cuts_for(rows.num_rows, declaration.key, newest.cuts if newest else None)
    staying: tuple[Part, ...] = ()
    if newest is not None and newest.cuts == cuts:
        staying = _staying(store.objects, newest, n_same_rows(blocks, newest.blocks), cuts)
    changed = rows.slice(n_rows_of(staying))
    added = store_parts(store.objects, changed, cuts, newest.parts if newest else ())
    return Kept((*staying, *added), blocks, cuts, first_time, last_time)


def _find_whole(store: Store, dataset: str, snapshot_id: str) -> Snapshot | None:
    """The snapshot, if it is on record and none of its parts was lost."""
    with store.read() as reader:
        row = reader.get("snapshots", dataset=dataset, id=snapshot_id)
    there = _from_row(row) if row else None
    is_whole = there is not None and all(store.objects.exists(part.object_digest) for part in there.parts)
    return there if is_whole else None


def _staying(objects: ObjectStore, newest: Snapshot, n_same: int, cuts: Cuts) -> tuple[Part, ...]:
    """The leading parts that need neither be cut nor looked at again, up to one that was lost."""
    same = parts_that_stay(newest.parts, n_same, cuts.reach)
    return tuple(takewhile(lambda part: objects.exists(part.object_digest), same))


def _recorded(reader: Reader, dataset: str, snapshot_id: str) -> Snapshot:
    row = reader.get("snapshots", dataset=dataset, id=snapshot_id)
    if row is None:
        raise NotFound(f"Dataset {dataset!r} has no snapshot {snapshot_id}.")
    return _from_row(row)


def get_snapshot(store: Store, id_or_prefix: str, dataset: str | None = None) -> Snapshot:
    """The snapshot with this id, or whose id alone begins so.

    Raises
    ------
    NotFound
        When there is none, or several; the message names what exists.
    """
    where: dict[str, Any] = {"id": Where("prefix", id_or_prefix)}
    if dataset is not None:
        where["dataset"] = dataset
    with store.read() as reader:
        found = reader.find("snapshots", where, limit=4) if id_or_prefix else []
        if len(found) == 1:
            return _from_row(found[0])
        newest = reader.find("snapshots", {"dataset": dataset} if dataset else None, ["-taken_at"], limit=3)
    raise NotFound(_which_exist(id_or_prefix, dataset, found, newest))


def list_snapshots(store: Store, dataset: str | None = None) -> list[Snapshot]:
    """All snapshots, of one dataset or of all, the newest first."""
    with store.read() as reader:
        rows = reader.find("snapshots", {"dataset": dataset} if dataset else None, ["-taken_at", "id"])
    return [_from_row(row) for row in rows]


def latest_snapshot(store: Store, dataset: str) -> Snapshot | None:
    """The snapshot that the dataset's history ends with, or None."""
    with store.read() as reader:
        return _newest(reader, dataset)


def list_datasets(store: Store) -> list[Dataset]:
    with store.read() as reader:
        return [_dataset(row) for row in reader.find("datasets")]


def _which_exist(
    prefix: str, dataset: str | None, found: Sequence[Mapping[str, Any]], newest: Sequence[Mapping[str, Any]]
) -> str:
    of = f" of dataset {dataset!r}" if dataset else ""
    if found:
        return f"Several snapshots{of} begin with {prefix!r}: {_ids(found)}. Write more of the id."
    there = f"the newest are {_ids(newest)}" if newest else "there are none yet"
    return f"There is no snapshot {prefix!r}{of}; {there}."


def _ids(rows: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(
        f"{row['id'][:12]} ({row['dataset']}, {row['taken_at']:%Y-%m-%d %H:%MZ})" for row in rows
    )


# -- records -------------------------------------------------------------------------------------------


def _described(
    declaration: DatasetDeclaration,
    columns: tuple[Column, ...],
    kept: Kept,
    *,
    source: str,
    code: str | None,
    now: datetime,
) -> Snapshot:
    return Snapshot(
        dataset=declaration.name,
        id=_snapshot_id(declaration, columns, kept.blocks),
        columns=columns,
        parts=kept.parts,
        n_rows=n_rows_of(kept.parts),
        first_time=kept.first_time,
        last_time=kept.last_time,
        taken_at=now,
        source=source,
        code=code,
        declaration=declaration,
        blocks=kept.blocks,
        cuts=kept.cuts,
    )


def _snapshot_id(
    declaration: DatasetDeclaration, columns: tuple[Column, ...], blocks: tuple[str, ...]
) -> str:
    """Named by what it holds, not by the files that hold it.

    The dataset is in it, so that an id names one snapshot; time and key, because they make the order.
    """
    said = {
        "format": _ID_FORMAT,
        "dataset": [declaration.name, declaration.time, declaration.key],
        "columns": [[column.name, column.type, column.is_categorical] for column in columns],
        "parts": blocks,
    }
    return hashlib.sha256(msgspec.json.encode(said, order="deterministic")).hexdigest()


def _record(tx: Transaction, snapshot: Snapshot, dataset: Dataset | None) -> bool:
    """Make the snapshot the newest of its dataset; False when the declared schema moved."""
    if _find_dataset(tx, snapshot.dataset) != dataset:
        return False
    _declare(tx, snapshot, dataset)
    row = _to_row(snapshot)
    if not tx.insert_if_absent("snapshots", row):
        # These parts are known to be there; one of those on record may have been lost.
        how_kept = {name: row[name] for name in ("parts", "blocks", "cuts", "format")}
        tx.update("snapshots", {"dataset": snapshot.dataset, "id": snapshot.id}, how_kept)
    last = tx.find("snapshot_log", {"dataset": snapshot.dataset}, ["-sequence"], limit=1)
    if not last or last[0]["snapshot"] != snapshot.id:
        entry = {"dataset": snapshot.dataset, "sequence": last[0]["sequence"] + 1 if last else 1}
        entry |= {"snapshot": snapshot.id, "taken_at": snapshot.taken_at, "source": snapshot.source}
        tx.insert("snapshot_log", entry)
    if snapshot.code is not None:
        link(tx, "snapshot", snapshot.id, "made by", "code", snapshot.code)
    return True


def _declare(tx: Transaction, snapshot: Snapshot, dataset: Dataset | None) -> None:
    said = {
        "columns": msgspec.to_builtins(snapshot.columns),
        "declaration": msgspec.to_builtins(snapshot.declaration),
        "code": snapshot.code,
    }
    if dataset is None:
        first = {"name": snapshot.dataset, "schema_version": 1, "created_at": snapshot.taken_at}
        tx.insert("datasets", first | said)
        return
    version = dataset.schema_version + (dataset.columns != snapshot.columns)
    tx.update("datasets", {"name": dataset.name}, said | {"schema_version": version})


def _find_dataset(reader: Reader, name: str) -> Dataset | None:
    row = reader.get("datasets", name=name)
    return _dataset(row) if row else None


def _dataset(row: Mapping[str, Any]) -> Dataset:
    columns = msgspec.convert(row["columns"], tuple[Column, ...])
    return Dataset(row["name"], columns, row["schema_version"], row["created_at"], row["code"])


def _newest(reader: Reader, dataset: str) -> Snapshot | None:
    last = reader.find("snapshot_log", {"dataset": dataset}, ["-sequence"], limit=1)
    return _recorded(reader, dataset, last[0]["snapshot"]) if last else None


def _to_row(snapshot: Snapshot) -> dict[str, Any]:
    plain = {name: getattr(snapshot, name) for name in Snapshot.__dataclass_fields__}
    for name in ("columns", "parts", "declaration", "blocks", "cuts"):
        plain[name] = msgspec.to_builtins(plain[name])
    return plain | {"format": FORMAT if snapshot.cuts else 0}


def _from_row(row: Mapping[str, Any]) -> Snapshot:
    if row["format"] > FORMAT:
        raise StoreTooNew(
            f"Snapshot {row['id'][:12]} of {row['dataset']} is stored in format {row['format']}; this Clew"
            f" knows formats up to {FORMAT}. Run: pip install --upgrade clew"
        )
    plain = {name: row[name] for name in Snapshot.__dataclass_fields__}
    plain["columns"] = msgspec.convert(row["columns"], tuple[Column, ...])
    plain["parts"] = msgspec.convert(row["parts"], tuple[Part, ...])
    plain["declaration"] = msgspec.convert(row["declaration"], DatasetDeclaration | None)
    plain["cuts"] = msgspec.convert(row["cuts"], Cuts | None)
    # Format 0 had the blocks for parts, and did not list them twice.
    plain["blocks"] = tuple(row["blocks"] or (part.content for part in plain["parts"]))
    return Snapshot(**plain)


def name_of_content(snapshot: Snapshot) -> str:
    """The id that a snapshot's record makes, which is its own unless the record was changed."""
    if snapshot.declaration is None:
        raise ValueError(f"snapshot {snapshot.id} has no declaration, so its name cannot be made again")
    return _snapshot_id(snapshot.declaration, snapshot.columns, snapshot.blocks)
