from __future__ import annotations

import json
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest

from clew.figures import DARK, LIGHT, Line, Mark, Span, Theme, timeline_figure

EDGES = [datetime(2011, month, 1, tzinfo=UTC) for month in (7, 8, 9, 10)]
WINDOWS = list(pairwise(EDGES))
CLEW = Line("clew", "with Clew", (0.9, 0.88, 0.91), (0.88, 0.86, 0.89), (0.92, 0.9, 0.93))
FROZEN = Line("frozen", "frozen first model", (0.9, None, 0.7), (0.88, None, 0.67), (0.92, None, 0.73))
SPANS = [
    Span("v1", EDGES[0], EDGES[2], "first champion"),
    Span("v2", EDGES[2], EDGES[3], "newest 1W <b>bold</b>"),
]
MARKS = [
    Mark(EDGES[1], "promoted", "champion is version 2"),
    Mark(EDGES[1], "page", "accuracy fell & fell <script>alert(1)</script>"),
    Mark(EDGES[2], "something new", "nobody foresaw this kind"),
]


def figure(theme: Theme = LIGHT, **more: Any) -> Any:
    drawn: dict[str, Any] = {"spans": SPANS, "marks": MARKS} | more
    return timeline_figure(WINDOWS, [FROZEN, CLEW], metric="accuracy", theme=theme, **drawn)


def trace(made: Any, name: str) -> Any:
    return next(each for each in made.data if each.name == name)


def test_every_line_has_a_curve_and_a_band() -> None:
    names = [each.name for each in figure().data]
    assert {"with Clew", "with Clew, 95 % interval", "frozen first model"} <= set(names)
    assert list(trace(figure(), "with Clew").y) == [0.9, 0.88, 0.91]


def test_a_window_without_labels_is_a_gap_in_curve_and_band() -> None:
    assert list(trace(figure(), "frozen first model").y) == [0.9, None, 0.7]
    band = trace(figure(), "frozen first model, 95 % interval")
    assert list(band.y) == [0.92, 0.88, None, 0.73, 0.67]


def test_a_point_stands_in_the_middle_of_its_window() -> None:
    first = trace(figure(), "with Clew").x[0]
    assert WINDOWS[0][0] < first < WINDOWS[0][1]


def test_each_kind_of_mark_has_a_lane_with_its_name() -> None:
    axis = figure().layout.yaxis2
    assert list(axis.ticktext) == ["page", "promoted", "something new"]
    lanes = {each.name: list(each.y) for each in figure().data if each.yaxis == "y2"}
    assert lanes == {"page": [0], "promoted": [1], "something new": [2]}


def test_the_kinds_of_marks_differ_in_shape_too() -> None:
    lanes = [each for each in figure().data if each.yaxis == "y2"]
    assert len({each.marker.symbol for each in lanes}) == len(lanes)


def test_a_version_is_a_labelled_bar_as_long_as_it_answered() -> None:
    bar = trace(figure(), "v1")
    assert list(bar.text) == ["v1"]
    assert bar.x[0] == (EDGES[2] - EDGES[0]).total_seconds() * 1000


def test_text_of_the_project_is_never_markup() -> None:
    shown = json.dumps(json.loads(figure().to_json()))
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown
    assert "<b>bold</b>" not in shown


def test_a_hover_label_shows_the_sentence_and_the_interval() -> None:
    assert "accuracy fell &amp; fell" in trace(figure(), "page").text[0]
    assert "0.88 to 0.92" in trace(figure(), "with Clew").text[0]


def test_themes_differ_in_colours_only() -> None:
    light, dark = (json.loads(figure(theme).to_json()) for theme in (LIGHT, DARK))
    assert [each["name"] for each in light["data"]] == [each["name"] for each in dark["data"]]
    assert light["layout"]["height"] == dark["layout"]["height"]
    assert light["data"][2]["line"]["color"] != dark["data"][2]["line"]["color"]


@pytest.mark.parametrize("more", [{"spans": []}, {"marks": []}, {"spans": [], "marks": []}])
def test_lanes_and_versions_may_be_missing(more: dict[str, Any]) -> None:
    domain = figure(**more).layout.yaxis.domain
    assert 0 <= domain[0] < domain[1] == 1


def test_without_a_window_there_is_still_a_figure() -> None:
    empty = Line("clew", "with Clew", (), (), ())
    assert timeline_figure([], [empty], metric="accuracy").layout.xaxis.range is None
