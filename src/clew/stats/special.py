"""Tail probabilities and quantiles that the standard library lacks.

scipy has them too, but is no dependency of an installation; the tests hold these to scipy's answers.
"""

from __future__ import annotations

import functools
import math
from statistics import NormalDist

from clew.stats.arrays import open_fraction

_TINY = 1e-300  # keeps the continued fractions from dividing by zero
_PRECISION = 1e-15
_MAX_TERMS = 100_000


def normal_quantile(probability: float) -> float:
    """Value below which a standard normal variable falls with this probability.

    Examples
    --------
    >>> f"{normal_quantile(0.975):.4f}"
    '1.9600'
    """
    return NormalDist().inv_cdf(open_fraction("probability", probability))


def chi_square_tail(statistic: float, degrees_of_freedom: float) -> float:
    """Probability that a chi-square variable exceeds `statistic`.

    Accurate in relative terms far into the tail, since a budget split over many columns and windows
    asks for levels such as 1e-8.

    Parameters
    ----------
    statistic
        At or below 0 the answer is 1.
    degrees_of_freedom
        Above 0.

    References
    ----------
    Abramowitz and Stegun (1964), Handbook of Mathematical Functions, 6.5.29 (series), 6.5.31 (fraction),
    26.4.19.

    Examples
    --------
    >>> f"{chi_square_tail(3.841459, 1):.4f}"
    '0.0500'
    """
    if degrees_of_freedom <= 0:
        raise ValueError(f"degrees_of_freedom is {degrees_of_freedom}; it must be above 0")
    if math.isnan(statistic):
        raise ValueError("statistic is NaN")
    a, x = degrees_of_freedom / 2, statistic / 2
    if x <= 0:
        return 1.0
    if math.isinf(x):
        return 0.0
    # Where the series converges fast the tail is not small, so that 1 - P loses nothing.
    return 1 - _lower_gamma_series(a, x) if x < a + 1 else _upper_gamma_fraction(a, x)


def _lower_gamma_series(a: float, x: float) -> float:
    term = total = 1 / a
    for k in range(1, _MAX_TERMS):
        term *= x / (a + k)
        total += term
        if term < total * _PRECISION:
            break
    return total * math.exp(a * math.log(x) - x - math.lgamma(a))


def _upper_gamma_fraction(a: float, x: float) -> float:
    """Evaluate the continued fraction of the upper incomplete gamma function by Lentz's method."""
    b = x + 1 - a
    c, d = 1 / _TINY, 1 / b
    value = d
    for k in range(1, _MAX_TERMS):
        numerator = -k * (k - a)
        b += 2
        d = 1 / _away_from_zero(numerator * d + b)
        c = _away_from_zero(b + numerator / c)
        value *= c * d
        if abs(c * d - 1) < _PRECISION:
            break
    return value * math.exp(a * math.log(x) - x - math.lgamma(a))


def student_tail(statistic: float, degrees_of_freedom: float) -> float:
    """Probability that Student's t variable exceeds `statistic`, which must not be negative.

    Examples
    --------
    >>> f"{student_tail(12.706205, 1):.4f}"
    '0.0250'
    """
    if statistic < 0 or degrees_of_freedom <= 0:
        raise ValueError(
            f"statistic {statistic} must be at least 0, degrees_of_freedom {degrees_of_freedom} above"
        )
    share = degrees_of_freedom / (degrees_of_freedom + statistic**2)
    return _incomplete_beta(degrees_of_freedom / 2, 0.5, share) / 2


@functools.lru_cache(maxsize=1024)
def student_quantile(probability: float, degrees_of_freedom: float) -> float:
    """Value below which Student's t variable falls with this probability.

    Examples
    --------
    >>> f"{student_quantile(0.975, 10):.4f}"
    '2.2281'
    """
    if open_fraction("probability", probability) < 0.5:
        return -student_quantile(1 - probability, degrees_of_freedom)
    tail = 1 - probability
    log_scale = math.lgamma((degrees_of_freedom + 1) / 2) - math.lgamma(degrees_of_freedom / 2)
    log_scale -= 0.5 * math.log(degrees_of_freedom * math.pi)
    t = normal_quantile(probability)
    # The tail is convex and the normal quantile lies left of t's, so Newton's steps climb without
    # overshooting.
    for _ in range(200):
        spread = math.log1p(t**2 / degrees_of_freedom)
        step = (student_tail(t, degrees_of_freedom) - tail) / math.exp(
            log_scale - (degrees_of_freedom + 1) / 2 * spread
        )
        t += step
        if abs(step) <= 1e-12 * (1 + t):
            break
    return t


def _incomplete_beta(a: float, b: float, x: float) -> float:
    if x <= 0 or x >= 1:
        return float(x >= 1)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    if x < (a + 1) / (a + b + 2):
        return math.exp(log_front) * _beta_fraction(a, b, x) / a
    return 1 - math.exp(log_front) * _beta_fraction(b, a, 1 - x) / b


def _beta_fraction(a: float, b: float, x: float) -> float:
    """Evaluate the continued fraction of Abramowitz and Stegun 26.5.8 by Lentz's method."""
    c, d = 1.0, 1 / _away_from_zero(1 - (a + b) * x / (a + 1))
    value = d
    for k in range(1, _MAX_TERMS):
        even = k * (b - k) * x / ((a + 2 * k - 1) * (a + 2 * k))
        odd = -(a + k) * (a + b + k) * x / ((a + 2 * k) * (a + 2 * k + 1))
        for numerator in (even, odd):
            d = 1 / _away_from_zero(1 + numerator * d)
            c = _away_from_zero(1 + numerator / c)
            value *= c * d
        if abs(c * d - 1) < _PRECISION:
            break
    return value


def _away_from_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
