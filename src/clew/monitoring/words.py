"""Numbers and names as findings show them."""

from __future__ import annotations

import math
from collections.abc import Sequence


def list_of_names(names: Sequence[str], n_shown: int = 4) -> str:
    """The first few names and how many more there are.

    Examples
    --------
    >>> list_of_names(["age", "income"]), list_of_names(["a", "b", "c"], n_shown=2), list_of_names([])
    ('age, income', 'a, b and 1 more', '')
    """
    shown = ", ".join(names[:n_shown])
    return shown if len(names) <= n_shown else f"{shown} and {len(names) - n_shown} more"


def distance_interval(
    total_variation: float, corrected: float, n_reference: int, n_window: int, confidence: float = 0.95
) -> tuple[float, float]:
    """Interval for the total variation between two distributions from that of two samples.

    One row more or less in a bin moves the measured distance by at most 1/n of its sample, so it keeps
    within ``t`` of its expectation but for ``2 exp(-2 t² / (1/n + 1/m))`` (McDiarmid). The expectation is
    never below the true distance, and above it by about the noise that `corrected` leaves out at most; so
    ``corrected - t`` to ``total_variation + t`` holds it, whatever the distributions.

    References
    ----------
    McDiarmid (1989), On the method of bounded differences, Surveys in Combinatorics, 148-188.

    Examples
    --------
    >>> lower, upper = distance_interval(0.30, 0.28, n_reference=10_000, n_window=2_000)
    >>> f"{lower:.3f} {upper:.3f}"
    '0.247 0.333'
    """
    reach = math.sqrt(math.log(2 / (1 - confidence)) / 2 * (1 / n_reference + 1 / n_window))
    return max(corrected - reach, 0.0), min(total_variation + reach, 1.0)
