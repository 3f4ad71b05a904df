"""A request that comes again with its Idempotency-Key gets its first answer."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import httpx

from tests.serving.workers import ROW, TOKEN, Place, error_of, fitted


def test_the_first_answer_comes_again_byte_for_byte_after_a_restart_and_a_swap(place: Place) -> None:
    place.serve(fitted())
    worker = place.start()
    first = worker.predict(Idempotency_Key="k1")
    assert first.status_code == 200
    assert worker.predict(Idempotency_Key="k1").content == first.content
    assert worker.predict(Idempotency_Key="k2").json()["prediction_id"] != first.json()["prediction_id"]
    place.settle(place.route(place.register(fitted(seed=1))))
    assert worker.predict().json()["version"] == 2
    worker.kill()
    again = place.start().predict(Idempotency_Key="k1")
    assert again.content == first.content
    assert len(place.predictions()) == 3


def test_labels_have_keys_of_their_own(place: Place) -> None:
    place.serve(fitted())
    worker = place.start()
    label = {"ride": "r1", "busy": "calm"}
    answers = [worker.label(label, Idempotency_Key="k1").json() for _ in range(3)]
    assert answers == [{"accepted": 1}] * 3
    assert len(place.labels()) == 1
    assert worker.predict(Idempotency_Key="k1").status_code == 200


def test_a_key_is_of_one_request_and_of_one_caller(place: Place) -> None:
    place.serve(fitted())
    place.allow("hers", "Ann")
    worker = place.start()
    mine = worker.predict(Idempotency_Key="k1")
    assert error_of(worker.predict(ROW | {"hour": 9}, Idempotency_Key="k1"))[:2] == (
        422,
        "IDEMPOTENCY_KEY_REUSED",
    )
    hers = worker.predict(Idempotency_Key="k1", Authorization="Bearer hers")
    assert hers.json()["prediction_id"] != mine.json()["prediction_id"]
    assert error_of(worker.predict(Idempotency_Key="k" * 256))[:2] == (422, "IDEMPOTENCY_KEY_TOO_LONG")


def test_a_refused_request_may_be_mended_under_its_key(place: Place) -> None:
    place.serve(fitted())
    worker = place.start()
    assert worker.predict({"ride": "r1"}, Idempotency_Key="k1").status_code == 422
    assert worker.predict(Idempotency_Key="k1").status_code == 200


def test_of_many_at_once_on_two_workers_one_is_answered_and_all_get_its_answer(place: Place) -> None:
    place.serve(fitted())
    worker = place.start(n_workers=2)

    def ask(number: int) -> bytes:
        headers = {"Authorization": f"Bearer {TOKEN}", "Idempotency-Key": f"k{number // 16}"}
        return httpx.post(worker.url + "/predict/credit", json=ROW, headers=headers, timeout=30).content

    with ThreadPoolExecutor(16) as callers:
        answers = list(callers.map(ask, range(128)))
    for place_of_first in range(0, 128, 16):
        assert len(set(answers[place_of_first : place_of_first + 16])) == 1
    assert len(set(answers)) == 8
    assert len(place.predictions()) == 8
