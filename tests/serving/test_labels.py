"""Labels that arrive over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from clew.serving.figures_file import read_figures
from clew.storage.records import Label
from tests.serving.test_predicting import microseconds
from tests.serving.workers import NOW, Place, error_of, fitted, wait_for


def test_labels_by_key_and_by_prediction_and_taken_back(place: Place) -> None:
    place.serve(fitted())
    place.allow("hers", "Ann")
    place.doorbell.set_clock(NOW)
    worker = place.start()
    prediction = worker.predict().json()["prediction_id"]
    assert worker.label({"ride": "r1", "busy": "calm"}).json() == {"accepted": 1}
    assert worker.label({"prediction_id": prediction, "busy": "busy"}).json() == {"accepted": 1}
    rows = [{"ride": "never predicted", "busy": "calm"}, {"ride": "r1", "busy": None}]
    assert worker.label(rows, Authorization="Bearer hers").json() == {"accepted": 2}
    assert worker.label([]).json() == {"accepted": 0}
    now = microseconds(NOW)
    assert place.labels() == [
        Label("credit", now, "r1", "calm", "http", "tests"),
        Label("credit", now, None, "busy", "http", "tests", prediction),
        Label("credit", now, "never predicted", "calm", "http", "Ann"),
        Label("credit", now, "r1", None, "http", "Ann"),
    ]


@pytest.mark.parametrize(
    ("row", "code", "field"),
    [
        ({"ride": "r1"}, "MISSING_FIELD", "busy"),
        ({"busy": "calm"}, "MISSING_FIELD", "ride"),
        ({"ride": "r1", "busy": 1}, "WRONG_TYPE", "busy"),
        ({"ride": "r1", "busy": ""}, "WRONG_VALUE", "busy"),
        ({"ride": "", "busy": "calm"}, "WRONG_VALUE", "ride"),
        ({"ride": "r1", "busy": True}, "WRONG_TYPE", "busy"),
        ({"ride": 1, "busy": "calm"}, "WRONG_TYPE", "ride"),
        ({"prediction_id": "nonsense", "busy": "calm"}, "WRONG_TYPE", "prediction_id"),
        ({"ride": "r1", "busy": "calm", "bussy": "calm"}, "UNKNOWN_FIELD", "bussy"),
    ],
)
def test_one_bad_label_is_named_and_none_is_kept(
    row: dict[str, Any], code: str, field: str, place: Place
) -> None:
    place.serve(fitted())
    worker = place.start()
    good = {"ride": "r1", "busy": "calm"}
    assert error_of(worker.label([good, row])) == (422, code, 1, field)
    assert place.labels() == []


def test_numbers_are_labels_where_the_column_holds_numbers(place: Place) -> None:
    place.deploy(types={"busy": "int64", "ride": "int64"})
    worker = place.start()
    assert worker.label({"ride": 7.0, "busy": 1.0}).json() == {"accepted": 1}, "before there is any champion"
    assert error_of(worker.label({"ride": 7, "busy": "one"}))[:2] == (422, "WRONG_TYPE")
    assert error_of(worker.label({"ride": 7, "busy": 0.5}))[:2] == (422, "WRONG_TYPE")
    [label] = place.labels()
    assert (label.key, label.label) == (7, 1)
    assert isinstance(label.label, int)
    assert isinstance(label.key, int)


def test_labels_of_unknown_models_are_refused(place: Place) -> None:
    place.serve(fitted())
    response = place.start().label({"ride": "r1", "busy": "calm"}, name="credits")
    assert error_of(response)[:2] == (404, "RESOURCE_DOES_NOT_EXIST")


def test_a_class_that_the_champion_never_saw_is_kept_counted_and_told_once(place: Place) -> None:
    place.serve(fitted())
    worker = place.start()
    rows = [{"ride": "r1", "busy": "jammed"}, {"ride": "r2", "busy": "calm"}, {"ride": "r3", "busy": None}]
    for _ in range(2):
        assert worker.label(rows).json() == {"accepted": 3, "unknown_class": 1}
    assert [label.label for label in place.labels()] == ["jammed", "calm", None] * 2
    assert place.errors().count("labels of a class that the champion never saw") == 1
    assert "jammed" not in place.errors()
    wait_for(lambda: [each.n_unknown_classes for each in read_figures(place.store)] == [2], "the count")


def test_a_number_that_is_refused_is_told_what_the_column_holds(place: Place) -> None:
    place.deploy(types={"busy": "double"})
    message = place.start().label({"ride": "r1", "busy": "often"}).json()["error"]["message"]
    assert message == "'busy' is 'often', but the dataset's column holds numbers."
