"""Two models on the same rows: how much better is the candidate, and is that enough?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from clew.stats.arrays import FloatArray, finite_rows, open_fraction, same_length
from clew.stats.special import normal_quantile, student_quantile

Verdict: TypeAlias = Literal["pass", "fail", "undecided"]


@dataclass(frozen=True, slots=True)
class PairedComparison:
    """Difference of two models' mean losses on the same rows.

    Attributes
    ----------
    mean_difference
        Reference less candidate: above 0 when the candidate is better. NaN when there are no rows.
    lower, upper
        Interval of the true difference, in units of loss; infinite where the rows say nothing.
    n
        Rows.
    confidence
        Of both limits together; each limit alone holds with ``(1 + confidence) / 2``.
    """

    mean_difference: float
    lower: float
    upper: float
    n: int
    confidence: float


def paired_comparison(
    reference_losses: npt.ArrayLike,
    candidate_losses: npt.ArrayLike,
    confidence: float = 0.95,
    block: int | None = None,
) -> PairedComparison:
    """Compare two models by their losses on the same rows.

    Two imagined rows that speak a little for each side are added before the interval is taken. For losses
    of 0 and 1 this is exactly the adjusted interval of Agresti and Min: where the plain one collapses to
    zero width because the models never differed in a few hundred rows, it keeps the width that so few rows
    deserve, and its coverage holds at small n. For other losses the imagined rows differ by the largest
    difference seen (or, if none was seen, by the largest loss), which widens the interval just where few
    rows decide, as with heavy tails.

    Parameters
    ----------
    reference_losses, candidate_losses
        Row losses, shape ``(n,)``, of the same rows in the same order. No rows: the interval is unbounded.
    confidence
        Coverage, 0 to 1 exclusive.
    block
        Rows that hang together (the rows of a day): runs of this many consecutive rows count as one
        observation. Without it rows are taken as independent, and the interval is too narrow if they are
        not. With fewer than two blocks the interval is unbounded.

    Raises
    ------
    ValueError
        If lengths differ, a loss is NaN or infinite, or `block` is below 1.

    References
    ----------
    Agresti and Min (2005), Simple improved confidence intervals for comparing matched proportions,
    Statistics in Medicine 24(5), 729-740. Blocks: Schmeiser (1982), Batch size effects in the analysis of
    simulation output, Operations Research 30(3), 556-568.

    Examples
    --------
    Of 200 rows the reference alone is wrong on 20, the candidate alone on 6:

    >>> reference = np.repeat([1.0, 0.0, 0.0], [20, 6, 174])
    >>> candidate = np.repeat([0.0, 1.0, 0.0], [20, 6, 174])
    >>> found = paired_comparison(reference, candidate)
    >>> f"{found.mean_difference:.3f} in {found.lower:.3f} to {found.upper:.3f}"
    '0.070 in 0.020 to 0.119'
    """
    reference = finite_rows("reference_losses", reference_losses)
    candidate = finite_rows("candidate_losses", candidate_losses)
    same_length(reference_losses=reference, candidate_losses=candidate)
    open_fraction("confidence", confidence)
    difference = reference - candidate
    n = len(difference)
    has_counts = block is None and _is_binary(reference) and _is_binary(candidate)
    units = difference if block is None else _block_means(difference, block)
    if not n or (len(units) < 2 and not has_counts):
        mean = float(difference.mean()) if n else math.nan
        return PairedComparison(mean, -math.inf, math.inf, n, confidence)
    largest_loss = max(float(np.abs(reference).max()), float(np.abs(candidate).max()))
    # 0/1 losses differ by 1 whether or not these rows show it; any other scale must be read from the rows.
    imagined = 1.0 if has_counts else float(np.abs(units).max()) or largest_loss
    tail = (1 + confidence) / 2
    quantile = normal_quantile(tail) if has_counts else student_quantile(tail, len(units) - 1)
    lower, upper = _adjusted_interval(units, imagined, quantile)
    mean = float(difference.mean())
    return PairedComparison(mean, min(lower, mean), max(upper, mean), n, confidence)


def non_inferior(comparison: PairedComparison, margin: float) -> Verdict:
    """Whether the candidate is at most `margin` (in units of loss) worse than the reference.

    ``pass`` when that is certain, ``fail`` when it is certainly worse than that, else ``undecided``: more
    rows are needed.

    Examples
    --------
    >>> same = np.zeros(200)
    >>> non_inferior(paired_comparison(same, same), margin=0.005)
    'undecided'
    >>> non_inferior(paired_comparison(same, same), margin=0.02)
    'pass'
    """
    if not margin >= 0:
        raise ValueError(f"margin is {margin}; it must be at least 0")
    if comparison.lower > -margin:
        return "pass"
    return "fail" if comparison.upper < -margin else "undecided"


def better(comparison: PairedComparison) -> Verdict:
    """Whether the candidate's mean loss is lower: certainly so, certainly not, or ``undecided``.

    Examples
    --------
    >>> better(paired_comparison(np.repeat([1.0, 0.0], [30, 70]), np.repeat([1.0, 0.0], [10, 90])))
    'pass'
    """
    if comparison.lower > 0:
        return "pass"
    return "fail" if comparison.upper < 0 else "undecided"


def _adjusted_interval(units: FloatArray, imagined: float, quantile: float) -> tuple[float, float]:
    # Half an imagined row for and half against the candidate, and one more without a difference, as Agresti
    # and Min add a half to each of the four cells.
    n = len(units) + 2
    centre = float(units.sum()) / n
    square = (float((units**2).sum()) + imagined**2) / n - centre**2
    reach = quantile * math.sqrt(max(square, 0.0) / n)
    return centre - reach, centre + reach


def _block_means(difference: FloatArray, block: int) -> FloatArray:
    """Means of consecutive runs, the last with what is left over, weighted to keep the mean of the rows."""
    if block < 1:
        raise ValueError(f"block is {block} rows; at least 1 is needed")
    n_blocks = max(1, len(difference) // block)
    if not len(difference):
        return difference
    starts = np.arange(n_blocks) * block
    return np.add.reduceat(difference, starts) * (n_blocks / len(difference))


def _is_binary(losses: FloatArray) -> bool:
    return bool(((losses == 0) | (losses == 1)).all())
