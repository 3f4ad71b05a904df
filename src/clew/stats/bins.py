"""Bins fixed by a reference, so that any later window is a short vector of counts.

Counts of two windows add up to the counts of both, so days merge into weeks without reading a row again.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from clew.stats.arrays import FloatArray, IntArray

MISSING, OTHER = "missing", "other"

_SORTED_ROWS = 16_384


@dataclass(frozen=True, slots=True)
class NumericBins:
    """Half-open bins ``[edge, next edge)`` between minus and plus infinity, and a last one for missing
    values.

    Attributes
    ----------
    edges
        Strictly increasing and finite. None of them: all numbers share one bin.
    """

    edges: tuple[float, ...]

    def __post_init__(self) -> None:
        if not np.isfinite(self.edges).all() or (np.diff(self.edges) <= 0).any():
            raise ValueError(f"edges are {self.edges}; they must be finite and strictly increasing")

    @property
    def n_bins(self) -> int:
        """Bins of numbers, without the one for missing values."""
        return len(self.edges) + 1

    @property
    def labels(self) -> tuple[str, ...]:
        """A name for each count, such as ``1 to 2.5`` and, last, ``missing``."""
        if not self.edges:
            return ("any number", MISSING)
        shown = [f"{edge:.6g}" for edge in self.edges]
        between = [f"{low} to {high}" for low, high in itertools.pairwise(shown)]
        return (f"below {shown[0]}", *between, f"{shown[-1]} and above", MISSING)

    def assign(self, values: npt.ArrayLike) -> npt.NDArray[np.intp]:
        """The bin of each value, shape ``(n,)``: 0 to ``n_bins - 1``, and `n_bins` for None and NaN.

        Minus and plus infinity fall into the first and last bin of numbers.
        """
        # numpy sorts NaN behind infinity, so a NaN behind the edges gives missing values a bin of their own
        # without a second pass over the rows.
        return np.searchsorted(np.array([*self.edges, np.nan]), _numbers(values), side="right")

    def counts(self, values: npt.ArrayLike) -> IntArray:
        """How many values fall into each bin, shape ``(n_bins + 1,)``, the missing ones last."""
        numbers = _numbers(values).ravel()
        # Sorting a block that fits the cache and looking up the few edges in it is several times faster than
        # looking up each value among the edges. NaN sorts last, so it is an edge like the others.
        edges, below = np.array([*self.edges, np.nan]), np.zeros(self.n_bins, dtype=np.int64)
        for first in range(0, len(numbers), _SORTED_ROWS):
            below += np.searchsorted(np.sort(numbers[first : first + _SORTED_ROWS]), edges, side="left")
        return np.diff(below, prepend=0, append=len(numbers))

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON keeps exactly."""
        return {"kind": "numeric", "edges": list(self.edges)}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> NumericBins:
        """The bins that `to_dict` wrote."""
        return cls(tuple(float(edge) for edge in stored["edges"]))


@dataclass(frozen=True, slots=True)
class CategoryBins:
    """One bin for each frequent level of the reference, one for all other levels, one for missing values.

    Attributes
    ----------
    levels
        Names as text, the most frequent first. Other kinds of value are compared by their text, a whole
        number by its digits whatever its type, so ``1``, ``1.0`` and ``True`` are one level.
    """

    levels: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(set(self.levels)) < len(self.levels):
            raise ValueError(f"levels are {self.levels}; each may stand there once")

    @property
    def n_bins(self) -> int:
        """Bins of levels, the one for other levels included, without the one for missing values."""
        return len(self.levels) + 1

    @property
    def labels(self) -> tuple[str, ...]:
        """A name for each count: the levels, ``other`` and ``missing``."""
        return (*self.levels, OTHER, MISSING)

    def assign(self, values: npt.ArrayLike) -> npt.NDArray[np.intp]:
        """The bin of each value, shape ``(n,)``: its level's, the one for others, or the last for missing."""
        items = _items(values)
        place = self._places(dict.fromkeys(items))
        return np.fromiter((place[item] for item in items), dtype=np.intp, count=len(items))

    def counts(self, values: npt.ArrayLike) -> IntArray:
        """How many values fall into each bin, shape ``(n_bins + 1,)``, the missing ones last."""
        return self.counts_of_totals(Counter(_items(values)))

    def counts_of_totals(self, totals: Mapping[Any, int]) -> IntArray:
        """The same from totals by value, such as a database's ``GROUP BY`` returns them."""
        counts = np.zeros(self.n_bins + 1, dtype=np.int64)
        place = self._places(totals)
        for value, total in totals.items():
            counts[place[value]] += total
        return counts

    def _places(self, distinct: Mapping[Any, Any]) -> dict[Any, int]:
        known = {level: i for i, level in enumerate(self.levels)}
        other = len(known)
        return {v: other + 1 if is_missing(v) else known.get(level_name(v), other) for v in distinct}

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON keeps exactly."""
        return {"kind": "category", "levels": list(self.levels)}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> CategoryBins:
        """The bins that `to_dict` wrote."""
        return cls(tuple(str(level) for level in stored["levels"]))


Bins = NumericBins | CategoryBins


def numeric_bins(values: npt.ArrayLike, n_bins: int = 16) -> NumericBins:
    """Bins that hold about equally many of these values.

    Parameters
    ----------
    values
        The reference, shape ``(n,)``: numbers, NaN or None. Missing and infinite ones place no edge; without
        any finite value all numbers share one bin.
    n_bins
        At least 1. Values that repeat collapse edges, so a column with two levels gets a bin for each
        (and one for numbers below both, which stays empty until something new arrives).

    Examples
    --------
    >>> bins = numeric_bins(np.arange(100.0), n_bins=4)
    >>> bins.edges
    (25.0, 50.0, 75.0)
    >>> bins.counts([10, 30, 30, np.inf, np.nan])
    array([1, 2, 0, 1, 1])
    """
    if n_bins < 1:
        raise ValueError(f"n_bins is {n_bins}; at least 1 is needed")
    numbers = _numbers(values)
    finite = numbers[np.isfinite(numbers)]
    if not len(finite) or n_bins == 1:
        return NumericBins(())
    # Edges are values that occur: an average of two neighbours would be no level of a column of whole
    # numbers.
    cuts = np.quantile(finite, np.arange(1, n_bins) / n_bins, method="higher")
    return NumericBins(tuple(np.unique(cuts).tolist()))


def category_bins(values: npt.ArrayLike, n_top: int = 20) -> CategoryBins:
    """Bins for the `n_top` most frequent levels of these values.

    Parameters
    ----------
    values
        The reference, shape ``(n,)``: text or anything hashable; None and NaN are missing.
    n_top
        At least 1. Levels that are equally frequent are taken in the order of their names.

    Examples
    --------
    >>> bins = category_bins(np.array(["a", "b", "a", None, "c"], dtype=object), n_top=2)
    >>> dict(zip(bins.labels, bins.counts(["a", "c", "zebra"]).tolist()))
    {'a': 1, 'b': 0, 'other': 2, 'missing': 0}
    """
    if n_top < 1:
        raise ValueError(f"n_top is {n_top}; at least 1 is needed")
    totals: Counter[str] = Counter()
    for value, total in Counter(_items(values)).items():
        if not is_missing(value):
            totals[level_name(value)] += total
    return CategoryBins(tuple(sorted(totals, key=lambda level: (-totals[level], level))[:n_top]))


def bins_from_dict(stored: Mapping[str, Any]) -> Bins:
    """The bins, of either kind, that `to_dict` wrote.

    Examples
    --------
    >>> bins_from_dict({"kind": "category", "levels": ["a", "b"]}).labels
    ('a', 'b', 'other', 'missing')
    """
    kinds: dict[str, type[NumericBins] | type[CategoryBins]] = {
        "numeric": NumericBins,
        "category": CategoryBins,
    }
    if stored.get("kind") not in kinds:
        raise ValueError(f"stored bins are of kind {stored.get('kind')!r}; known are {', '.join(kinds)}")
    return kinds[stored["kind"]].from_dict(stored)


def is_missing(value: object) -> bool:
    """True for None and for what does not equal itself: NaN, NaT, and NA, whose comparison has no answer."""
    same: Any = value == value
    return value is None or not (isinstance(same, (bool, np.bool_)) and bool(same))


def level_name(value: object) -> str:
    """The text under which a value is counted as a level.

    Examples
    --------
    >>> level_name("a"), level_name(1.0), level_name(True), level_name(0.5)
    ('a', '1', '1', '0.5')
    """
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return str(int(value))
    return str(value)


def _items(values: npt.ArrayLike) -> list[Any]:
    # A list is not made an array first: numpy would turn the NaN beside a text into the text "nan".
    return list(values) if isinstance(values, (list, tuple)) else np.asarray(values).tolist()


def _numbers(values: npt.ArrayLike) -> FloatArray:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        # Slow, but it reads the NA of other libraries and can name the row at fault.
        return np.array([_number(i, value) for i, value in enumerate(_items(values))], dtype=np.float64)


def _number(row: int, value: Any) -> float:
    try:
        return float("nan") if is_missing(value) else float(value)
    except (TypeError, ValueError):
        raise ValueError(f"values: row {row} is {value!r}, which is no number") from None
