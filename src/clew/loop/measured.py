"""Row losses added up into what a report shows: bands by window, the metric by age, events by kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np

from clew.loop.result import Band, Event, StalenessPoint
from clew.stats.arrays import FloatArray
from clew.stats.intervals import mean_interval
from clew.stats.metrics import Metric

STALENESS_DAYS = (0, 7, 14, 30, 60, 90, 120, 180, 240, 300, 365, 450, 540, 730, 1095, 1825)
"""Edges of the ages, in days, at which models are compared."""

FEWEST_AT_AGE = 100
"""An age with fewer answers than this is left out of the curve."""


def rounded(value: float) -> float:
    """Six digits: more would be noise, and equal runs would print unequal tails."""
    return round(float(value), 6)


def band_of(metric: Metric, losses: FloatArray) -> Band:
    """The metric over these rows with its 95 % interval."""
    if not len(losses):
        return Band(None, None, None)
    interval = mean_interval(losses)
    edges = sorted(metric.value_of_loss(max(edge, 0.0)) for edge in (interval.lower, interval.upper))
    return Band(*(rounded(value) for value in (metric.value(losses), *edges)))


def staleness_of(metric: Metric, ages: np.ndarray, losses: FloatArray) -> tuple[StalenessPoint, ...]:
    """The metric by the age, in days, of the model that answered; arrays of shape ``(n,)``."""
    points = []
    for low, high in pairwise(STALENESS_DAYS):
        rows = losses[(ages >= low) & (ages < high)]
        if len(rows) >= FEWEST_AT_AGE:
            band = band_of(metric, rows)
            points.append(StalenessPoint(low, high, len(rows), *(band.value, band.lower, band.upper)))  # type: ignore[arg-type]
    return tuple(points)


def counts_of(events: Iterable[Event]) -> dict[str, Any]:
    """The fields of a `Summary` that count what happened."""
    kinds = Counter(event.kind for event in events)
    return {
        "promotions": kinds["promoted"],
        "refusals": kinds["refused"],
        "undecided": kinds["undecided"],
        "pages": kinds["page"],
        "tickets": kinds["ticket"] + kinds["accepted"] + kinds["unlearnable"],
        "rollbacks": kinds["rolled back"],
    }
