"""What a caller gets who asks a real worker, and what the log holds afterwards."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from clew.serving.refusals import Refused
from clew.serving.rows import read_rows
from tests.registry.rides import CITIES, busy, rides, signature_of
from tests.serving.workers import CLASSES, NOW, ROW, Place, error_of, fitted

FEATURES = ("warmth", "hour", "holiday", "city")
MICROSECOND = timedelta(microseconds=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def microseconds(moment: datetime) -> int:
    return (moment - EPOCH) // MICROSECOND


def test_an_answer_has_exactly_the_promised_fields_and_is_in_the_log(place: Place) -> None:
    model = fitted()
    place.serve(model)
    place.doorbell.set_clock(NOW)
    answer = place.start().predict(ROW | {"weekday": "mon"}).json()
    [(name, record)] = place.predictions()
    assert list(answer) == ["prediction", "probabilities", "prediction_id", "model", "version"]
    assert (answer["model"], answer["version"], answer["prediction_id"]) == ("credit", 1, name)
    assert set(answer["probabilities"]) == set(CLASSES)
    assert max(answer["probabilities"], key=answer["probabilities"].get) == answer["prediction"]
    assert (record.deployment, record.version, record.role) == ("credit", 1, "champion")
    assert (record.key, record.entity, record.unseen) == ("r1", None, ())
    assert record.answered_at == record.event_time == microseconds(NOW)
    asked_with = dict(zip(record.names, record.features, strict=True))
    assert asked_with == {name: ROW[name] for name in FEATURES} | {"weekday": "mon"}
    assert record.predicted == answer["prediction"]
    assert record.probabilities == tuple(answer["probabilities"].values())


def test_a_list_gets_a_list_with_the_answers_of_the_model_itself(place: Place) -> None:
    model = fitted()
    place.serve(model)
    worker = place.start()
    table = rides(40, seed=5)
    rows = [{"ride": f"r{n}", **row} for n, row in enumerate(table.to_pylist())]
    answers = worker.predict(rows).json()
    import pandas as pd

    frame = table.to_pandas().assign(city=pd.Categorical(table["city"].to_pylist(), categories=CITIES))
    assert [answer["prediction"] for answer in answers] == model.predict(frame).tolist()
    assert [name for name, _ in place.predictions()] == [answer["prediction_id"] for answer in answers]
    assert len({record.request for _, record in place.predictions()}) == 1
    assert worker.predict([]).json() == []
    assert len(place.predictions()) == 40


def test_numbers_have_no_probabilities(place: Place) -> None:
    place.serve(fitted(classes=None), classes=None)
    answer = place.start().predict().json()
    assert list(answer) == ["prediction", "prediction_id", "model", "version"]
    assert isinstance(answer["prediction"], float)
    assert place.predictions()[0][1].probabilities is None


@pytest.mark.parametrize("classes", [(0, 1), (False, True)])
def test_classes_that_are_no_text_name_their_probabilities_as_json_writes_them(
    classes: tuple[Any, Any], place: Place
) -> None:
    place.serve(fitted(classes=classes), classes=classes)
    answer = place.start().predict().json()
    assert answer["prediction"] in classes
    assert list(answer["probabilities"]) == [msgspec.json.encode(each).decode() for each in classes]


def test_an_unseen_category_counts_as_missing_and_is_flagged(place: Place) -> None:
    place.serve(fitted())
    worker = place.start()
    unseen, missing = (worker.predict(ROW | {"city": city}).json() for city in ("Rome", None))
    assert unseen["probabilities"] == missing["probabilities"]
    assert [record.unseen for _, record in place.predictions()] == [("city",), ()]


def test_the_event_time_is_read_in_the_declared_zone_and_logged_in_utc(place: Place) -> None:
    place.deploy(timezone="Europe/Berlin")
    place.route(place.register(fitted()))
    place.doorbell.set_clock(NOW)
    worker = place.start()
    for at in ("2026-02-01T12:00:00Z", "2026-02-01 13:00", "2026-02-01T13:00:00+01:00", None):
        assert worker.predict(ROW | {"at": at}).status_code == 200
    noon = microseconds(datetime(2026, 2, 1, 12, tzinfo=UTC))
    times = [record.event_time for _, record in place.predictions()]
    assert times == [noon, noon, noon, microseconds(NOW)]


@pytest.mark.parametrize(
    ("at", "words"),
    [
        (
            "2026-03-01T12:05:01Z",
            "more than 5 minutes ahead of the clock, which stands at 2026-03-01T12:00:00",
        ),
        ("2026-03-01 13:06", "one of Europe/Berlin; that is 2026-03-01T12:06:00"),
        ("yesterday", "is no time such as"),
        (1772366400, "is no text; write a time"),
        ("2025-10-26 02:30", "happened twice in Europe/Berlin"),
        ("2025-03-30 02:30", "never happened in Europe/Berlin"),
    ],
)
def test_a_time_that_cannot_be_is_refused(at: Any, words: str, place: Place) -> None:
    place.deploy(timezone="Europe/Berlin")
    place.route(place.register(fitted()))
    place.doorbell.set_clock(NOW)
    worker = place.start()
    assert worker.predict(ROW | {"at": "2026-03-01T12:05:00Z"}).status_code == 200
    response = worker.predict([ROW, ROW | {"at": at}])
    assert error_of(response) == (422, "WRONG_TIME", 1, "at")
    assert words in response.json()["error"]["message"]
    assert len(place.predictions()) == 1


def without(name: str) -> dict[str, Any]:
    return {field: value for field, value in ROW.items() if field != name}


@pytest.mark.parametrize(
    ("row", "code", "field"),
    [
        (without("ride"), "MISSING_FIELD", "ride"),
        (ROW | {"ride": None}, "MISSING_FIELD", "ride"),
        (ROW | {"ride": 7}, "WRONG_TYPE", "ride"),
        (ROW | {"ride": ""}, "WRONG_VALUE", "ride"),
        (without("hour"), "MISSING_FIELD", "hour"),
        (ROW | {"hour": "eight"}, "WRONG_VALUE", "hour"),
        (ROW | {"warmth": "cold"}, "WRONG_VALUE", "warmth"),
        (ROW | {"city": 3}, "WRONG_VALUE", "city"),
        (ROW | {"warmth": [1.0]}, "WRONG_TYPE", "warmth"),
        (ROW | {"warmth": {"value": 1.0}}, "WRONG_TYPE", "warmth"),
        (ROW | {"hour": 2**64}, "WRONG_TYPE", "hour"),
    ],
)
def test_one_bad_row_is_named_and_none_is_answered(
    row: dict[str, Any], code: str, field: str, place: Place
) -> None:
    place.serve(fitted())
    worker = place.start()
    assert error_of(worker.predict([ROW, ROW, row])) == (422, code, 2, field)
    assert error_of(worker.predict(row)) == (422, code, None, field)
    assert place.log() == []


def test_null_is_a_missing_value_where_the_column_takes_it(place: Place) -> None:
    place.serve(fitted())
    answer = place.start().predict(ROW | {"warmth": None})
    assert answer.status_code == 200
    assert place.predictions()[0][1].features[0] is None


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"ride": "r1", "warmth": NaN}', "byte 25"),
        (b'{"ride": "r1", "warmth": Infinity}', "byte 25"),
        (b'{"ride": "r1"', "ends at byte 13, before it is complete"),
        (b"", "ends at byte 0"),
        (b'{"ride": "r1"} {}', "byte 15"),
        (b'{"ride": "\xff"}', "no UTF-8 at byte 10"),
    ],
)
def test_what_is_no_json_is_refused_with_the_position(body: bytes, words: str, place: Place) -> None:
    place.serve(fitted())
    response = place.start().client.post("/predict/credit", content=body)
    assert error_of(response) == (400, "MALFORMED_JSON", None, None)
    assert words in response.json()["error"]["message"]


@pytest.mark.parametrize("body", [b"3", b"null", b'"text"', b"[1]", b"[[]]"])
def test_what_is_no_object_is_refused(body: bytes, place: Place) -> None:
    place.serve(fitted())
    response = place.start().client.post("/predict/credit", content=body)
    assert error_of(response)[:2] == (422, "WRONG_TYPE")


def test_an_entity_is_asked_for_and_logged_where_one_is_declared(place: Place) -> None:
    place.deploy(entity="rider", types={"rider": "string"})
    place.route(place.register(fitted()))
    worker = place.start()
    assert error_of(worker.predict()) == (422, "MISSING_FIELD", None, "rider")
    message = worker.predict().json()["error"]["message"]
    assert message.endswith("A row holds: ride, rider, at, warmth, hour, holiday, city, weekday.")
    assert "Is it meant by 'ridder'?" in worker.predict(ROW | {"ridder": "Ann"}).json()["error"]["message"]
    assert worker.predict(ROW | {"rider": "Ann"}).status_code == 200
    [(_, record)] = place.predictions()
    assert record.entity == "Ann"
    assert "rider" not in record.names


def test_models_that_cannot_answer_say_why(place: Place) -> None:
    place.serve(fitted())
    place.deploy("waiting")
    place.serve(fitted(), "old")
    place.route(1, "old", stage="retired")
    worker = place.start()
    unknown = worker.predict(name="credits")
    assert error_of(unknown) == (404, "RESOURCE_DOES_NOT_EXIST", None, None)
    assert "Did you mean 'credit'?" in unknown.json()["error"]["message"]
    assert error_of(worker.predict(name="old")) == (410, "MODEL_RETIRED", None, None)
    waiting = worker.predict(name="waiting")
    assert error_of(waiting) == (503, "MODEL_NOT_READY", None, None)
    assert "waits for its first champion" in waiting.json()["error"]["message"]
    assert waiting.headers["Retry-After"] == "5"


@pytest.mark.parametrize("number", [b"1e400", b"-1.5E+999"])
def test_a_number_beyond_all_numbers_is_told_as_one(number: bytes) -> None:
    with pytest.raises(Refused, match="that is beyond what can be computed with") as caught:
        read_rows(b'{"ride": "r1", "warmth": ' + number + b"}", 10)
    assert (caught.value.status, caught.value.code) == (400, "MALFORMED_JSON")
    assert "at byte 25" in caught.value.message


def test_null_for_a_model_that_cannot_take_it_is_told_to_the_caller_in_words_for_them(place: Place) -> None:
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    table = rides(300)
    signature = signature_of(table, CLASSES)
    X = signature.to_frame(table)
    model = make_pipeline(
        make_column_transformer(("passthrough", ["warmth", "hour"])), LogisticRegression()
    ).fit(X, busy(table, CLASSES))
    place.serve(model)
    worker = place.start()
    said = worker.predict(ROW | {"warmth": None}).json()["error"]
    assert said["message"] == (
        "'warmth' is null, which version 1 of 'credit' cannot take: in its training the value was always"
        " known. Send the value."
    )
    assert (said["code"], said["row"], said["field"]) == ("WRONG_VALUE", None, "warmth")
    in_list = worker.predict([ROW, ROW | {"warmth": None}]).json()["error"]
    assert (in_list["row"], in_list["message"].startswith("Row 1: 'warmth' is null")) == (1, True)
