from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import count
from typing import Any

import pytest

from clew.config import Settings
from clew.errors import StoreBusy
from clew.loop.jobs import LEASE, Job, advance, open_job, record, restarted, run_to_end
from clew.storage import Store
from clew.tracking import this_owner
from tests.loop.made import NOW
from tests.storage import processes
from tests.storage.processes import StartChild

ELSEWHERE = "another-machine:1:1"

# What a child process does to hold the same job as `begin` below.
HOLD = """
from clew.loop.jobs import open_job, record
from clew.tracking import this_owner
with open_store(settings, now=now) as store:
    job = open_job(store, key="release 1", kind="release", deployment="busy", step="fit",
                   owner=this_owner(), now=now)
    record(store, job.then("gate", package="p1"), now)
    say(this_owner())
    wait()
"""


@pytest.fixture
def start() -> Iterator[StartChild]:
    with processes.children() as start:
        yield start


def begin(store: Store, key: str = "release 1", owner: str = "", now: datetime = NOW) -> Job:
    return open_job(
        store, key=key, kind="release", deployment="busy", step="fit", owner=owner or this_owner(), now=now
    )


def row_of(store: Store, job: Job) -> dict[str, Any]:
    with store.read() as reader:
        row = reader.get("jobs", id=job.id)
    assert row is not None
    return row


def test_a_job_begins_at_its_first_step(store: Store) -> None:
    job = begin(store)
    assert (job.key, job.kind, job.deployment, job.step) == ("release 1", "release", "busy", "fit")
    assert (job.status, job.state, job.result, job.is_over) == ("running", {}, None, False)


def test_asking_twice_for_the_same_key_makes_one_job(store: Store) -> None:
    assert begin(store) == begin(store)
    assert begin(store).id != begin(store, "release 2").id
    with store.read() as reader:
        assert reader.count("jobs") == 2


def test_a_job_goes_on_where_it_stood(store: Store) -> None:
    record(store, begin(store).then("gate", package="p1"), NOW)
    again = begin(store)
    assert (again.step, again.state) == ("gate", {"package": "p1"})


def test_a_job_that_another_living_process_holds_is_refused(
    store: Store, settings: Settings, start: StartChild
) -> None:
    child = start(settings, HOLD)
    holder = processes.hear(child)
    with pytest.raises(StoreBusy) as caught:
        begin(store)
    assert (
        f"release 'busy' is being run by process {holder}, which was last heard of at 2026-03-01 12:00"
        in str(caught.value)
    )
    processes.tell(child)
    processes.finish(child)


def test_a_job_of_a_killed_process_is_taken_over_where_it_stood(
    store: Store, settings: Settings, start: StartChild
) -> None:
    child = start(settings, HOLD)
    holder = processes.hear(child)
    assert row_of(store, begin(store, "release 2"))["lease_owner"] == this_owner() != holder
    processes.kill(child)
    job = begin(store)
    assert (job.step, job.state) == ("gate", {"package": "p1"})
    assert row_of(store, job)["lease_owner"] == this_owner()


def test_a_process_elsewhere_is_believed_for_as_long_as_its_lease(store: Store) -> None:
    begin(store, owner=ELSEWHERE)
    with pytest.raises(StoreBusy, match=ELSEWHERE):
        begin(store, now=NOW + LEASE - timedelta(seconds=1))
    job = begin(store, now=NOW + LEASE)
    assert row_of(store, job)["lease_owner"] == this_owner()


def test_every_step_renews_the_lease(store: Store) -> None:
    job = begin(store, owner=ELSEWHERE)
    record(store, job.then("gate"), NOW + LEASE)
    with pytest.raises(StoreBusy, match="last heard of at 2026-03-01 18:00 UTC"):
        begin(store, now=NOW + LEASE + timedelta(hours=1))


def test_a_job_that_is_over_is_nobody_s(store: Store) -> None:
    job = begin(store, owner=ELSEWHERE)
    record(store, job.ended("done", version=3), NOW)
    found = begin(store)
    assert (found.is_over, found.status, found.state) == (True, "done", {"version": 3})


def test_a_step_moves_the_job_and_its_record(store: Store) -> None:
    job = begin(store)
    later = NOW + timedelta(days=1)
    moved = advance(store, job, {"fit": lambda job, _: job.then("gate", fit="f1")}, later)
    assert (moved.step, moved.state) == ("gate", {"fit": "f1"})
    row = row_of(store, job)
    assert (row["step"], row["state"], row["updated_at"]) == ("gate", {"fit": "f1"}, later)


def test_a_step_knows_the_moment_and_what_was_handed_on(store: Store) -> None:
    def fit(job: Job, now: datetime) -> Job:
        return job.then("gate", at=now.isoformat())

    def gate(job: Job, now: datetime) -> Job:
        return job.ended("done", took=(now - datetime.fromisoformat(job.state["at"])).days)

    steps = {"fit": fit, "gate": gate}
    job = advance(store, advance(store, begin(store), steps, NOW), steps, NOW + timedelta(days=2))
    assert job.state == {"at": NOW.isoformat(), "took": 2}


def test_a_step_that_waits_leaves_the_record_as_it_was(store: Store) -> None:
    job = begin(store)
    assert advance(store, job, {"fit": lambda job, _: job}, NOW + timedelta(days=1)) == job
    assert row_of(store, job)["updated_at"] == NOW


def test_a_job_that_is_over_is_not_moved_again(store: Store) -> None:
    ended = begin(store).ended("refused")
    assert advance(store, ended, {}, NOW) == ended


def test_a_step_that_raises_leaves_the_job_at_that_step(store: Store) -> None:
    def fails(_: Job, __: datetime) -> Job:
        raise RuntimeError("power is out")

    job = begin(store)
    with pytest.raises(RuntimeError):
        advance(store, job, {"fit": fails}, NOW)
    assert begin(store) == job


def test_a_job_runs_to_its_end(store: Store) -> None:
    hours = count()
    waited: list[datetime] = []

    def gate(job: Job, now: datetime) -> Job:
        waited.append(now)
        return job.ended("done") if len(waited) == 3 else job

    steps = {"fit": lambda job, _: job.then("gate"), "gate": gate}
    job = run_to_end(store, begin(store), steps, lambda: NOW + timedelta(hours=next(hours)))
    assert (job.status, job.step) == ("done", "end")
    assert waited == [NOW + timedelta(hours=hour) for hour in (1, 2, 3)]
    assert row_of(store, job)["status"] == "done"


def test_a_restarted_job_forgets_what_it_knew(store: Store) -> None:
    over = begin(store).ended("failed", why="lightning")
    record(store, over, NOW)
    again = restarted(store, over, "fit", NOW)
    assert begin(store) == again
    assert (again.id, again.status, again.step, again.state) == (over.id, "running", "fit", {})
