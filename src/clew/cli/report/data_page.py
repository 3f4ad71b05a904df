"""The page about two snapshots: what differs, and a picture of each column that moved."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from clew.cli.data_diff import cell, distance, verdict, what_differs
from clew.cli.report.page import render_page, write_page
from clew.cli.words import counted, day, number
from clew.figures import DARK, LIGHT, distances_figure, distribution_figure

if TYPE_CHECKING:
    from clew.loop.data_diff import DataDiff

N_PICTURES = 24
"""Columns beyond these, which moved less, stand in the table only."""


def write_data_page(diff: DataDiff, path: Path, *, command: str) -> None:
    """Write the page to `path`, whole or not at all.

    Parameters
    ----------
    command
        The command line that made the comparison.
    """
    write_page(render_data_page(diff, command=command), path)


def render_data_page(diff: DataDiff, *, command: str) -> str:
    """The page's text."""
    moved = [shift for shift in diff.shifts if shift.distance > 0]
    pictured = moved[:N_PICTURES]
    figures: dict[str, Any] = {}
    for theme in (LIGHT, DARK):
        if pictured:
            names, distances = [each.name for each in pictured], [each.distance for each in pictured]
            figures[f"distances-{theme.name}"] = distances_figure(names, distances, theme=theme)
        for place, shift in enumerate(pictured):
            figures[f"column-{place}-{theme.name}"] = distribution_figure(
                shift.labels, shift.then, shift.now, theme=theme
            )
    facts = {
        "diff": diff,
        "title": verdict(diff),
        "facts": what_differs(diff),
        "pictured": pictured,
        "n_still": len(diff.shifts) - len(moved),
        "n_unpictured": len(moved) - len(pictured),
        "cell": cell,
        "distance": distance,
        "counted": counted,
        "number": number,
        "day": day,
    }
    return render_page("data.html.j2", facts, figures, command=command)
