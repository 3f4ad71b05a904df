"""Distances of many windows and all columns at once.

The formulas are those of `clew.stats.distances` for one column. A day of a model with 30 columns is 90
comparisons (three merge scales), and hundreds of days make a backtest, so they are made together here; a test
holds the two to each other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class FlatCounts:
    """The counts of all columns in one row.

    Attributes
    ----------
    counts
        Shape ``(n_bins_of_all_columns,)``.
    starts, widths
        Where each column begins and how many bins it has, shape ``(n_columns,)``.
    """

    counts: IntArray
    starts: npt.NDArray[np.intp]
    widths: npt.NDArray[np.intp]

    @classmethod
    def of(cls, columns: Sequence[Sequence[int]]) -> FlatCounts:
        widths = np.array([len(column) for column in columns], dtype=np.intp)
        starts = np.concatenate([[0], widths.cumsum()[:-1]]).astype(np.intp)
        return cls(np.concatenate([np.asarray(column, dtype=np.int64) for column in columns]), starts, widths)

    def column(self, flat: IntArray, place: int) -> IntArray:
        """The bins of one column out of counts in this layout, shape ``(…, n_bins)``."""
        start = self.starts[place]
        return flat[..., start : start + self.widths[place]]


@dataclass(frozen=True, slots=True, eq=False)
class WindowDistances:
    """How far windows lie from a reference; every array has the shape ``(n_windows, n_columns)``.

    Attributes
    ----------
    total_variation, noise
        As measured, and what sampling alone would give; both 0 where a window has no rows.
    n_rows
        Rows of the window.
    """

    total_variation: FloatArray
    noise: FloatArray
    n_rows: IntArray

    @property
    def corrected(self) -> FloatArray:
        """Total variation less its noise, at least 0."""
        return np.maximum(self.total_variation - self.noise, 0.0)


def window_distances(reference: FlatCounts, windows: IntArray) -> WindowDistances:
    """Distance of each column of each window from the reference.

    Parameters
    ----------
    reference
        Counts of the reference.
    windows
        Counts in the same layout, shape ``(n_windows, n_bins_of_all_columns)``.
    """
    starts, widths = reference.starts, reference.widths
    n = np.add.reduceat(reference.counts, starts)
    m = np.add.reduceat(windows, starts, axis=1)
    # Where either side is empty there is nothing to compare; a divisor of 1 leaves zeros, set aside below.
    n_safe, m_safe = np.maximum(n, 1), np.maximum(m, 1)
    p = reference.counts / np.repeat(n_safe, widths)
    q = windows / np.repeat(m_safe, widths, axis=1)
    r = (reference.counts + windows) / np.repeat(n_safe + m_safe, widths, axis=1)
    deviation = np.sqrt(np.maximum(r * (1 - r), 0) * np.repeat(1 / n_safe + 1 / m_safe, widths, axis=1))
    noise = np.minimum(math.sqrt(2 / math.pi) * deviation, 2 * r)
    is_known = (n > 0) & (m > 0)
    return WindowDistances(
        total_variation=np.where(is_known, np.add.reduceat(np.abs(p - q), starts, axis=1) / 2, 0.0),
        noise=np.where(is_known, np.add.reduceat(noise, starts, axis=1) / 2, 0.0),
        n_rows=m,
    )


def merged_neighbours(reference: IntArray, window: IntArray, least: float) -> tuple[IntArray, IntArray]:
    """Both counts with neighbouring bins merged until each is expected to hold `least` rows of the window.

    The expectation is that of both samples together, so the choice cannot favour a difference. What is left
    over at the end joins the last bin.

    Examples
    --------
    >>> before, now = merged_neighbours(np.array([50, 50, 50, 50, 0]), np.array([6, 4, 3, 7, 0]), least=10)
    >>> before.tolist(), now.tolist()
    ([100, 100], [10, 10])
    """
    expected = (reference + window) * (window.sum() / max(reference.sum() + window.sum(), 1))
    starts, held, n_left = [0], 0.0, float(expected.sum())
    for place, rows in enumerate(expected.tolist()):
        if held >= least and n_left >= least:
            starts.append(place)
            held = 0.0
        held += rows
        n_left -= rows
    return np.add.reduceat(reference, starts), np.add.reduceat(window, starts)
