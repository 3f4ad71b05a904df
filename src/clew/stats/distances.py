"""How far the counts of a window lie from those of the reference, and whether chance explains it.

All functions take two count vectors over the same bins. A window without rows says nothing: its distance
is 0 and its p-value 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from clew.stats.arrays import FloatArray, same_length
from clew.stats.special import chi_square_tail

SMALLEST_EXPECTED_COUNT = 5.0
"""Cochran's rule: below it the chi-square distribution is a poor stand-in for that of the statistic."""


@dataclass(frozen=True, slots=True)
class ChiSquare:
    """Result of a two-sample test.

    Attributes
    ----------
    statistic, degrees_of_freedom, p_value
        With fewer than two usable bins: 0, 0 and 1.
    n
        Rows of the window, the smaller concern of whoever reads a p-value.
    """

    statistic: float
    degrees_of_freedom: int
    p_value: float
    n: int


def total_variation(reference_counts: npt.ArrayLike, counts: npt.ArrayLike) -> float:
    """Share of rows that would have to change bin to turn one histogram into the other, 0 to 1.

    Examples
    --------
    >>> total_variation([50, 50], [3, 1])
    0.25
    """
    p, q = _shares(reference_counts, counts)
    return float(np.abs(p - q).sum() / 2)


def noise_in_total_variation(reference_counts: npt.ArrayLike, counts: npt.ArrayLike) -> float:
    """The total variation that sampling alone would give at these sizes if nothing had moved.

    With r the pooled share of a bin and n, m the rows of the two samples, the difference of the two shares
    is nearly normal with variance ``r (1 - r) (1/n + 1/m)`` when both come from one distribution, and a
    normal variable's mean absolute value is ``sqrt(2/pi)`` of its deviation. In a bin with less than a row
    or so the normal form promises too much noise; there the mean absolute difference is at most ``2 r``,
    the sum of both shares. Half the sum over bins is the answer (own derivation; checked by simulation).

    Examples
    --------
    >>> round(noise_in_total_variation([100] * 16, [10] * 16), 3)
    0.128
    """
    a, b = _count_pair(reference_counts, counts)
    n, m = a.sum(), b.sum()
    if not n or not m:
        return 0.0
    r = (a + b) / (n + m)
    deviation = np.sqrt(r * (1 - r) * (1 / n + 1 / m))
    return float(np.minimum(math.sqrt(2 / math.pi) * deviation, 2 * r).sum() / 2)


def noise_corrected_total_variation(reference_counts: npt.ArrayLike, counts: npt.ArrayLike) -> float:
    """Total variation less what sampling noise alone would give, at least 0.

    Small windows then no longer look far away merely because they are small. Where the distributions do
    differ it errs towards too small, by at most the noise subtracted, so a floor on it never cries early.

    Examples
    --------
    >>> noise_corrected_total_variation([100, 100], [9, 11])  # total variation 0.05, noise 0.09
    0.0
    >>> round(noise_corrected_total_variation([1000, 1000], [800, 200]), 2)
    0.28
    """
    apart = total_variation(reference_counts, counts)
    return max(0.0, apart - noise_in_total_variation(reference_counts, counts))


def chi_square_test(reference_counts: npt.ArrayLike, counts: npt.ArrayLike) -> ChiSquare:
    """Test of whether two samples share one distribution over the bins (Pearson's test of homogeneity).

    The reference counts as a sample too, not as truth, so a small reference makes no false alarms. Bins
    empty in both are dropped. Bins expected to hold fewer than 5 rows in either sample are joined, rarest
    first, until each group expects 5; the choice looks only at both samples together, so it cannot favour a
    difference.

    Parameters
    ----------
    reference_counts, counts
        Counts over the same bins, shape ``(n_bins,)``.

    Raises
    ------
    ValueError
        If the vectors differ in length or a count is negative or not finite.

    References
    ----------
    Pearson (1911), On the probability that two independent distributions of frequency are really samples
    from the same population, Biometrika 8, 250-254; Cochran (1954), Biometrics 10, 417-451.

    Examples
    --------
    >>> found = chi_square_test([500, 500], [60, 40])
    >>> round(found.statistic, 3), found.degrees_of_freedom, round(found.p_value, 4), found.n
    (3.638, 1, 0.0565, 100)
    """
    a, b = _count_pair(reference_counts, counts)
    n, m = float(a.sum()), float(b.sum())
    if not n or not m:
        return ChiSquare(0.0, 0, 1.0, int(m))
    a, b = _pool_rare_bins(a, b)
    if len(a) < 2:
        return ChiSquare(0.0, 0, 1.0, int(m))
    # The sum over both rows of (observed - expected)² / expected, brought to one term a bin.
    statistic = float((((m / n) ** 0.5 * a - (n / m) ** 0.5 * b) ** 2 / (a + b)).sum())
    return ChiSquare(statistic, len(a) - 1, chi_square_tail(statistic, len(a) - 1), int(m))


def _pool_rare_bins(a: FloatArray, b: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Join the rarest bins, rarest first, into groups that each expect enough rows in the smaller sample."""
    order = np.argsort(a + b, kind="stable")
    order = order[(a + b)[order] > 0]
    smaller_share = min(a.sum(), b.sum()) / (a.sum() + b.sum())
    starts, expected = [0], 0.0
    for i, joint in enumerate((a + b)[order]):
        if expected >= SMALLEST_EXPECTED_COUNT:
            starts.append(i)
            expected = 0.0
        expected += float(joint) * smaller_share
    # The last group holds the most frequent bin, but with few bins even that may be too small to stand alone.
    if expected < SMALLEST_EXPECTED_COUNT and len(starts) > 1:
        starts.pop()
    return np.add.reduceat(a[order], starts), np.add.reduceat(b[order], starts)


def _shares(reference_counts: npt.ArrayLike, counts: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    a, b = _count_pair(reference_counts, counts)
    if not a.sum() or not b.sum():
        return np.zeros_like(a), np.zeros_like(b)
    return a / a.sum(), b / b.sum()


def _count_pair(reference_counts: npt.ArrayLike, counts: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    pair = _counts("reference_counts", reference_counts), _counts("counts", counts)
    same_length(reference_counts=pair[0], counts=pair[1])
    return pair


def _counts(name: str, values: npt.ArrayLike) -> FloatArray:
    counts = np.asarray(values, dtype=np.float64)
    wrong = ~(np.isfinite(counts) & (counts >= 0))
    if counts.ndim != 1 or wrong.any():
        told = (
            f"bin {int(np.argmax(wrong))} is {counts[wrong][0]}"
            if wrong.any()
            else f"shape is {counts.shape}"
        )
        raise ValueError(f"{name}: {told}; counts at least 0 are needed, shape (n_bins,)")
    return counts
