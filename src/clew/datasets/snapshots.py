"""Immutable versions of a dataset: taking, finding and listing them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import accumulate
from typing import Any, TypeAlias

import pyarrow as pa

from clew.datasets.casts import KEPT_TYPES, cast_column
from clew.datasets.keeping import Kept, goes_on, keep, keep_longer
from clew.datasets.lookup import read_rows
from clew.datasets.records import (
    Dataset,
    dataset_of,
    described,
    find_dataset,
    newest_of,
    record_snapshot,
    recorded,
    snapshot_id,
    snapshot_of,
)
from clew.datasets.schema import Shaped, refuse_known_keys, shape
from clew.datasets.spill import Batches, shape_batches
from clew.entities import Column, DatasetDeclaration, RowRange, Snapshot
from clew.errors import NotFound
from clew.storage import Store, Transaction, Where

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
    at_hand: tuple[Snapshot, pa.Table] | None = None,
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
    at_hand
        A snapshot and its rows, which spare the hashing of a table that goes on from them when it is the
        newest one.

    Raises
    ------
    DataError
        When the table contradicts the declaration or the declared schema; nothing is stored then.
    """
    while True:
        with store.read() as reader:
            dataset, newest = find_dataset(reader, declaration.name), newest_of(reader, declaration.name)
        code_changed = dataset is not None and dataset.code != code
        declared = dataset.columns if dataset else None
        with _shaped(store, table, declaration, declared, may_change=code_changed) as shaped:
            older = at_hand[1] if at_hand and newest and at_hand[0].id == newest.id else None
            kept = _keep(store, shaped, declaration, newest, older)
        snapshot = described(declaration, shaped.columns, kept, source=source, code=code, now=now)
        with store.write() as tx:
            if record_snapshot(tx, snapshot, dataset):
                return recorded(tx, snapshot.dataset, snapshot.id)
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
            dataset, newest = find_dataset(reader, declaration.name), newest_of(reader, declaration.name)
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
        snapshot = described(declaration, shaped.columns, kept, source=source, code=code, now=now)
        with store.write() as tx:
            if newest_of(tx, declaration.name) == newest and record_snapshot(tx, snapshot, dataset):
                if on_record is not None:
                    on_record(tx, snapshot)
                return recorded(tx, snapshot.dataset, snapshot.id)
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
        dataset, newest = find_dataset(reader, declaration.name), newest_of(reader, declaration.name)
    declared = dataset.columns if dataset else None
    with _shaped(store, table, declaration, declared, is_whole=newest is None) as shaped:
        shaped.refuse_twins(shaped.sorted_hashes(shaped.hashes()))
        if newest is not None and newest.declaration is not None:
            older = read_rows(store, newest, columns=[declaration.key]).column(0)
            refuse_known_keys(shaped.rows[declaration.key], older, declaration.key)
        return shaped.rows.num_rows, shaped.columns


def _keep(
    store: Store,
    shaped: Shaped,
    declaration: DatasetDeclaration,
    newest: Snapshot | None,
    at_hand: pa.Table | None = None,
) -> Kept:
    def find(blocks: tuple[str, ...]) -> Snapshot | None:
        return _find_whole(store, declaration.name, snapshot_id(declaration, shaped.columns, blocks))

    return keep(store, shaped, declaration, newest, find, at_hand)


def _find_whole(store: Store, dataset: str, snapshot_id: str) -> Snapshot | None:
    """The snapshot, if it is on record and none of its parts was lost."""
    with store.read() as reader:
        row = reader.get("snapshots", dataset=dataset, id=snapshot_id)
    there = snapshot_of(row) if row else None
    is_whole = there is not None and all(store.objects.exists(part.object_digest) for part in there.parts)
    return there if is_whole else None


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
            return snapshot_of(found[0])
        newest = reader.find("snapshots", {"dataset": dataset} if dataset else None, ["-taken_at"], limit=3)
    raise NotFound(_which_exist(id_or_prefix, dataset, found, newest))


def list_snapshots(store: Store, dataset: str | None = None) -> list[Snapshot]:
    """All snapshots, of one dataset or of all, the newest first."""
    with store.read() as reader:
        rows = reader.find("snapshots", {"dataset": dataset} if dataset else None, ["-taken_at", "id"])
    return [snapshot_of(row) for row in rows]


def latest_snapshot(store: Store, dataset: str) -> Snapshot | None:
    """The snapshot that the dataset's history ends with, or None."""
    with store.read() as reader:
        return newest_of(reader, dataset)


def list_datasets(store: Store) -> list[Dataset]:
    with store.read() as reader:
        return [dataset_of(row) for row in reader.find("datasets")]


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
