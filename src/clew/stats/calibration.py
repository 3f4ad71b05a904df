"""Do probabilities mean what they say? Of the rows given 0.7, seven in ten should come true."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from clew.stats.arrays import FloatArray, open_fraction, rows_between, same_length
from clew.stats.intervals import wilson_interval
from clew.stats.special import normal_quantile


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """Rows with similar probabilities: what was promised, and what came true with its Wilson interval."""

    mean_probability: float
    share_true: float
    lower: float
    upper: float
    n: int


@dataclass(frozen=True, slots=True)
class Calibration:
    """Expected calibration error with what chance alone would make of it.

    Attributes
    ----------
    error
        Mean over rows of the distance between a bin's mean probability and its share of true rows, 0 to 1.
        Never 0 in practice: it measures noise too.
    noise
        The `error` expected of a perfectly calibrated model with these probabilities.
    corrected
        `error` less `noise`, at least 0: the figure to show and to compare.
    noise_limit
        A perfectly calibrated model stays below it with the stated confidence; an `error` above it is real.
    n
        Rows.
    confidence
        Of `noise_limit`.
    bins
        In rising order of probability, for a reliability diagram.
    """

    error: float
    noise: float
    corrected: float
    noise_limit: float
    n: int
    confidence: float
    bins: tuple[CalibrationBin, ...]


def expected_calibration_error(
    y_true_is_class: npt.ArrayLike, probability: npt.ArrayLike, n_bins: int = 15, confidence: float = 0.95
) -> Calibration:
    """Calibration error of one class's probabilities, corrected for what chance alone would give.

    Bins hold about equally many rows, ties staying together, so no bin is a handful of rows. If y came from
    the probabilities themselves, a bin's summed error would be nearly normal with variance ``sum p (1 -
    p)``; its mean absolute value is ``sqrt(2/pi)`` of the deviation (and never above ``sum 2 p (1 - p)``,
    which is smaller where p is close to 0 or 1), its variance ``1 - 2/pi`` of that. Summed over bins this
    gives `noise` and `noise_limit`.

    Parameters
    ----------
    y_true_is_class
        1 or True where the row is of the class, shape ``(n,)``.
    probability
        What the model said for the class, 0 to 1, shape ``(n,)``.
    n_bins
        At least 1. More bins see finer faults through more noise.

    Raises
    ------
    ValueError
        If there are no rows, lengths differ, or a value is missing or outside its range; the row is named.

    References
    ----------
    Broecker and Smith (2007), Increasing the reliability of reliability diagrams, Weather and Forecasting
    22(3), 651-661 (what a calibrated forecast would show); Roelofs et al. (2022), Mitigating bias in
    calibration error estimation, AISTATS (equal-mass bins, the size of the bias).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> p = rng.random(1000)
    >>> honest = expected_calibration_error(rng.random(1000) < p, p)
    >>> honest.error < honest.noise_limit
    True
    >>> boastful = expected_calibration_error(rng.random(1000) < 0.5 + (p - 0.5) / 3, p)
    >>> boastful.error > boastful.noise_limit
    True
    """
    truth = rows_between("y_true_is_class", y_true_is_class, 0, 1)
    said = rows_between("probability", probability, 0, 1)
    same_length(y_true_is_class=truth, probability=said)
    open_fraction("confidence", confidence)
    n = len(truth)
    if not n or n_bins < 1:
        raise ValueError(f"{n} rows in {n_bins} bins; at least one row and one bin are needed")
    order = np.argsort(said, kind="stable")
    truth, said = truth[order], said[order]
    starts = _bin_starts(said, n_bins)
    gap = np.abs(np.add.reduceat(truth - said, starts))
    variance = np.add.reduceat(said * (1 - said), starts)
    error, noise = float(gap.sum()) / n, float(_mean_absolute(variance).sum()) / n
    spread = math.sqrt((1 - 2 / math.pi) * float(variance.sum())) / n
    return Calibration(
        error=error,
        noise=noise,
        corrected=max(0.0, error - noise),
        noise_limit=noise + normal_quantile(confidence) * spread,
        n=n,
        confidence=confidence,
        bins=_reliability(truth, said, starts, confidence),
    )


def _bin_starts(sorted_probability: FloatArray, n_bins: int) -> npt.NDArray[np.intp]:
    wanted = np.arange(n_bins) * len(sorted_probability) // n_bins
    # Each cut moves to the first row of its tie, so that equal probabilities share a bin.
    return np.unique(np.searchsorted(sorted_probability, sorted_probability[wanted], side="left"))


def _mean_absolute(variance: FloatArray) -> FloatArray:
    return np.minimum(np.sqrt(2 / math.pi * variance), 2 * variance)


def _reliability(
    truth: FloatArray, said: FloatArray, starts: npt.NDArray[np.intp], confidence: float
) -> tuple[CalibrationBin, ...]:
    sizes = np.diff(np.append(starts, len(truth)))
    n_true = np.add.reduceat(truth, starts)
    promised = np.add.reduceat(said, starts) / sizes
    lower, upper = wilson_interval(n_true, sizes, confidence)
    columns = (promised, n_true / sizes, lower, upper, sizes)
    return tuple(
        CalibrationBin(float(p), float(share), float(low), float(high), int(size))
        for p, share, low, high, size in zip(*columns, strict=True)
    )
