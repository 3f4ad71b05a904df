"""What a version was trained and judged on, column by column, in the shape that drift and contract need.

A reference is bins with counts, so that any day of new rows is a short vector of counts too. It also
remembers how far its own days, weeks and months strayed from the whole: real columns have weekends, seasons
and weather, and a window is news only when it strays further than those the model was trained through.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from clew.entities import Json
from clew.monitoring.cohorts import TimeArray
from clew.monitoring.days import DayRows, Rows, bin_days, column_names, is_category, row_values
from clew.monitoring.distances import FlatCounts, FloatArray, window_distances
from clew.stats import bins_from_dict, category_bins, numeric_bins
from clew.stats.bins import Bins, CategoryBins
from clew.stats.special import normal_quantile

MERGE_DAYS = (1, 7, 28)
"""Days that are merged before they are compared: a fault shows in one, a slow drift only in many."""

RANGE_ROOM = 0.5
"""Of the reference's range: how far beyond it numbers are still inside. Any half year sets records."""

SMALLEST_DAY = 10
"""A reference day with fewer rows says nothing about what is usual: one row alone is always constant."""


RARE_WINDOW = 1e-6
"""What is left of a budget for one column and window: a usual window is exceeded no more often."""


@dataclass(frozen=True, slots=True)
class ColumnReference:
    """One column of the reference: a feature, a score, or the label.

    Attributes
    ----------
    name, bins, counts
        The column, its bins and the reference's rows in each of them (the missing ones last).
    importance
        How much the model leans on the column, on any scale, at least 0; it ranks what has drifted.
    lowest, highest
        Range of the finite numbers; None for categories, and where unknown.
    farthest_distance
        For each of `MERGE_DAYS` the largest noise-corrected total variation between such a window of the
        reference and the whole of it. 0 where nothing is known of its days.
    usual_distance
        For each of `MERGE_DAYS` how far, in noise-corrected total variation, such a window may lie from the
        whole reference and still be as usual as the reference's own. 0 where nothing is known of its days.
    usual_missing, usual_unseen
        The largest share of missing values, and of values outside the named levels, on any of its days.
    has_constant_days
        True when the column stands still on some days of the reference, as a holiday flag does.
    """

    name: str
    bins: Bins
    counts: tuple[int, ...]
    importance: float = 1.0
    lowest: float | None = None
    highest: float | None = None
    farthest_distance: tuple[float, ...] = (0.0,) * len(MERGE_DAYS)
    usual_distance: tuple[float, ...] = (0.0,) * len(MERGE_DAYS)
    usual_missing: float = 0.0
    usual_unseen: float = 0.0
    has_constant_days: bool = False

    def __post_init__(self) -> None:
        if len(self.counts) != self.bins.n_bins + 1:
            raise ValueError(
                f"column {self.name!r} has {len(self.counts)} counts, but {self.bins.n_bins} bins and one for"
                " missing values"
            )
        if len(self.usual_distance) != len(MERGE_DAYS):
            raise ValueError(
                f"column {self.name!r}: usual_distance needs one number for each of {MERGE_DAYS}"
            )

    @property
    def n_rows(self) -> int:
        return sum(self.counts)

    @property
    def n_values(self) -> int:
        """Rows that are not missing."""
        return sum(self.counts[:-1])

    @property
    def is_category(self) -> bool:
        return isinstance(self.bins, CategoryBins)

    def to_dict(self) -> Json:
        """Plain values for JSON."""
        plain = {name: getattr(self, name) for name in self.__slots__}
        return plain | {
            "bins": self.bins.to_dict(),
            "counts": list(self.counts),
            "farthest_distance": list(self.farthest_distance),
            "usual_distance": list(self.usual_distance),
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> ColumnReference:
        """The column that `to_dict` wrote. Only ``name``, ``bins`` and ``counts`` must be there; unknown keys
        are passed over."""
        known = {name: stored[name] for name in cls.__slots__ if name in stored}
        for name in known.keys() & {"farthest_distance", "usual_distance"}:
            known[name] = tuple(float(distance) for distance in known[name])
        counts = tuple(int(count) for count in stored["counts"])
        return cls(**(known | {"bins": bins_from_dict(stored["bins"]), "counts": counts}))


@dataclass(frozen=True)
class Reference:
    """The columns that new rows are compared with.

    Examples
    --------
    >>> age = ColumnReference("age", numeric_bins([20, 30, 40, 50], n_bins=2), (2, 2, 0))
    >>> Reference.from_dict(Reference((age,)).to_dict()) == Reference((age,))
    True
    """

    columns: tuple[ColumnReference, ...]

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"the reference has the columns {names}; at least one is needed, each once")

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    def bin_days(self, rows: Rows, times: TimeArray) -> DayRows:
        """New rows counted by event-time day, in the bins and limits of this reference.

        A whole history can be counted at once and then replayed day by day (`DayRows.between`).
        """
        bins = {column.name: column.bins for column in self.columns}
        limits = {
            column.name: _widened(column.lowest, column.highest)
            for column in self.columns
            if column.lowest is not None and column.highest is not None
        }
        return bin_days(bins, rows, times, limits)

    @cached_property
    def flat(self) -> FlatCounts:
        """All counts in one row, column after column."""
        return FlatCounts.of([column.counts for column in self.columns])

    def counts_of(self, counts: Mapping[str, npt.ArrayLike]) -> npt.NDArray[np.int64]:
        """Counts by column, in one row as `DriftMonitor.observe` wants them.

        A column that is not given has no rows: it is not judged.
        """
        unknown = counts.keys() - set(self.names)
        if unknown:
            raise ValueError(
                f"the reference has no columns {sorted(unknown)}; it has {', '.join(self.names)}"
            )
        blank = {column.name: np.zeros(len(column.counts), dtype=np.int64) for column in self.columns}
        given = {name: np.asarray(values, dtype=np.int64) for name, values in counts.items()}
        for name, values in given.items():
            if values.shape != blank[name].shape:
                raise ValueError(
                    f"column {name!r} has counts of shape {values.shape}, not {blank[name].shape}"
                )
        return np.concatenate(list((blank | given).values()))

    def with_importance(self, importance: Mapping[str, float]) -> Reference:
        """The same reference with these importances; a column that is not named has none."""
        return Reference(
            tuple(replace(column, importance=importance.get(column.name, 0.0)) for column in self.columns)
        )

    def to_dict(self) -> Json:
        """Plain values for JSON."""
        return {"columns": [column.to_dict() for column in self.columns]}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Reference:
        """The reference that `to_dict` wrote."""
        return cls(tuple(ColumnReference.from_dict(column) for column in stored["columns"]))

    @classmethod
    def from_profile(cls, profile: Mapping[str, Any]) -> Reference:
        """The columns and scores of a stored reference profile.

        A profile holds counts of all its rows together, so nothing is known of its single days: every window
        is compared with the whole. `reference_of` knows more.
        """
        importance = profile.get("importance")
        columns = Reference(
            tuple(
                ColumnReference.from_dict({**stored, "name": name})
                for name, stored in profile["columns"].items()
            )
        )
        weighed = columns if importance is None else columns.with_importance(importance)
        scores = (
            ColumnReference.from_dict({**stored, "name": score_name(stored["of"])})
            for stored in profile.get("scores", ())
        )
        return cls((*weighed.columns, *scores))


def _widened(lowest: float, highest: float) -> tuple[float, float]:
    """Limits that a new record stays within and a changed unit, or a code such as -999, does not."""
    room = RANGE_ROOM * (highest - lowest)
    return lowest - room, highest + room


def score_name(of: object) -> str:
    """The name of the column that holds the model's score of a class, or its predicted number.

    Examples
    --------
    >>> score_name("approve"), score_name(None)
    ('score of approve', 'predicted number')
    """
    return "predicted number" if of is None else f"score of {of}"


def reference_of(rows: Rows, times: TimeArray, importance: Mapping[str, float] | None = None) -> Reference:
    """The reference that these rows make, with what is usual for their days.

    Parameters
    ----------
    rows
        Columns by name: an Arrow table, or arrays. Text, booleans and dictionaries are categories, the
        20 most frequent of which get a bin; everything else is a number and gets 16 bins by quantiles.
    times
        Event times, UTC, shape ``(n,)``.
    importance
        By column; without it all count alike.

    Examples
    --------
    >>> rows = {"age": np.array([20.0, 30, 40, 50]), "plan": np.array(["a", "b", "a", "a"], dtype=object)}
    >>> found = reference_of(rows, np.array(["2026-03-01"] * 4, dtype="datetime64[us]"))
    >>> [(column.name, column.counts) for column in found.columns]
    [('age', (1, 1, 1, 1, 0)), ('plan', (3, 1, 0, 0))]
    """
    bins = {name: _bins_for(rows, name) for name in column_names(rows)}
    days = bin_days(bins, rows, times)
    plain = Reference(tuple(_column(days, name, bins[name]) for name in bins))
    farthest, ordinary = _window_distances_of(plain, days)
    usual = Reference(
        tuple(
            replace(column, farthest_distance=tuple(far.tolist()), usual_distance=tuple(near.tolist()))
            for column, far, near in zip(plain.columns, farthest, ordinary, strict=True)
        )
    )
    return usual if importance is None else usual.with_importance(importance)


def _bins_for(rows: Rows, name: str) -> Bins:
    values = row_values(rows, name)
    return category_bins(values) if is_category(rows, name) else numeric_bins(values)


def _column(days: DayRows, name: str, bins: Bins) -> ColumnReference:
    place = days.names.index(name)
    counts = days.column(name)
    full = counts[counts.sum(axis=1) >= SMALLEST_DAY]
    n_full = np.maximum(full.sum(axis=1), 1)
    shares = full / n_full[:, None]
    lowest, highest = days.lowest[:, place], days.highest[:, place]
    known = np.isfinite(lowest).any()
    return ColumnReference(
        name=name,
        bins=bins,
        counts=tuple(counts.sum(axis=0).tolist()),
        lowest=float(np.nanmin(lowest)) if known else None,
        highest=float(np.nanmax(highest)) if known else None,
        usual_missing=float(shares[:, -1].max(initial=0.0)),
        usual_unseen=float(shares[:, -2].max(initial=0.0)) if isinstance(bins, CategoryBins) else 0.0,
        has_constant_days=bool(days.is_constant[counts.sum(axis=1) >= SMALLEST_DAY, place].any()),
    )


def _window_distances_of(reference: Reference, days: DayRows) -> tuple[FloatArray, FloatArray]:
    """How far its windows lie, and how far windows may lie and still be usual: ``(n_columns, n_scales)``."""
    calendar = days.on_every_day().counts
    # A first row of zeros, so that the sum of days i to j is a difference of two rows.
    running = np.concatenate([np.zeros((1, calendar.shape[1]), dtype=np.int64), calendar.cumsum(axis=0)])
    farthest, usual = np.zeros((2, len(reference.columns), len(MERGE_DAYS)))
    for scale, n_days in enumerate(MERGE_DAYS):
        n_windows = len(calendar) / n_days
        if n_windows >= 2:
            distances = window_distances(reference.flat, running[n_days:] - running[:-n_days])
            farthest[:, scale] = distances.corrected.max(axis=0)
            usual[:, scale] = np.minimum(farthest[:, scale] * _stretch(n_windows), 1.0)
        elif scale:
            # Shorter windows stray further than longer ones, so theirs err towards silence.
            farthest[:, scale], usual[:, scale] = farthest[:, scale - 1], usual[:, scale - 1]
    return farthest, usual


def _stretch(n_windows: float) -> float:
    """By how much rarer windows exceed the farthest of `n_windows`, as if their level were normal.

    The farthest of k lies near the ``1 - 1/(k + 1)`` quantile of the absolute level, but a budget asks for
    what chance exceeds in one window of a million. The root is for the reference's mean, which contains its
    own windows and not the new ones.
    """
    rare = normal_quantile(1 - RARE_WINDOW / 2)
    farthest = normal_quantile(1 - 0.5 / (n_windows + 1))
    return rare / farthest * math.sqrt((n_windows + 1) / (n_windows - 1))
