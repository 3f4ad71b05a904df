"""Rows of a snapshot: all of them, a range, by key, by event time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from clew.datasets.casts import INSTANT, KEPT_TYPES
from clew.datasets.parts import at_once, open_part, read_part
from clew.entities import DatasetDeclaration, Part, RowRange, Snapshot
from clew.errors import DataError, NotFound, StoreError, did_you_mean
from clew.storage import Store
from clew.storage.row_groups import row_groups_with


def read_rows(
    store: Store, snapshot: Snapshot, rows: RowRange | None = None, columns: Sequence[str] | None = None
) -> pa.Table:
    """Rows in the snapshot's order, from the stored parts; each part is checked against its digest.

    Parameters
    ----------
    rows
        Which rows, by position; all by default.
    columns
        Which columns, in this order; all by default.

    Raises
    ------
    ValueError
        When `rows` reaches beyond the snapshot.
    NotFound
        When a column is not in it.
    """
    if rows is None:  # and not `or`: an empty range is false
        rows = RowRange(0, snapshot.n_rows)
    if not 0 <= rows.start <= rows.end <= snapshot.n_rows:
        raise ValueError(f"rows {rows.start} to {rows.end} are asked of a snapshot with {snapshot.n_rows}")
    names = _known(snapshot, columns)
    wanted = [(start, part) for start, part in _located(snapshot) if _overlap(rows, start, part) > 0]

    def read(start: int, part: Part) -> pa.Table:
        found = read_part(store.objects, part, names)
        return found.slice(max(rows.start - start, 0), _overlap(rows, start, part))

    pieces = at_once(lambda piece: read(*piece), wanted)
    return pa.concat_tables([_schema(snapshot, names).empty_table(), *pieces])


def find_rows(
    store: Store,
    snapshot: Snapshot,
    *,
    keys: Iterable[Any] | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
) -> pa.Table:
    """Rows with one of these keys and an event time from `start` (inclusive) to `end` (exclusive).

    What is not given does not limit. Keys that are not there are left out; text is read as the type of
    the key.

    Raises
    ------
    DataError
        When a key cannot be of the key column's type.
    """
    declaration = _declaration(snapshot)
    wanted = None if keys is None else _as_keys(snapshot, declaration, list(keys))
    named = {} if wanted is None else {declaration.key: wanted.to_pylist()}
    names = _known(snapshot, None)
    pieces = []
    for _, part in _located(snapshot):
        with open_part(store.objects, part) as file:
            groups = row_groups_with(file, named)
            known = file.read_row_groups(groups, [declaration.time, declaration.key], use_threads=False)
            mask = _matches(known, declaration, wanted, start, end)
            if pc.any(mask).as_py():
                pieces.append(file.read_row_groups(groups, use_threads=False).select(names).filter(mask))
    return pa.concat_tables([_schema(snapshot, names).empty_table(), *pieces])


def _matches(
    known: pa.Table,
    declaration: DatasetDeclaration,
    wanted: pa.Array | None,
    start: datetime | None,
    end: datetime | None,
) -> pa.ChunkedArray:
    times, keys = known[declaration.time], known[declaration.key]
    mask = pc.is_valid(times)
    if start is not None:
        mask = pc.and_(mask, pc.greater_equal(times, _instant(start)))
    if end is not None:
        mask = pc.and_(mask, pc.less(times, _instant(end)))
    if wanted is not None:
        mask = pc.and_(mask, pc.is_in(keys, wanted))
    return mask


def _instant(moment: datetime) -> pa.Scalar:
    if moment.utcoffset() is None:
        raise ValueError(f"{moment!r} has no zone")
    return pa.scalar(moment.astimezone(UTC), INSTANT)


def _as_keys(snapshot: Snapshot, declaration: DatasetDeclaration, keys: list[Any]) -> pa.Array:
    kept = next(KEPT_TYPES[column.type] for column in snapshot.columns if column.name == declaration.key)
    try:
        return pa.array(keys).cast(kept) if keys else pa.array([], kept)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
        raise DataError(
            f"The keys of {snapshot.dataset} ({declaration.key!r}) are {kept}, which these cannot be:"
            f" {', '.join(map(repr, keys[:3]))}.",
            column=declaration.key,
        ) from None


def _declaration(snapshot: Snapshot) -> DatasetDeclaration:
    if snapshot.declaration is None:
        raise StoreError(f"Snapshot {snapshot.id} does not say which columns are its time and key.")
    return snapshot.declaration


def _known(snapshot: Snapshot, columns: Sequence[str] | None) -> list[str]:
    names = [column.name for column in snapshot.columns]
    for name in columns or ():
        if name not in names:
            raise NotFound(
                f"Snapshot {snapshot.id[:12]} of {snapshot.dataset} has no column {name!r}."
                f" {did_you_mean(name, names)}"
            )
    return names if columns is None else list(columns)


def _schema(snapshot: Snapshot, names: Sequence[str]) -> pa.Schema:
    types = {column.name: KEPT_TYPES[column.type] for column in snapshot.columns}
    return pa.schema([(name, types[name]) for name in names])


def _located(snapshot: Snapshot) -> Iterator[tuple[int, Part]]:
    """Each part with the position of its first row."""
    start = 0
    for part in snapshot.parts:
        yield start, part
        start += part.n_rows


def _overlap(rows: RowRange, start: int, part: Part) -> int:
    return min(rows.end, start + part.n_rows) - max(rows.start, start)
