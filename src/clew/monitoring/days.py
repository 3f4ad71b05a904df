"""Rows counted once: how many of each event-time day fall into each bin of each column.

Counts add up, so days merge into weeks and a whole history can be binned before a backtest replays it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from clew.monitoring.cohorts import BoolArray, TimeArray, event_days, from_datetime64
from clew.monitoring.distances import FloatArray, IntArray
from clew.stats.bins import Bins, CategoryBins, NumericBins, is_missing

Rows: TypeAlias = pa.Table | Mapping[str, npt.ArrayLike]
"""Columns by name: an Arrow table, or arrays of one length."""


@dataclass(frozen=True, slots=True, eq=False)
class DayRows:
    """What is counted of the rows of some days.

    Attributes
    ----------
    names, widths
        The columns in order, and how many bins each has (the missing values' included).
    days
        Event-time days, ascending, ``datetime64[D]``, shape ``(n_days,)``.
    counts
        Shape ``(n_days, sum of widths)``: the bins of the first column, then those of the next.
    lowest, highest
        Finite numbers of each day, shape ``(n_days, n_columns)``; NaN for categories and
        where there are none.
    n_outside
        Rows whose number lies outside the limits that were given, shape ``(n_days, n_columns)``.
    is_constant
        True where all rows of a day with any value share one value, shape ``(n_days, n_columns)``.
    """

    names: tuple[str, ...]
    widths: tuple[int, ...]
    days: TimeArray
    counts: IntArray
    lowest: FloatArray
    highest: FloatArray
    n_outside: IntArray
    is_constant: BoolArray

    def __len__(self) -> int:
        return len(self.days)

    def starts(self, place: int) -> datetime:
        """The midnight (UTC) of a day by its place."""
        return from_datetime64(self.days[place])

    def column(self, name: str) -> IntArray:
        """Counts of one column, shape ``(n_days, n_bins)``."""
        place = self.names.index(name)
        start = sum(self.widths[:place])
        return self.counts[:, start : start + self.widths[place]]

    def between(self, start: datetime, end: datetime) -> DayRows:
        """The days whose midnight is at or after `start` and before `end`."""
        first, last = np.searchsorted(self.days, [_day(start), _day(end)])
        kept = slice(int(first), int(last))
        return self._with(self.days[kept], lambda array: array[kept])

    def on_every_day(self) -> DayRows:
        """The same with a day of no rows wherever the calendar has one in between."""
        if not len(self):
            return self
        calendar = np.arange(self.days[0], self.days[-1] + 1)
        place = np.searchsorted(calendar, self.days)

        def spread(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
            blank = np.nan if array.dtype.kind == "f" else 0
            every = np.full((len(calendar), array.shape[1]), blank, dtype=array.dtype)
            every[place] = array
            return every

        return self._with(calendar, spread)

    def _with(self, days: TimeArray, change: Any) -> DayRows:
        measured = (self.counts, self.lowest, self.highest, self.n_outside, self.is_constant)
        return DayRows(self.names, self.widths, days, *map(change, measured))


def bin_days(
    bins: Mapping[str, Bins],
    rows: Rows,
    times: TimeArray,
    limits: Mapping[str, tuple[float, float]] | None = None,
) -> DayRows:
    """Count the rows of each event-time day into the bins of each column.

    Parameters
    ----------
    bins
        By column; columns of `rows` that have none are passed over.
    rows
        Columns by name, ``(n,)`` each.
    times
        Event times, UTC, shape ``(n,)``, in any order.
    limits
        By column the lowest and highest number that is still inside.

    Raises
    ------
    ValueError
        If a column is missing or its length differs from that of `times`.

    Examples
    --------
    >>> times = np.array(["2026-03-01T01", "2026-03-01T02", "2026-03-03T00"], dtype="datetime64[us]")
    >>> found = bin_days({"age": NumericBins((30.0,))}, {"age": [20.0, 40.0, None]}, times)
    >>> found.days, found.counts.tolist()
    (array(['2026-03-01', '2026-03-03'], dtype='datetime64[D]'), [[1, 1, 0], [0, 0, 1]])
    """
    _refuse_missing_columns(bins, rows)
    days = event_days(times)
    order = None if (days[1:] >= days[:-1]).all() else np.argsort(days, kind="stable")
    days = days if order is None else days[order]
    first = np.flatnonzero(np.concatenate([[len(days) > 0], days[1:] != days[:-1]]))
    of_day = np.repeat(np.arange(len(first)), np.diff(np.append(first, len(days))))
    grouping = _Grouping(order, first, of_day)
    inside = limits or {}
    counted = [_counted(name, each, rows, grouping, inside.get(name)) for name, each in bins.items()]
    return DayRows(
        names=tuple(bins),
        widths=tuple(each.n_bins + 1 for each in bins.values()),
        days=days[first],
        counts=np.concatenate([each.counts for each in counted], axis=1),
        lowest=np.column_stack([each.lowest for each in counted]),
        highest=np.column_stack([each.highest for each in counted]),
        n_outside=np.column_stack([each.n_outside for each in counted]),
        is_constant=np.column_stack([each.is_constant for each in counted]),
    )


class _Grouping(NamedTuple):
    """Rows in day `order` (None: as they are), the first row of each day, and the day of each row."""

    order: npt.NDArray[np.intp] | None
    first: npt.NDArray[np.intp]
    of_day: npt.NDArray[np.intp]

    def ordered(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return values if self.order is None else values[self.order]


class _Counted(NamedTuple):
    """The part of `DayRows` that one column makes."""

    counts: IntArray
    lowest: FloatArray
    highest: FloatArray
    n_outside: IntArray
    is_constant: BoolArray


def _counted(
    name: str, bins: Bins, rows: Rows, grouping: _Grouping, limits: tuple[float, float] | None
) -> _Counted:
    codes, numbers = _codes(name, bins, rows, len(grouping.of_day))
    width, n_days = bins.n_bins + 1, len(grouping.first)
    places = grouping.of_day * width + grouping.ordered(codes)
    counts = np.bincount(places, minlength=n_days * width).reshape(n_days, width)
    counts = counts.astype(np.int64, copy=False)
    if numbers is None or not n_days:
        unknown = np.full(n_days, np.nan)
        return _Counted(counts, unknown, unknown, np.zeros(n_days, dtype=np.int64), _is_one_level(counts))
    ordered = grouping.ordered(numbers)
    finite = np.where(np.isfinite(ordered), ordered, np.nan)
    lowest, highest = (edge.reduceat(finite, grouping.first) for edge in (np.fmin, np.fmax))
    low, high = limits or (-np.inf, np.inf)
    outside = np.add.reduceat((ordered < low) | (ordered > high), grouping.first, dtype=np.int64)
    return _Counted(counts, lowest, highest, outside, np.asarray(lowest == highest))


def _is_one_level(counts: IntArray) -> BoolArray:
    # Other levels share a bin, so rows there may well differ: they never count as constant.
    n_known = counts[:, :-1].sum(axis=1)
    return np.asarray((n_known > 0) & (counts[:, :-2].max(axis=1, initial=0) == n_known))


def _codes(name: str, bins: Bins, rows: Rows, n: int) -> tuple[npt.NDArray[np.intp], FloatArray | None]:
    values = row_values(rows, name)
    if isinstance(bins, CategoryBins) and isinstance(rows, pa.Table):
        codes, numbers = _arrow_levels(bins, rows.column(name)), None
    elif isinstance(bins, NumericBins):
        codes, numbers = bins.assign(values), np.asarray(values, dtype=np.float64)
    else:
        codes, numbers = bins.assign(values), None
    if len(codes) != n:
        raise ValueError(f"column {name!r} has {len(codes)} rows, but there are {n} times")
    return codes, numbers


def _arrow_levels(bins: CategoryBins, column: pa.ChunkedArray) -> npt.NDArray[np.intp]:
    # Each level is looked up once, not each row.
    encoded = _dictionary(column)
    of_level = np.append(bins.assign(encoded.dictionary.to_pylist()), bins.n_bins).astype(np.intp)
    places = pc.fill_null(encoded.indices.cast(pa.int64()), len(of_level) - 1)
    return np.asarray(of_level[places.to_numpy(zero_copy_only=False)], dtype=np.intp)


def _dictionary(column: pa.ChunkedArray) -> pa.DictionaryArray:
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    whole = encoded.unify_dictionaries().combine_chunks()
    # Arrow gives an array in some versions and a chunked one of a single chunk in others.
    return whole.chunk(0) if isinstance(whole, pa.ChunkedArray) else whole


def column_names(rows: Rows) -> tuple[str, ...]:
    return tuple(rows.column_names if isinstance(rows, pa.Table) else rows)


def row_values(rows: Rows, name: str) -> npt.NDArray[Any]:
    """The column as numpy has it: floats for numbers, booleans and times, objects for text."""
    if not isinstance(rows, pa.Table):
        values = np.asarray(rows[name])
        return values if values.dtype.kind != "O" or is_category(rows, name) else _floats(values)
    column = rows.column(name)
    if is_category(rows, name):
        return np.array(column.to_pylist(), dtype=object)
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        # Microseconds whatever the unit, so that a reference and new rows count the same.
        column = column.cast(pa.timestamp("us", getattr(column.type, "tz", None)), safe=False).cast(
            pa.int64()
        )
    elif pa.types.is_duration(column.type):
        column = column.cast(pa.duration("us"), safe=False).cast(pa.int64())
    return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(), dtype=np.float64)


def is_category(rows: Rows, name: str) -> bool:
    """True for text, booleans and dictionaries: values without an order that means something."""
    if isinstance(rows, pa.Table):
        kind = rows.column(name).type
        return not (
            pa.types.is_integer(kind)
            or pa.types.is_floating(kind)
            or pa.types.is_decimal(kind)
            or pa.types.is_temporal(kind)
        )
    values = np.asarray(rows[name])
    if values.dtype.kind != "O":
        return values.dtype.kind in "USb"
    return any(isinstance(value, (str, bool)) for value in values.tolist() if not is_missing(value))


def _floats(values: npt.NDArray[Any]) -> FloatArray:
    return np.array([np.nan if is_missing(value) else float(value) for value in values.tolist()])


def _refuse_missing_columns(bins: Mapping[str, Bins], rows: Rows) -> None:
    missing = [name for name in bins if name not in column_names(rows)]
    if missing:
        raise ValueError(f"the rows have no columns {missing}; they have {', '.join(column_names(rows))}")


def _day(moment: datetime) -> np.datetime64:
    return np.datetime64(moment.date(), "D")
