"""Two snapshots side by side: which rows and cells differ, and how each column's distribution moved.

`data_change` counts what differs, for runs; here it is shown. Rows are told apart by their key, so two
datasets can be compared as well when they have the same one.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clew.datasets import read_rows
from clew.entities import Snapshot
from clew.loop.data_change import (
    RowsChange,
    any_of,
    changed_columns,
    compare_rows,
    differs,
    in_pairs,
    rows_apart,
    shared_columns,
)
from clew.stats.bins import CategoryBins, NumericBins, numeric_bins
from clew.stats.distances import total_variation
from clew.storage import Store
from clew.tracking import Changed

Verdict: TypeAlias = Literal["same snapshot", "same rows", "same rows, other order", "differs"]

_N_LEVELS = 20


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two snapshots."""

    dataset: str
    id: str
    n_rows: int
    taken_at: datetime
    source: str
    first_time: datetime | None
    last_time: datetime | None


@dataclass(frozen=True, slots=True)
class ChangedRow:
    """A row that both have, with the cells that differ: then and now by column."""

    key: Any
    cells: dict[str, tuple[Any, Any]]


@dataclass(frozen=True, slots=True)
class ColumnShift:
    """A column's values then and now, counted in bins that the older snapshot sets.

    Attributes
    ----------
    labels
        A name for each count; the last is of missing values.
    distance
        Share of rows that would have to change bin to turn one distribution into the other (total
        variation), 0 to 1. It describes these rows, and tests nothing.
    mean_then, mean_now
        Of numbers; None for others.
    """

    name: str
    labels: tuple[str, ...]
    then: tuple[int, ...]
    now: tuple[int, ...]
    distance: float
    mean_then: float | None = None
    mean_now: float | None = None

    @property
    def missing(self) -> tuple[float, float]:
        """The share of missing values then and now."""
        return _share(self.then), _share(self.now)


def _share(counts: Sequence[int]) -> float:
    return counts[-1] / sum(counts) if sum(counts) else 0.0


@dataclass(frozen=True, slots=True)
class DataDiff:
    """Two snapshots and what differs between them.

    Attributes
    ----------
    key
        The column by which rows were told apart; None when they have none in common, and `rows` is None.
    columns
        Columns that only one has, or both with other types; None stands for a missing one.
    changed, added, removed
        The first changed rows, and the first keys of the added and the removed ones.
    shifts
        Every column that both have but the key, the one that moved most first.
    """

    then: Side
    now: Side
    verdict: Verdict
    key: str | None
    columns: tuple[Changed, ...] = ()
    rows: RowsChange | None = None
    changed: tuple[ChangedRow, ...] = ()
    added: tuple[Any, ...] = ()
    removed: tuple[Any, ...] = ()
    shifts: tuple[ColumnShift, ...] = ()


def data_diff(store: Store, then: Snapshot, now: Snapshot, *, limit: int = 20) -> DataDiff:
    """Compare two snapshots.

    Parameters
    ----------
    limit
        How many changed rows, and keys of added and of removed ones, are shown; all are counted.

    Raises
    ------
    StoreError
        When rows that have to be read are damaged.
    """
    sides = (_side(then), _side(now))
    if (then.dataset, then.id) == (now.dataset, now.id):
        return DataDiff(*sides, "same snapshot", _declared_key(now))
    columns, shared = tuple(changed_columns(then, now)), shared_columns(then, now)
    shifts = sorted(_shifts(store, then, now, shared), key=lambda shift: (-shift.distance, shift.name))
    key = _common_key(store, then, now, shared)
    if key is None:
        return DataDiff(*sides, "differs", None, columns, shifts=tuple(shifts))
    before, after = rows_apart(store, then, now, shared), rows_apart(store, now, then, shared)
    rows = compare_rows(before, after, key)
    is_same = not columns and not (rows.n_added or rows.n_removed or rows.n_changed)
    return DataDiff(
        *sides,
        _order(store, then, now, key) if is_same else "differs",
        key,
        columns,
        rows,
        changed=tuple(_changed_rows(before, after, key, limit)),
        added=_keys_apart(after, before, key, limit),
        removed=_keys_apart(before, after, key, limit),
        shifts=tuple(shifts),
    )


def _side(snapshot: Snapshot) -> Side:
    return Side(**{name: getattr(snapshot, name) for name in Side.__dataclass_fields__})


def _declared_key(snapshot: Snapshot) -> str | None:
    return snapshot.declaration.key if snapshot.declaration else None


def _common_key(store: Store, then: Snapshot, now: Snapshot, shared: Sequence[str]) -> str | None:
    """A declared key that names the rows of both: the newer one's, else the older one's."""
    keys = [_declared_key(now), _declared_key(then)]
    if keys[0] == keys[1]:
        return keys[0] if keys[0] is not None and keys[0] in shared else None
    for key, other in zip(keys, (then, now), strict=True):
        if key is not None and key in shared and _is_unique(read_rows(store, other, columns=[key]).column(0)):
            return key
    return None


def _is_unique(column: pa.ChunkedArray) -> bool:
    return column.null_count == 0 and int(pc.count_distinct(column).as_py()) == len(column)


def _order(store: Store, then: Snapshot, now: Snapshot, key: str) -> Verdict:
    before, after = (read_rows(store, each, columns=[key]).column(0) for each in (then, now))
    is_same = before.equals(after) and [c.name for c in then.columns] == [c.name for c in now.columns]
    return "same rows" if is_same else "same rows, other order"


# -- rows ----------------------------------------------------------------------------------------------


def _changed_rows(then: pa.Table, now: pa.Table, key: str, limit: int) -> Iterator[ChangedRow]:
    before, after, _ = in_pairs(then, now, key)
    differing = {name: differs(before[name], after[name]) for name in after.column_names}
    places = pc.indices_nonzero(any_of(differing.values(), after.num_rows))[:limit]
    one, other = (rows.take(places).to_pylist() for rows in (before, after))
    masks = {name: mask.take(places).to_pylist() for name, mask in differing.items()}
    for row, (old, new) in enumerate(zip(one, other, strict=True)):
        cells = {name: (_plain(old[name]), _plain(new[name])) for name in masks if masks[name][row]}
        yield ChangedRow(_plain(new[key]), cells)


def _keys_apart(rows: pa.Table, others: pa.Table, key: str, limit: int) -> tuple[Any, ...]:
    is_new = pc.invert(pc.is_in(rows[key], value_set=others[key].combine_chunks()))
    return tuple(map(_plain, rows[key].filter(is_new)[:limit].to_pylist()))


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date) and not isinstance(value, datetime) else value


# -- distributions -------------------------------------------------------------------------------------


def _shifts(store: Store, then: Snapshot, now: Snapshot, shared: Sequence[str]) -> Iterator[ColumnShift]:
    keys = {_declared_key(then), _declared_key(now)}
    for name in shared:
        if name not in keys:  # every value of a key is another one
            columns = (read_rows(store, each, columns=[name]).column(0) for each in (then, now))
            yield column_shift(name, *columns)


def column_shift(name: str, then: pa.ChunkedArray, now: pa.ChunkedArray) -> ColumnShift:
    """Count two columns of one type in the bins of the first.

    Examples
    --------
    >>> plans = [pa.chunked_array([["basic", "pro", "pro"]]), pa.chunked_array([["basic", "basic", None]])]
    >>> shift = column_shift("plan", *plans)
    >>> dict(zip(shift.labels, zip(shift.then, shift.now)))
    {'pro': (2, 0), 'basic': (1, 2), 'other': (0, 0), 'missing': (0, 1)}
    >>> round(shift.distance, 3)
    0.667
    """
    if _is_counted_by_value(then.type):
        totals = [_totals(column) for column in (then, now)]
        levels = sorted((level for level in totals[0] if level is not None), key=lambda x: (-totals[0][x], x))
        levels_bins = CategoryBins(tuple(levels[:_N_LEVELS]))
        return _counted(name, levels_bins.labels, [levels_bins.counts_of_totals(each) for each in totals])
    numbers = [_numbers(column) for column in (then, now)]
    bins = numeric_bins(numbers[0])
    counts = [bins.counts(each) for each in numbers]
    if pa.types.is_temporal(then.type):
        return _counted(name, _time_labels(bins, then.type), counts)
    return _counted(name, bins.labels, counts, means=[_mean(each) for each in numbers])


def _counted(
    name: str,
    labels: Sequence[str],
    counts: Sequence[np.ndarray],
    means: Sequence[float | None] = (None, None),
) -> ColumnShift:
    then, now = (tuple(map(int, each)) for each in counts)
    return ColumnShift(name, tuple(labels), then, now, total_variation(then, now), *means)


def _is_counted_by_value(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_boolean(kind))


def _totals(column: pa.ChunkedArray) -> dict[str | None, int]:
    found = pc.value_counts(column.cast(pa.string()))
    return dict(zip(found.field("values").to_pylist(), found.field("counts").to_pylist(), strict=True))


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    """As floats, missing ones as NaN; times as microseconds since 1970, and dates as days."""
    if pa.types.is_temporal(column.type):
        column = column.cast(pa.int32() if pa.types.is_date(column.type) else pa.int64())
    return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(), dtype=np.float64)


def _mean(numbers: np.ndarray) -> float | None:
    known = numbers[np.isfinite(numbers)]
    return float(known.mean()) if len(known) else None


def _time_labels(bins: NumericBins, kind: pa.DataType) -> tuple[str, ...]:
    if not bins.edges:
        return ("any time", bins.labels[-1])
    seconds = 86_400.0 if pa.types.is_date(kind) else 1e-6
    edges = [datetime.fromtimestamp(edge * seconds, UTC) for edge in bins.edges]
    form = "%Y-%m-%d" if edges[-1] - edges[0] > timedelta(days=40) else "%Y-%m-%d %H:%M"
    shown = [f"{edge:{form}}" for edge in edges]
    between = [f"{low} to {high}" for low, high in itertools.pairwise(shown)]
    return (f"before {shown[0]}", *between, f"{shown[-1]} and later", bins.labels[-1])
