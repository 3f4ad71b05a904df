"""Versions are exchanged while requests come: nobody is refused, and everybody is told who answered."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import httpx

from tests.serving.workers import ROW, TOKEN, Place, Worker, fitted, wait_for

N_SWAPS, N_CALLERS = 100, 4


@dataclass
class Load:
    """Callers that ask without a pause until they are told to stop, each over one kept connection."""

    worker: Worker
    stopped: threading.Event = field(default_factory=threading.Event)
    versions: list[int] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def ask_until_stopped(self) -> None:
        authorised = {"Authorization": f"Bearer {TOKEN}"}
        with httpx.Client(base_url=self.worker.url, headers=authorised, timeout=30) as client:
            while not self.stopped.is_set():
                try:
                    answer = client.post("/predict/credit", json=[ROW, ROW])
                except httpx.HTTPError as error:
                    self.failures.append(repr(error))
                    continue
                if answer.status_code != 200:
                    self.failures.append(answer.text)
                    continue
                first, second = answer.json()
                if first["version"] != second["version"]:
                    self.failures.append(f"one request, two versions: {answer.text}")
                self.versions.append(first["version"])
                self.ids += [first["prediction_id"], second["prediction_id"]]

    def wait_for(self, version: int, since: int) -> None:
        """Until somebody was answered by this version after so many answers."""
        wait_for(lambda: self.failures or version in self.versions[since:], f"an answer of version {version}")


def test_a_hundred_swaps_under_load_fail_no_request(place: Place) -> None:
    place.serve(fitted())
    place.register(fitted(seed=1))
    worker = place.start(n_workers=2)
    load = Load(worker)
    callers = [threading.Thread(target=load.ask_until_stopped) for _ in range(N_CALLERS)]
    for caller in callers:
        caller.start()
    try:
        for swap in range(N_SWAPS):
            version = 2 - swap % 2
            # Settled means that both workers say so, as the loop waits for it before it goes on.
            place.settle(place.route(version), n_workers=2)
            load.wait_for(version, since=len(load.versions))
    finally:
        load.stopped.set()
        for caller in callers:
            caller.join()
    assert load.failures == []
    assert len(load.ids) == len(set(load.ids))
    assert {name for name, _ in place.predictions()} == set(load.ids)
