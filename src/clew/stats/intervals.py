"""Intervals: how far a measured share or mean may lie from the truth."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from clew.stats.arrays import FloatArray, IntArray, finite_rows, open_fraction
from clew.stats.special import normal_quantile

__all__ = ["MeanInterval", "bootstrap_interval", "mean_interval", "normal_quantile", "wilson_interval"]

BOOTSTRAP_LARGEST_N = 5000
"""Above it the central limit theorem has done its work, and resampling would only take time."""

_CHUNK_DRAWS = 2_000_000  # rows drawn at a time: 32 MB


@dataclass(frozen=True, slots=True)
class MeanInterval:
    """A mean and the interval its true value lies in with the stated confidence.

    Attributes
    ----------
    mean
        NaN when there are no rows.
    lower, upper
        Infinite where the rows say nothing.
    n
        Rows.
    confidence
        Of both limits together.
    method
        ``wilson`` when every loss is 0 or 1, ``bootstrap`` up to 5,000 rows, ``normal`` above, ``none``
        when there are too few rows for any.
    """

    mean: float
    lower: float
    upper: float
    n: int
    confidence: float
    method: Literal["wilson", "bootstrap", "normal", "none"]


def wilson_interval(
    n_correct: npt.ArrayLike, n_total: npt.ArrayLike, confidence: float = 0.95
) -> tuple[FloatArray, FloatArray]:
    """Interval for a share, such as the accuracy in each time window.

    It stays inside 0 to 1 and keeps a width when every answer of a small window is right, where the normal
    approximation would claim certainty.

    Parameters
    ----------
    n_correct, n_total
        Counts, of the same shape ``(n_windows,)``.
    confidence
        Coverage, 0 to 1 exclusive. Higher gives wider intervals, so fewer false alarms and later detection.

    Returns
    -------
    lower, upper
        Fractions, shape ``(n_windows,)``. A window without rows gives 0 and 1: nothing is known.

    Raises
    ------
    ValueError
        If a count is negative or a window has more correct answers than answers.

    References
    ----------
    Wilson (1927), Probable inference, the law of succession, and statistical inference, JASA 22(158),
    209-212.

    Examples
    --------
    >>> lower, upper = wilson_interval([81, 0], [263, 0])
    >>> f"{lower[0]:.4f} {upper[0]:.4f}, {lower[1]:.0f} {upper[1]:.0f}"
    '0.2553 0.3662, 0 1'
    """
    k = np.atleast_1d(np.asarray(n_correct, dtype=np.float64))
    n = np.atleast_1d(np.asarray(n_total, dtype=np.float64))
    wrong = ~((k >= 0) & (k <= n))
    if wrong.any():
        i = int(np.argmax(wrong))
        raise ValueError(f"window {i} has {k[i]:g} correct answers of {n[i]:g}")
    z2 = normal_quantile((1 + open_fraction("confidence", confidence)) / 2) ** 2
    # The limits solve (share - p)² = z² p (1 - p) / n for p. With both sides times n² an empty window
    # divides by z², not by zero.
    middle, weight = k + z2 / 2, n + z2
    reach = np.sqrt(z2 * (k * (n - k) / np.maximum(n, 1) + z2 / 4))
    # Rounding may leave a hair between a limit and a share of exactly 0 or 1.
    lower = np.where(k == 0, 0.0, (middle - reach) / weight)
    upper = np.where(k == n, 1.0, (middle + reach) / weight)
    return lower, upper


def bootstrap_interval(
    values: npt.ArrayLike,
    statistic: Literal["mean", "median"] = "mean",
    confidence: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Interval for the mean or median of rows of any distribution, by resampling them.

    For the mean the percentiles are corrected for bias and skew (BCa); for the median, whose skew the
    jackknife cannot measure, they are taken as they are.

    Parameters
    ----------
    values
        Rows, shape ``(n,)``, independent of each other. None or one of them: the interval is unbounded.
        All alike: it shrinks to that value, since rows that never vary tell nothing about others.
    n_resamples
        More give steadier limits; the time grows with ``n_resamples * n``, the memory does not.
    seed
        The same seed gives the same limits.

    References
    ----------
    Efron (1987), Better bootstrap confidence intervals, JASA 82(397), 171-185.

    Examples
    --------
    >>> rows = np.random.default_rng(0).exponential(size=400)
    >>> lower, upper = bootstrap_interval(rows)
    >>> bool(lower < rows.mean() < upper)
    True
    """
    rows = finite_rows("values", values)
    open_fraction("confidence", confidence)
    if statistic not in ("mean", "median"):
        raise ValueError(f"statistic is {statistic!r}; it is 'mean' or 'median'")
    if n_resamples < 1:
        raise ValueError(f"n_resamples is {n_resamples}; at least 1 is needed")
    if len(rows) < 2:
        return -math.inf, math.inf
    resampled = _resampled(rows, statistic, n_resamples, seed)
    tails = np.array([(1 - confidence) / 2, (1 + confidence) / 2])
    if statistic == "mean":
        tails = _corrected_for_bias_and_skew(tails, rows, resampled)
    lower, upper = np.quantile(resampled, tails)
    return float(lower), float(upper)


def _resampled(rows: FloatArray, statistic: str, n_resamples: int, seed: int) -> FloatArray:
    rng = np.random.default_rng(seed)
    n_at_once = max(1, _CHUNK_DRAWS // len(rows))
    parts = []
    for first in range(0, n_resamples, n_at_once):
        shape = (min(n_at_once, n_resamples - first), len(rows))
        drawn = rows[rng.integers(len(rows), size=shape, dtype=np.int64)]
        parts.append(drawn.mean(axis=1) if statistic == "mean" else np.median(drawn, axis=1))
    return np.concatenate(parts)


def _corrected_for_bias_and_skew(tails: FloatArray, rows: FloatArray, resampled: FloatArray) -> FloatArray:
    mean, n = rows.mean(), len(resampled)
    deviation = rows - mean
    largest = float(np.abs(deviation).max())
    if largest == 0:
        return tails
    deviation /= largest  # skew has no unit; squares of tiny losses would vanish
    spread = float((deviation**2).sum())
    acceleration = float((deviation**3).sum()) / (6 * spread**1.5)
    below = float((resampled < mean).sum() + (resampled == mean).sum() / 2)
    bias = normal_quantile(min(max(below / n, 0.5 / n), 1 - 0.5 / n))
    shifted = [bias + normal_quantile(float(tail)) for tail in tails]
    return np.array([_normal_share(bias + z / max(1 - acceleration * z, 1e-9)) for z in shifted])


def _normal_share(z: float) -> float:
    return math.erfc(-z / math.sqrt(2)) / 2


def mean_interval(losses: npt.ArrayLike, confidence: float = 0.95, seed: int = 0) -> MeanInterval:
    """Interval for the mean row loss, by the method that suits the rows, which it names.

    Parameters
    ----------
    losses
        Row losses, shape ``(n,)``.
    confidence
        Coverage, 0 to 1 exclusive.
    seed
        For the bootstrap; the same seed gives the same limits.

    Examples
    --------
    >>> found = mean_interval([0, 0, 1, 0, 0, 0, 0, 0])
    >>> f"{found.mean:.3f} in {found.lower:.3f} to {found.upper:.3f}, {found.method}"
    '0.125 in 0.022 to 0.471, wilson'
    """
    rows = finite_rows("losses", losses)
    n = len(rows)
    open_fraction("confidence", confidence)
    if not n:
        return MeanInterval(math.nan, -math.inf, math.inf, 0, confidence, "none")
    mean = float(rows.mean())
    if _are_all_zero_or_one(rows):
        lower, upper = wilson_interval(np.array([rows.sum()]), np.array([n]), confidence)
        return MeanInterval(mean, float(lower[0]), float(upper[0]), n, confidence, "wilson")
    if n < 2:
        return MeanInterval(mean, -math.inf, math.inf, n, confidence, "none")
    if n <= BOOTSTRAP_LARGEST_N:
        low, high = bootstrap_interval(rows, "mean", confidence, seed=seed)
        return MeanInterval(mean, low, high, n, confidence, "bootstrap")
    reach = normal_quantile((1 + confidence) / 2) * float(rows.std(ddof=1)) / math.sqrt(n)
    return MeanInterval(mean, mean - reach, mean + reach, n, confidence, "normal")


def _are_all_zero_or_one(rows: FloatArray | IntArray) -> bool:
    return bool(((rows == 0) | (rows == 1)).all())
