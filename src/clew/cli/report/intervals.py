"""A check's value, interval and limit as a small drawing beside the numbers."""

from __future__ import annotations

from dataclasses import dataclass

WIDTH, MARGIN = 120.0, 8.0


@dataclass(frozen=True, slots=True)
class IntervalDrawing:
    """Horizontal places in a box `WIDTH` wide; `limit` is None where none was stated."""

    lower: float
    value: float
    upper: float
    limit: float | None


def interval_drawing(
    value: float | None, lower: float | None, upper: float | None, limit: float | None
) -> IntervalDrawing | None:
    """Where value, interval and limit lie when drawn to one scale; None without an interval.

    Examples
    --------
    >>> interval_drawing(0.5, 0.0, 1.0, None)
    IntervalDrawing(lower=8.0, value=60.0, upper=112.0, limit=None)
    """
    if value is None or lower is None or upper is None:
        return None
    shown = [value, lower, upper, *([] if limit is None else [limit])]
    low, span = min(shown), max(shown) - min(shown)

    def place(x: float) -> float:
        share = (x - low) / span if span > 0 else 0.5
        return round(MARGIN + share * (WIDTH - 2 * MARGIN), 1)

    return IntervalDrawing(place(lower), place(value), place(upper), None if limit is None else place(limit))
