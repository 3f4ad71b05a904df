"""The report's charts: what a model lived through, handed to the figures, once for each theme."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clew.cli.words import counted, metric_in_words, policies
from clew.figures import DARK, LIGHT, AgePoint, Line, Mark, Span, staleness_figure, timeline_figure

if TYPE_CHECKING:
    from clew.figures import Theme
    from clew.figures.palette import Policy
    from clew.loop.result import Lived, VersionSpan

POLICY_NAMES: dict[Policy, str] = {
    "clew": "with Clew",
    "frozen": "frozen first model",
    "blind": "refitted blindly",
}

MARKED = {"page", "promoted", "rolled back", "refused", "undecided", "fit failed"}
"""Events that get a mark; the steps between them stand in the table only."""


def figures_of(result: Lived) -> dict[str, Any]:
    """Figures by the names under which the page finds them: ``timeline-light``, ``staleness-dark``…"""
    figures = {}
    for theme in (LIGHT, DARK):
        figures[f"timeline-{theme.name}"] = _timeline(result, theme)
        if result.staleness:
            figures[f"staleness-{theme.name}"] = _staleness(result, theme)
    return figures


def _timeline(result: Lived, theme: Theme) -> Any:
    return timeline_figure(
        [(window.start, window.end) for window in result.windows],
        # Clew's line lies above the others.
        [_line(result, policy) for policy in ("frozen", "blind", "clew") if policy in policies(result)],
        spans=[_span(version, result) for version in result.versions],
        marks=_marks(result),
        metric=metric_in_words(result.metric),
        theme=theme,
    )


def _line(result: Lived, policy: Policy) -> Line:
    bands = [getattr(window, f"{policy}_band") for window in result.windows]
    return Line(
        policy,
        POLICY_NAMES[policy],
        values=tuple(getattr(window, policy) for window in result.windows),
        lower=tuple(band.lower for band in bands),
        upper=tuple(band.upper for band in bands),
    )


def _span(version: VersionSpan, result: Lived) -> Span:
    learned = (
        f"{version.recipe}: learned from {counted(version.n_rows, 'row')},"
        f" {version.trained_from:%Y-%m-%d} to {version.trained_to:%Y-%m-%d}"
    )
    return Span(f"v{version.number}", version.start, version.end or result.end, learned)


def _marks(result: Lived) -> list[Mark]:
    # A level that is accepted for want of anything better is told by a ticket.
    lanes = {kind: kind for kind in MARKED} | {
        "ticket": "ticket",
        "accepted": "ticket",
        "unlearnable": "ticket",
    }
    return [
        Mark(event.time, lanes[event.kind], event.sentence) for event in result.events if event.kind in lanes
    ]


def _staleness(result: Lived, theme: Theme) -> Any:
    points = [
        AgePoint(point.age_from, point.age_to, point.n, point.value, point.lower, point.upper)
        for point in result.staleness
    ]
    return staleness_figure(points, metric=metric_in_words(result.metric), theme=theme)
