from __future__ import annotations

from clew.figures import AgePoint, staleness_figure

POINTS = [AgePoint(0, 7, 900, 0.9, 0.88, 0.92), AgePoint(7, 30, 3000, 0.85, 0.84, 0.86)]


def test_the_curve_goes_through_the_middle_of_each_age() -> None:
    band, line = staleness_figure(POINTS, metric="accuracy").data
    assert list(line.x) == [3.5, 18.5]
    assert list(line.y) == [0.9, 0.85]
    assert list(band.y) == [0.92, 0.86, 0.84, 0.88]


def test_a_hover_label_says_age_value_interval_and_count() -> None:
    _, line = staleness_figure(POINTS, metric="accuracy").data
    assert "7 to 30 days" in line.text[1]
    assert "0.84 to 0.86" in line.text[1]
    assert "n = 3,000" in line.text[1]


def test_nothing_measured_gives_an_empty_curve() -> None:
    band, line = staleness_figure([], metric="accuracy").data
    assert list(line.x) == []
    assert list(band.x) == []
