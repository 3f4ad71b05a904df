"""How a metric changes with the age of the model that answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from clew.figures.bands import band_outline
from clew.figures.palette import LIGHT, Theme, css, quiet_axis, quiet_layout


@dataclass(frozen=True, slots=True)
class AgePoint:
    """The metric with its interval over the `n` answers of models aged `age_from` to `age_to` days."""

    age_from: float
    age_to: float
    n: int
    value: float
    lower: float
    upper: float

    @property
    def age(self) -> float:
        return (self.age_from + self.age_to) / 2


def staleness_figure(points: Sequence[AgePoint], *, metric: str, theme: Theme = LIGHT) -> Any:
    """The metric over model age, with its interval; an empty sequence gives an empty figure.

    Parameters
    ----------
    points
        In order of age.
    metric
        Its name, for the axis.
    theme
        Colours for a light or a dark page.

    Returns
    -------
    plotly.graph_objects.Figure
        A band and a line.
    """
    import plotly.graph_objects as go

    return go.Figure(
        data=[_band(points, theme), _line(points, metric, theme)],
        layout=quiet_layout(
            theme,
            height=300,
            showlegend=False,
            xaxis=quiet_axis(
                theme,
                "days since the newest row learned from",
                rangemode="tozero",
                showgrid=False,
                fixedrange=True,
            ),
            yaxis=quiet_axis(theme, metric, fixedrange=True),
        ),
    )


def _band(points: Sequence[AgePoint], theme: Theme) -> dict[str, Any]:
    x, y = band_outline([p.age for p in points], [p.lower for p in points], [p.upper for p in points])
    return {
        "type": "scatter",
        "name": "95 % interval",
        "x": x,
        "y": y,
        "mode": "lines",
        "line": {"width": 0},
        "fill": "toself",
        "fillcolor": css(theme.clew, 0.18),
        "hoverinfo": "skip",
    }


def _line(points: Sequence[AgePoint], metric: str, theme: Theme) -> dict[str, Any]:
    return {
        "type": "scatter",
        "name": metric,
        "x": [point.age for point in points],
        "y": [point.value for point in points],
        "mode": "lines+markers",
        "line": {"color": css(theme.clew), "width": 2.5},
        "marker": {"size": 6},
        "text": [
            f"{point.age_from:.0f} to {point.age_to:.0f} days old<br>"
            f"<b>{point.value:.4g}</b> ({point.lower:.4g} to {point.upper:.4g}), n = {point.n:,}"
            for point in points
        ],
        "hovertemplate": "%{text}<extra></extra>",
    }
