"""The life of a model on one page: its metric, what the loop did, and which version answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from clew.figures.bands import band_outline
from clew.figures.hover import hover_text
from clew.figures.palette import DASHES, LIGHT, Policy, Theme, css, quiet_axis, quiet_layout


@dataclass(frozen=True, slots=True)
class Line:
    """A metric by window with its interval; None where a window holds no labelled row."""

    policy: Policy
    name: str
    values: tuple[float | None, ...]
    lower: tuple[float | None, ...]
    upper: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened at a moment, and the sentence about it. Any word may be a `kind`."""

    time: datetime
    kind: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Span:
    """A time during which one thing held, such as a version that answered."""

    label: str
    start: datetime
    end: datetime
    sentence: str


# From the top down. A kind that is not here gets a lane below them.
_SYMBOLS = {
    "page": "triangle-up",
    "ticket": "diamond",
    "promoted": "star",
    "rolled back": "triangle-left",
    "refused": "x",
    "undecided": "circle-open",
}
_LANE_PIXELS, _SPANS_PIXELS, _GAP_PIXELS, _METRIC_PIXELS = 24, 26, 20, 330


def timeline_figure(
    windows: Sequence[tuple[datetime, datetime]],
    lines: Sequence[Line],
    *,
    spans: Sequence[Span] = (),
    marks: Sequence[Mark] = (),
    metric: str,
    theme: Theme = LIGHT,
) -> Any:
    """One figure of the metric by window, a lane for each kind of mark, and the versions below.

    Parameters
    ----------
    windows
        Start and end of each window, in order.
    lines
        One value for each window; drawn in the middle of it.
    spans, marks
        What held and what happened; their sentences appear on hover.
    metric
        Its name, for the axis.
    theme
        Colours for a light or a dark page.

    Returns
    -------
    plotly.graph_objects.Figure
        For each line a band and a curve, for each kind of mark one trace, and one bar for each span.
    """
    import plotly.graph_objects as go

    lanes = _lanes(marks)
    domains, height = _stack(len(lanes), has_spans=bool(spans))
    middles = [start + (end - start) / 2 for start, end in windows]
    return go.Figure(
        data=[
            *(_band(line, middles, theme) for line in lines),
            *(_curve(line, middles, windows, theme) for line in lines),
            *(_lane(kind, row, marks, theme) for row, kind in enumerate(lanes)),
            *(_bar(span, row, theme) for row, span in enumerate(spans)),
        ],
        layout=quiet_layout(
            theme,
            height=height,
            barmode="overlay",
            # A name that does not fit its bar is left to the hover label.
            uniformtext={"minsize": 10, "mode": "hide"},
            shapes=[_boundary(span.start, domains["yaxis3"], theme) for span in spans[1:]],
            xaxis=quiet_axis(theme, showgrid=False, anchor="y3", type="date", range=_reach(windows)),
            **_value_axes(metric, lanes, domains, theme),
        ),
    )


def _lanes(marks: Sequence[Mark]) -> list[str]:
    kinds = {mark.kind for mark in marks}
    return [kind for kind in _SYMBOLS if kind in kinds] + sorted(kinds - _SYMBOLS.keys())


def _stack(n_lanes: int, has_spans: bool) -> tuple[dict[str, tuple[float, float]], int]:
    """Shares of the height for metric, lanes and versions, and the height in pixels."""
    lanes = n_lanes * _LANE_PIXELS
    spans = _SPANS_PIXELS if has_spans else 1
    total = _METRIC_PIXELS + _GAP_PIXELS + lanes + _GAP_PIXELS / 2 + spans
    above_spans = (spans + _GAP_PIXELS / 2) / total
    above_lanes = (spans + _GAP_PIXELS / 2 + lanes) / total
    domains = {
        "yaxis3": (0.0, spans / total),
        "yaxis2": (above_spans, max(above_lanes, above_spans + 0.001)),
        "yaxis": (above_lanes + _GAP_PIXELS / total, 1.0),
    }
    # The legend above and the dates below take their room outside the stack.
    return domains, round(total) + 80


def _reach(windows: Sequence[tuple[datetime, datetime]]) -> list[datetime] | None:
    return [windows[0][0], windows[-1][1]] if windows else None


def _value_axes(
    metric: str, lanes: list[str], domains: dict[str, tuple[float, float]], theme: Theme
) -> dict[str, Any]:
    bare: dict[str, Any] = {"showgrid": False, "fixedrange": True}
    return {
        "yaxis": quiet_axis(theme, metric, domain=domains["yaxis"], fixedrange=True),
        "yaxis2": quiet_axis(
            theme,
            **bare,
            domain=domains["yaxis2"],
            range=[len(lanes) - 0.5, -0.5],
            tickvals=list(range(len(lanes))),
            ticktext=lanes,
        ),
        "yaxis3": quiet_axis(
            theme, **bare, domain=domains["yaxis3"], range=[-0.5, 0.5], tickvals=[0], ticktext=["version"]
        ),
    }


def _band(line: Line, middles: Sequence[datetime], theme: Theme) -> dict[str, Any]:
    x, y = band_outline(middles, line.lower, line.upper)
    return {
        "type": "scatter",
        "name": f"{line.name}, 95 % interval",
        "legendgroup": line.policy,
        "showlegend": False,
        "x": x,
        "y": y,
        "mode": "lines",
        "line": {"width": 0},
        "fill": "toself",
        "fillcolor": css(theme.policy(line.policy), 0.16 if line.policy == "clew" else 0.09),
        "hoverinfo": "skip",
    }


def _curve(
    line: Line, middles: Sequence[datetime], windows: Sequence[tuple[datetime, datetime]], theme: Theme
) -> dict[str, Any]:
    return {
        "type": "scatter",
        "name": line.name,
        "legendgroup": line.policy,
        "x": list(middles),
        "y": list(line.values),
        "mode": "lines+markers",
        "line": {
            "color": css(theme.policy(line.policy)),
            "width": 3 if line.policy == "clew" else 2,
            "dash": DASHES[line.policy],
        },
        "marker": {"size": 6 if line.policy == "clew" else 4},
        "text": [_told(line, at, window) for at, window in enumerate(windows)],
        "hovertemplate": "%{text}<extra></extra>",
    }


def _told(line: Line, at: int, window: tuple[datetime, datetime]) -> str:
    value, lower, upper = line.values[at], line.lower[at], line.upper[at]
    if value is None:
        return ""
    between = "" if lower is None or upper is None else f" ({lower:.4g} to {upper:.4g})"
    return f"{line.name}: <b>{value:.4g}</b>{between}<br>{window[0]:%Y-%m-%d} to {window[1]:%Y-%m-%d}"


def _lane(kind: str, row: int, marks: Sequence[Mark], theme: Theme) -> dict[str, Any]:
    here = [mark for mark in marks if mark.kind == kind]
    colours = {
        "page": theme.alarm,
        "rolled back": theme.alarm,
        "ticket": theme.caution,
        "promoted": theme.good,
    }
    return {
        "type": "scatter",
        "name": kind,
        "showlegend": False,
        "x": [mark.time for mark in here],
        "y": [row] * len(here),
        "yaxis": "y2",
        "mode": "markers",
        "marker": {
            "symbol": _SYMBOLS.get(kind, "circle"),
            "size": 11 if kind in colours else 8,
            "color": css(colours.get(kind, theme.plain)),
            "line": {"width": 1, "color": css(theme.surface)},
        },
        "text": [f"<b>{mark.time:%Y-%m-%d}</b><br>{hover_text(mark.sentence)}" for mark in here],
        "hovertemplate": "%{text}<extra></extra>",
    }


def _bar(span: Span, row: int, theme: Theme) -> dict[str, Any]:
    milliseconds = (span.end - span.start).total_seconds() * 1000
    return {
        "type": "bar",
        "name": span.label,
        "showlegend": False,
        "orientation": "h",
        "base": [span.start],
        "x": [milliseconds],
        "y": [0],
        "yaxis": "y3",
        "width": 1,
        # Neighbours differ in tint, so that a boundary shows without an outline.
        "marker": {"color": css(theme.clew, 0.32 if row % 2 else 0.18), "line": {"width": 0}},
        "text": [span.label],
        "textposition": "inside",
        "insidetextanchor": "middle",
        "textangle": 0,
        "textfont": {"color": css(theme.ink), "size": 12},
        "hovertext": [f"<b>{hover_text(span.label)}</b><br>{hover_text(span.sentence)}"],
        "hovertemplate": "%{hovertext}<extra></extra>",
    }


def _boundary(moment: datetime, domain: tuple[float, float], theme: Theme) -> dict[str, Any]:
    """A hair-line from a version's first moment up through the metric."""
    return {
        "type": "line",
        "xref": "x",
        "yref": "paper",
        "x0": moment,
        "x1": moment,
        "y0": domain[1],
        "y1": 1,
        "layer": "below",
        "line": {"color": css(theme.clew, 0.35), "width": 1},
    }
