"""A decision threshold is followed by running workers, and stands in the log beside each answer."""

from __future__ import annotations

from typing import Any

import pytest

from clew.registry.thresholds import change_threshold
from clew.storage import compact, read_record, scan
from tests.registry.rides import rides
from tests.serving.workers import NOW, ROW, Place, fitted, wait_for

ROWS: list[dict[str, Any]] = [
    ROW | {"ride": f"r{number}", "warmth": row["warmth"], "hour": row["hour"]}
    for number, row in enumerate(rides(30, 7).select(["warmth", "hour"]).to_pylist())
]


def change(place: Place, threshold: float | None, name: str = "credit") -> None:
    with place.store.write() as tx:
        generation = change_threshold(tx, name, threshold, NOW, actor="ana", reason="missing one is dear")
    place.doorbell.ring(generation)
    place.settle(generation)


def declare_positive(place: Place, positive: str | None) -> None:
    with place.store.write() as tx:
        declaration = tx.find("deployments", {"name": "credit"})[0]["declaration"]
        tx.update("deployments", {"name": "credit"}, {"declaration": declaration | {"positive": positive}})


def answers_of(place: Place, worker: Any) -> list[dict[str, Any]]:
    answered = worker.predict(ROWS)
    assert answered.status_code == 200, answered.text
    answers: list[dict[str, Any]] = answered.json()
    return answers


def test_answers_follow_it_without_another_version(place: Place) -> None:
    place.serve(fitted())
    declare_positive(place, "busy")
    worker = place.start()
    before = answers_of(place, worker)
    middle = sorted(answer["probabilities"]["busy"] for answer in before)[len(before) // 2]
    change(place, middle)
    after = answers_of(place, worker)
    assert [a["probabilities"] for a in after] == [a["probabilities"] for a in before]
    for answer in after:
        is_positive = answer["probabilities"]["busy"] >= middle
        assert answer["prediction"] == ("busy" if is_positive else "calm")
    assert {answer["prediction"] for answer in after} == {"busy", "calm"}
    single = worker.predict(ROWS[0]).json()
    assert single["prediction"] == after[0]["prediction"]
    change(place, None)
    assert [a["prediction"] for a in answers_of(place, worker)] == [a["prediction"] for a in before]


def test_each_answer_is_logged_with_the_threshold_in_force_also_once_it_is_compacted(place: Place) -> None:
    place.serve(fitted())
    place.register(fitted(seed=1))
    declare_positive(place, "busy")
    worker = place.start()
    first = worker.predict(ROWS[0]).json()["prediction_id"]
    change(place, 0.25)
    generation = place.route(1, candidate=2, stage="shadow")
    place.settle(generation)
    second = worker.predict(ROWS[1]).json()["prediction_id"]
    wait_for(lambda: len(place.predictions()) == 3, "the shadow's answer")
    thresholds = {(record.key, record.version): record.threshold for _, record in place.predictions()}
    assert thresholds == {("r0", 1): None, ("r1", 1): 0.25, ("r1", 2): 0.25}
    shadow = next(record for _, record in place.predictions() if record.version == 2)
    assert shadow.probabilities is not None
    # The classes stand as the model has them: sorted.
    assert shadow.predicted == ("busy" if shadow.probabilities[0] >= 0.25 else "calm")
    worker.stop()
    compact(place.store, consumed=[], now=NOW)
    moved = [read_record(place.store, identity) for identity in (first, second)]
    assert [getattr(record, "threshold", "none") for record in moved] == [None, 0.25]
    assert scan(place.store, "credit").column("threshold").to_pylist().count(0.25) == 2


def test_a_version_that_no_threshold_can_decide_leaves_what_was_served(place: Place) -> None:
    place.serve(fitted())
    worker = place.start()
    declare_positive(place, "packed")
    change(place, 0.3)
    answered = worker.predict(ROWS[0])
    assert answered.status_code == 200
    assert place.predictions()[-1][1].threshold is None


@pytest.mark.parametrize(("positive", "answered"), [(None, "calm"), ("calm", "calm"), ("busy", "busy")])
def test_the_positive_class_is_the_second_or_the_declared_one(
    place: Place, positive: str | None, answered: str
) -> None:
    place.serve(fitted())
    declare_positive(place, positive)
    worker = place.start()
    change(place, 1e-9)
    assert {a["prediction"] for a in answers_of(place, worker)} == {answered}
