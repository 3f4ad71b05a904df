"""The labelled rows of a snapshot in event order, as life would have shown them.

A backtest may only ask two questions of the future: how many rows had *arrived* at a moment, and of how
many the label had *matured*. Rows without a label never mature, so they are not counted here; rows are
named by their ordinal among the labelled ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clew.entities import Duration, ModelDeclaration, RowRange
from clew.errors import DataError, did_you_mean

Times = np.ndarray
"""Moments as numpy ``datetime64[us]`` in UTC, shape ``(n,)``."""


def as_moment(time: np.datetime64) -> datetime:
    """An aware UTC datetime."""
    moment: datetime = time.astype("datetime64[us]").item()
    return moment.replace(tzinfo=UTC)


def as_time(moment: datetime) -> np.datetime64:
    """The numpy time of an aware datetime."""
    return np.datetime64(moment.astimezone(UTC).replace(tzinfo=None), "us")


@dataclass(frozen=True, slots=True)
class History:
    """Labelled rows in event order.

    Attributes
    ----------
    table
        All rows of the snapshot, ordered by time and key, labelled or not.
    rows
        Positions of the labelled rows in `table`, shape ``(n,)``.
    times, matured_at
        Event time of each labelled row, and when its label was complete.
    y
        The labels, shape ``(n,)``.
    features
        Names of the columns a model gets.
    """

    declaration: ModelDeclaration
    table: pa.Table
    rows: np.ndarray
    times: Times
    matured_at: Times
    y: np.ndarray
    features: tuple[str, ...]

    @classmethod
    def of(cls, declaration: ModelDeclaration, table: pa.Table, features: tuple[str, ...]) -> History:
        """Index the labelled rows of a snapshot's table.

        Raises
        ------
        DataError
            When no row has a label, or a slice is no column.
        """
        dataset = declaration.dataset
        _require_slices(declaration, table.column_names)
        labels = table.column(dataset.label)
        rows = np.flatnonzero(pc.is_valid(labels).to_numpy())
        if not len(rows):
            raise DataError(
                f"No row of {dataset.name!r} has a label in column {dataset.label!r}; a model needs some.",
                column=dataset.label,
            )
        times = table.column(dataset.time).to_numpy().astype("datetime64[us]")[rows]
        return cls(
            declaration,
            table,
            rows,
            times,
            matured_times(times, dataset.label_delay),
            column_values(labels.take(pa.array(rows))),
            features,
        )

    def __len__(self) -> int:
        return len(self.rows)

    def arrived(self, now: datetime) -> int:
        """How many labelled rows have an event time before `now`."""
        return int(np.searchsorted(self.times, as_time(now), side="left"))

    def matured(self, now: datetime) -> int:
        """How many labels are complete at `now`."""
        return int(np.searchsorted(self.matured_at, as_time(now), side="right"))

    def time_of(self, row: int) -> datetime:
        return as_moment(self.times[min(max(row, 0), len(self) - 1)])

    def labels_between(self, start: datetime, end: datetime) -> tuple[np.ndarray, int]:
        """The labels of rows in a window of event time, and how many rows it has, labelled or not."""
        times = self.table.column(self.declaration.dataset.time).to_numpy().astype("datetime64[us]")
        low, high = np.searchsorted(times, [as_time(start), as_time(end)])
        return self.y[self.arrived(start) : self.arrived(end)], int(high - low)

    def ranges(self, pieces: Sequence[tuple[int, int]]) -> tuple[RowRange, ...]:
        """Positions in the snapshot of runs of labelled rows; the unlabelled between them come along."""
        return tuple(RowRange(int(self.rows[a]), int(self.rows[b - 1]) + 1) for a, b in pieces if b > a)

    def column(self, name: str, start: int, end: int) -> np.ndarray:
        """A column's values on labelled rows ``start`` to ``end``: floats for numbers, else objects."""
        return column_values(self.table.column(name).take(pa.array(self.rows[start:end])))

    def routing_keys(self, start: int, end: int) -> list[Any]:
        """What requests of rows ``start`` to ``end`` are routed by: the entity, or else the key."""
        dataset = self.declaration.dataset
        values: list[Any] = self.column(dataset.entity or dataset.key, start, end).tolist()
        return values

    def feature_columns(self, pieces: Sequence[tuple[int, int]]) -> list[np.ndarray]:
        """Features of runs of labelled rows: numbers as floats (missing as NaN), categories as strings."""
        positions = np.concatenate([self.rows[a:b] for a, b in pieces]) if pieces else np.empty(0, np.int64)
        return [_design_column(self.table.column(name).take(pa.array(positions))) for name in self.features]


def matured_times(times: Times, delay: Duration) -> Times:
    """When labels of rows at ascending `times` are complete, ascending too.

    Months differ in length: a month after the evening of 30 January is the evening of 28 February, a month
    after the next morning is that morning. There a row waits for those before it, so that what has matured
    is always a beginning of the rows.

    Examples
    --------
    >>> times = np.array(["2026-01-30T23:00", "2026-01-31T01:00"], dtype="datetime64[us]")
    >>> [str(end)[:16] for end in matured_times(times, Duration.parse("1mo"))]
    ['2026-02-28T23:00', '2026-02-28T23:00']
    """
    if not delay.months:
        return times + np.timedelta64(delay.exact)
    ends = np.array([as_time(delay.after(as_moment(time))) for time in times], dtype="datetime64[us]")
    latest: Times = np.maximum.accumulate(ends)
    return latest


def column_values(column: pa.ChunkedArray) -> np.ndarray:
    """Values of a column without nulls in their own type: numbers and booleans as such, else objects."""
    values: np.ndarray = column.to_numpy()
    return values


def _design_column(column: pa.ChunkedArray) -> np.ndarray:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if (
        pa.types.is_boolean(column.type)
        or pa.types.is_integer(column.type)
        or pa.types.is_floating(column.type)
    ):
        # Unsafe, since a linear model does not mind that an id beyond 2**53 is rounded.
        floats: np.ndarray = column.cast(pa.float64(), safe=False).fill_null(float("nan")).to_numpy()
        return floats
    if pa.types.is_temporal(column.type):
        return _design_column(column.cast(pa.timestamp("us")).cast(pa.int64()))
    words: np.ndarray = column.cast(pa.string()).fill_null("").to_numpy()
    return words.astype(object)


def _require_slices(declaration: ModelDeclaration, columns: Sequence[str]) -> None:
    """Before anything is fitted: the gate is the last to look at slices."""
    stated, dataset = list(declaration.slices), declaration.dataset.name
    for name in stated:
        if name not in columns:
            raise DataError(
                f"{declaration.name} declares slices={stated}, but {dataset} has no column {name!r}."
                f" {did_you_mean(name, columns)}",
                column=name,
            )
