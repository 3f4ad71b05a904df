"""A real worker whose disk is full: what it answers, and how loudly."""

from __future__ import annotations

from clew.serving.figures_file import WorkerFigures, read_figures
from tests.disks import full, small_disk
from tests.serving.workers import ROW, Place, error_of, fitted, wait_for

LABEL = {"ride": "r1", "busy": "calm"}


def figures_of(place: Place) -> WorkerFigures:
    [figures] = read_figures(place.store)
    return figures


def test_on_a_full_disk_nothing_is_answered_until_there_is_room_again(place: Place) -> None:
    place.serve(fitted())
    with small_disk(place.store.folder / "log") as disk:
        worker = place.start()
        answered = [worker.predict().json()["prediction_id"]]

        def refused() -> bool:
            response = worker.predict([ROW] * 20)  # what is left of the last page takes some
            if response.status_code == 200:
                answered.extend(each["prediction_id"] for each in response.json())
            return response.status_code != 200

        with full(disk):
            wait_for(refused, "a disk that is full")
            response = worker.predict([ROW] * 20)
            assert error_of(response)[:2] == (503, "LOG_FAILED")
            message = response.json()["error"]["message"]
            assert "No space left on device" in message
            assert "Free some space: it goes on by itself then" in message
            assert response.headers["Retry-After"]
            assert error_of(worker.label([LABEL] * 500))[:2] == (503, "LOG_FAILED")
            assert worker.client.get("/health").status_code == 200
            assert "the prediction log cannot be written" in place.errors()
            wait_for(lambda: figures_of(place).n_log_failures >= 3, "figures that tell of it")
            assert figures_of(place).n_unlogged == 0
        answered.append(worker.predict().json()["prediction_id"])
        assert {name for name, _ in place.predictions()} >= set(answered)
        assert worker.stop() == 0


def test_where_the_project_says_so_a_full_disk_is_answered_without_an_id_and_counted(place: Place) -> None:
    place.serve(fitted())
    with small_disk(place.store.folder / "log") as disk:
        worker = place.start(settings='log_failure = "answer"')
        assert worker.predict().json()["prediction_id"]

        def unlogged() -> bool:
            response = worker.predict([ROW] * 20)
            assert response.status_code == 200
            return all(each["prediction_id"] is None for each in response.json())

        with full(disk):
            wait_for(unlogged, "answers that are not logged")
            assert worker.predict([ROW] * 20).json()[0]["prediction"]
            # A label that is lost is lost for good, so it is refused whatever the setting says of answers.
            assert error_of(worker.label([LABEL] * 500))[:2] == (503, "LOG_FAILED")
            assert "the prediction log cannot be written" in place.errors()
            wait_for(lambda: figures_of(place).n_unlogged >= 40, "figures that count what has no record")
        assert worker.predict().json()["prediction_id"]
