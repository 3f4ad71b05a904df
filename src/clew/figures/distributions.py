"""How a column's values were distributed then and are now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from clew.figures.hover import hover_text
from clew.figures.palette import LIGHT, Theme, css, quiet_axis, quiet_layout

_LONGEST_NAME = 28


def distribution_figure(
    labels: Sequence[str], then: Sequence[int], now: Sequence[int], *, theme: Theme = LIGHT
) -> Any:
    """The share of rows in each bin, then and now, as pairs of bars.

    Parameters
    ----------
    labels, then, now
        Names of the bins and how many rows fall into each, shape ``(n_bins,)``. Bins that are empty on both
        sides are left out.
    theme
        Colours for a light or a dark page.

    Returns
    -------
    plotly.graph_objects.Figure
        Two traces of bars.
    """
    import plotly.graph_objects as go

    shown = [place for place in range(len(labels)) if then[place] or now[place]]
    names = [_short(labels[place]) for place in shown]
    sides = (("then", then, theme.blind, "/"), ("now", now, theme.clew, ""))
    return go.Figure(
        data=[
            {
                "type": "bar",
                "name": name,
                "x": list(range(len(shown))),
                "y": [counts[place] / max(1, sum(counts)) for place in shown],
                "marker": {"color": css(colour), "pattern": {"shape": pattern, "size": 5}},
                "text": [
                    f"{hover_text(labels[place])}<br>{name}: <b>{counts[place]:,}</b> rows" for place in shown
                ],
                "textposition": "none",
                "hovertemplate": "%{text}, %{y:.1%}<extra></extra>",
            }
            for name, counts, colour, pattern in sides
        ],
        layout=quiet_layout(
            theme,
            height=280,
            barmode="group",
            bargap=0.25,
            bargroupgap=0.05,
            legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
            xaxis=quiet_axis(
                theme,
                tickmode="array",
                tickvals=list(range(len(shown))),
                ticktext=names,
                tickangle=-40 if any(len(name) > 6 for name in names) else 0,
                showgrid=False,
                fixedrange=True,
            ),
            yaxis=quiet_axis(theme, "share of rows", tickformat="~%", rangemode="tozero", fixedrange=True),
        ),
    )


def distances_figure(names: Sequence[str], distances: Sequence[float], *, theme: Theme = LIGHT) -> Any:
    """How far each column moved, as bars from the longest to the shortest.

    Parameters
    ----------
    names, distances
        Columns and how far each moved, 0 to 1, shape ``(n_columns,)``, the furthest first.
    theme
        Colours for a light or a dark page.

    Returns
    -------
    plotly.graph_objects.Figure
        One trace of bars.
    """
    import plotly.graph_objects as go

    return go.Figure(
        data=[
            {
                "type": "bar",
                "orientation": "h",
                "x": list(distances),
                "y": list(range(len(names))),
                "marker": {"color": css(theme.clew)},
                "text": [_share(distance) for distance in distances],
                "textposition": "outside",
                "cliponaxis": False,
                "customdata": [hover_text(name) for name in names],
                "hovertemplate": "%{customdata}: %{x:.2%} of rows<extra></extra>",
            }
        ],
        layout=quiet_layout(
            theme,
            height=60 + 26 * len(names),
            showlegend=False,
            margin={"l": 8, "r": 48, "t": 8, "b": 8},
            xaxis=quiet_axis(
                theme,
                "share of rows that would have to change bin",
                tickformat="~%",
                rangemode="tozero",
                fixedrange=True,
            ),
            yaxis=quiet_axis(
                theme,
                tickmode="array",
                tickvals=list(range(len(names))),
                ticktext=[_short(name) for name in names],
                autorange="reversed",
                showgrid=False,
                fixedrange=True,
            ),
        ),
    )


def _share(distance: float) -> str:
    return "< 0.1 %" if 0 < distance < 0.001 else f"{distance * 100:.1f} %"


def _short(label: str) -> str:
    short = label if len(label) <= _LONGEST_NAME else f"{label[: _LONGEST_NAME - 1]}…"
    return hover_text(short) or "(empty)"
