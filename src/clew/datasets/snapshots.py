"""Immutable versions of a dataset: taking, finding and listing them."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from typing import Any, TypeAlias

import msgspec
import pyarrow as pa

from clew.datasets.casts import KEPT_TYPES, cast_column
from clew.datasets.keeping import Kept, goes_on, keep, keep_longer
from clew.datasets.lookup import read_rows
from clew.datasets.parts import FORMAT, n_rows_of
from clew.datasets.schema import Shaped, refuse_known_keys, shape
from clew.datasets.spill import Batches, shape_batches
from clew.entities import Column, Cuts, DatasetDeclaration, KnownKeys, Part, RowRange, Snapshot
from clew.errors import NotFound, StoreTooNew
from clew.storage import Reader, Store, Transaction, Where, link

log = logging.getLogger("clew.datasets")

# Of the name, which is older than the way parts are cut, and stays when that changes.
_ID_FORMAT = 0


@dataclass(frozen=True, slots=True)
class SchemaVersion:
    """Columns that a dataset has or had, and the snapshot and code that they came with.

    `snapshot` is None for the oldest version on record of a dataset older than these records.
    """

    number: int
    columns: tuple[Column, ...]
    since: datetime
    snapshot: str | None = None
    code: str | None = None


@dataclass(frozen=True, slots=True)
class Dataset:
    """What is on record of a dataset.

    `schema_version` counts how often its columns changed; `code` made the newest snapshot; `schemas` are
    the versions on record, the oldest first.
    """

    name: str
    columns: tuple[Column, ...]
    schema_version: int
    created_at: datetime
    code: str | None = None
    schemas: tuple[SchemaVersion, ...] = ()


OnRecord: TypeAlias = Callable[[Transaction, Snapshot], None]
"""Called in the transaction that puts a snapshot on record."""


def take_snapshot(
    store: Store,
    declaration: DatasetDeclaration,
    table: pa.Table | Batches,
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
        What the dataset's function returned; see `prepare` for what is asked of it. Or a function that
        gives it piece by piece, from the beginning whenever it is called: then it need not fit into
        memory, but twice into the store's folder.
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
        with _shaped(store, table, declaration, declared, may_change=code_changed) as shaped:
            kept = _keep(store, shaped, declaration, newest)
        snapshot = _described(declaration, shaped.columns, kept, source=source, code=code, now=now)
        with store.write() as tx:
            if _record(tx, snapshot, dataset):
                return _recorded(tx, snapshot.dataset, snapshot.id)
        # Another process changed the declared schema meanwhile: the table must agree with that one.


def append_rows(
    store: Store,
    declaration: DatasetDeclaration,
    table: pa.Table | Batches,
    *,
    source: str,
    code: str | None,
    now: datetime,
    on_record: OnRecord | None = None,
) -> Snapshot:
    """Keep the rows of the newest snapshot and new ones as a version of the dataset.

    It is the snapshot that `take_snapshot` would make of all these rows, part by part. Of the older rows
    only the keys are read, and those that lie behind the first new one or a little before it. New rows may
    be late, and may all wait for their labels; with a column that is new every part is made anew. Labels
    that came for older rows need the whole table.

    Parameters
    ----------
    table
        The new rows alone, as `prepare` asks of them, or piece by piece as for `take_snapshot`. Those that
        are late by much are sorted in memory with all rows behind the first of them.
    source, code
        As for `take_snapshot`.
    on_record
        What else is to be written when the snapshot is.

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
        with _shaped(store, table, declaration, declared, is_whole=newest is None) as shaped:
            if newest is None:
                kept = _keep(store, shaped, declaration, newest)
            elif goes_on(newest, declaration, shaped.columns, shaped.rows.num_rows):
                kept = keep_longer(store, newest, shaped, declaration)
            else:
                whole = _with_older(store, newest, shaped, declaration)
                with _shaped(store, whole, declaration, declared) as shaped:
                    kept = _keep(store, shaped, declaration, newest)
        snapshot = _described(declaration, shaped.columns, kept, source=source, code=code, now=now)
        with store.write() as tx:
            if _newest(tx, declaration.name) == newest and _record(tx, snapshot, dataset):
                if on_record is not None:
                    on_record(tx, snapshot)
                return _recorded(tx, snapshot.dataset, snapshot.id)
        # Another process took a snapshot meanwhile: the rows are to follow that one.


@contextmanager
def _shaped(
    store: Store,
    table: pa.Table | Batches,
    declaration: DatasetDeclaration,
    declared: tuple[Column, ...] | None,
    *,
    may_change: bool = False,
    is_whole: bool = True,
) -> Iterator[Shaped]:
    if isinstance(table, pa.Table):
        yield shape(table, declaration, declared, may_change=may_change, is_whole=is_whole)
        return
    with store.scratch("rows") as scratch:
        yield shape_batches(table, declaration, declared, scratch, may_change=may_change, is_whole=is_whole)


def _with_older(store: Store, newest: Snapshot, shaped: Shaped, declaration: DatasetDeclaration) -> Batches:
    """The rows of a snapshot and new ones, which may have more columns, or wider ones."""
    ends = list(accumulate(part.n_rows for part in newest.parts))

    def like_new(older: pa.Table, first_row: int) -> pa.Table:
        columns = {}
        for column in shaped.columns:
            kind, name = KEPT_TYPES[column.type], column.name
            nothing = pa.chunked_array([pa.nulls(older.num_rows, kind)])
            there = older[name] if name in older.column_names else nothing
            columns[name] = cast_column(there, name, kind, declaration.timezone, first_row)
        return pa.table(columns)

    def pieces() -> Iterator[pa.Table]:
        for start, end in zip([0, *ends], ends, strict=False):
            yield like_new(read_rows(store, newest, RowRange(start, end)), start)
        yield shaped.rows

    return pieces


def check_new_rows(
    store: Store, declaration: DatasetDeclaration, table: pa.Table | Batches
) -> tuple[int, tuple[Column, ...]]:
    """Whether `append_rows` would take these rows, without storing anything.

    Returns
    -------
    n_rows, columns
        How many they are, and the columns that the dataset would have.

    Raises
    ------
    DataError
        As `append_rows` does.
    """
    with store.read() as reader:
        dataset, newest = _find_dataset(reader, declaration.name), _newest(reader, declaration.name)
    declared = dataset.columns if dataset else None
    with _shaped(store, table, declaration, declared, is_whole=newest is None) as shaped:
        shaped.refuse_twins(shaped.sorted_hashes(shaped.hashes()))
        if newest is not None and newest.declaration is not None:
            older = read_rows(store, newest, columns=[declaration.key]).column(0)
            refuse_known_keys(shaped.rows[declaration.key], older, declaration.key)
        return shaped.rows.num_rows, shaped.columns


def _keep(store: Store, shaped: Shaped, declaration: DatasetDeclaration, newest: Snapshot | None) -> Kept:
    def find(blocks: tuple[str, ...]) -> Snapshot | None:
        identity = _snapshot_id(declaration, shaped.columns, blocks)
        return _find_whole(store, declaration.name, identity)

    return keep(store, shaped, declaration, newest, find)


def _find_whole(store: Store, dataset: str, snapshot_id: str) -> Snapshot | None:
    """The snapshot, if it is on record and none of its parts was lost."""
    with store.read() as reader:
        row = reader.get("snapshots", dataset=dataset, id=snapshot_id)
    there = _from_row(row) if row else None
    is_whole = there is not None and all(store.objects.exists(part.object_digest) for part in there.parts)
    return there if is_whole else None


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
        keys=kept.keys,
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
        how_kept = {name: row[name] for name in ("parts", "blocks", "cuts", "keys", "format")}
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
    if dataset is not None and dataset.columns == snapshot.columns:
        tx.update("datasets", {"name": dataset.name}, said)
        return
    number, before = (dataset.schema_version + 1, dataset.schemas) if dataset is not None else (1, ())
    new = SchemaVersion(number, snapshot.columns, snapshot.taken_at, snapshot.id, snapshot.code)
    said |= {"schema_version": number, "schemas": msgspec.to_builtins((*before, new))}
    if dataset is None:
        tx.insert("datasets", {"name": snapshot.dataset, "created_at": snapshot.taken_at} | said)
        return
    tx.update("datasets", {"name": dataset.name}, said)
    log.info("columns changed", extra={"dataset": dataset.name, "schema_version": number})


def _find_dataset(reader: Reader, name: str) -> Dataset | None:
    row = reader.get("datasets", name=name)
    return _dataset(row) if row else None


def _dataset(row: Mapping[str, Any]) -> Dataset:
    columns = msgspec.convert(row["columns"], tuple[Column, ...])
    number, code = row["schema_version"], row["code"]
    schemas = msgspec.convert(row["schemas"], tuple[SchemaVersion, ...] | None)
    # Of a dataset older than these records, only the present columns are known.
    schemas = schemas or (SchemaVersion(number, columns, row["created_at"], None, code),)
    return Dataset(row["name"], columns, number, row["created_at"], code, schemas)


def _newest(reader: Reader, dataset: str) -> Snapshot | None:
    last = reader.find("snapshot_log", {"dataset": dataset}, ["-sequence"], limit=1)
    return _recorded(reader, dataset, last[0]["snapshot"]) if last else None


def _to_row(snapshot: Snapshot) -> dict[str, Any]:
    plain = {name: getattr(snapshot, name) for name in Snapshot.__dataclass_fields__}
    for name in ("columns", "parts", "declaration", "blocks", "cuts", "keys"):
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
    plain["keys"] = msgspec.convert(row["keys"], KnownKeys | None)
    # Format 0 had the blocks for parts, and did not list them twice.
    plain["blocks"] = tuple(row["blocks"] or (part.content for part in plain["parts"]))
    return Snapshot(**plain)
