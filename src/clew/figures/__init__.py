"""Plain values in, Plotly figures out: the same ones for reports, notebooks and pages.

A figure is made for a theme, light or dark; its colours stay apart for colour-blind readers and no
meaning hangs on colour alone. Plotly loads when the first figure is made.
"""

from __future__ import annotations

from clew.figures.distributions import distances_figure, distribution_figure
from clew.figures.palette import DARK, LIGHT, Theme
from clew.figures.staleness import AgePoint, staleness_figure
from clew.figures.timeline import Line, Mark, Span, timeline_figure

__all__ = [
    "DARK",
    "LIGHT",
    "AgePoint",
    "Line",
    "Mark",
    "Span",
    "Theme",
    "distances_figure",
    "distribution_figure",
    "staleness_figure",
    "timeline_figure",
]
