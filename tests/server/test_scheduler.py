"""The thread that lives the loop, over a machine's clock that is handed in and jumps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from clew.config import load_settings
from clew.server.clock import LEAP_BELIEVED_SECONDS, open_clock
from clew.server.measures import LoopMeasures
from clew.server.presence import run_folder
from clew.server.scheduler import Scheduler
from clew.server.status import STATUS_FILE
from clew.serving.doorbell import Doorbell
from clew.storage import Store, open_store
from tests.server.running import eventually
from tests.server.small_live import HOUR, SmallLive
from tests.server.test_clock import MINUTE, NOON, YEAR, Machine


class Watched(Machine):
    """Counts how often somebody looks at its clock."""

    n_looks = 0

    def wall(self) -> datetime:
        self.n_looks += 1
        return super().wall()


@pytest.fixture
def machine() -> Watched:
    return Watched()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(load_settings(tmp_path, {}), now=NOON) as store:
        yield store


@contextmanager
def ticking(store: Store, machine: Watched) -> Iterator[Scheduler]:
    """The loop of dice, which are checked once an hour."""
    run = run_folder(store.folder)
    bell, clock = Doorbell(run), open_clock(store, "real", None, machine.wall, machine.steady)
    scheduler = Scheduler(store, SmallLive(store, store.folder), clock, bell, run, LoopMeasures())
    scheduler.go_live()
    scheduler.start()
    try:
        yield scheduler
    finally:
        assert scheduler.stop(10)
        bell.close()


def checks(store: Store) -> list[datetime]:
    with store.read() as reader:
        return [row["at"] for row in reader.find("decisions", {"kind": "check"}, ["at"])]


def rounds_pass(machine: Watched) -> None:
    """Until the thread has looked at the clock often enough to have gone round."""
    seen = machine.n_looks
    eventually(lambda: machine.n_looks > seen + 6)


def test_after_the_machines_clock_went_back_no_hour_is_lived_twice_and_none_is_left_out(
    store: Store, machine: Watched
) -> None:
    with ticking(store, machine) as scheduler:
        machine.passes(2 * HOUR)
        eventually(lambda: len(checks(store)) == 2)
        machine.is_set(-YEAR)
        eventually(lambda: not scheduler.is_healthy)
        machine.passes(HOUR)
        rounds_pass(machine)
        assert len(checks(store)) == 2
        done = scheduler.order("pause", "dice", {}, actor="ana", reason="people may still steer")
        assert (done.status, done.asked_at) == ("done", NOON + 2 * HOUR)
        told = eventually(
            lambda: msgspec.json.decode((run_folder(store.folder) / STATUS_FILE).read_bytes())[
                "clock_trouble"
            ]
        )
        assert "went back" in told
        machine.is_set(YEAR)
        eventually(lambda: scheduler.is_healthy)
        eventually(lambda: len(checks(store)) == 3)
    assert checks(store) == [NOON + n * HOUR for n in (1, 2, 3)]


def test_a_year_that_the_machine_leaps_by_is_lived_only_when_it_lasts(store: Store, machine: Watched) -> None:
    with ticking(store, machine) as scheduler:
        machine.is_set(YEAR)
        eventually(lambda: not scheduler.is_healthy)
        machine.passes(9 * MINUTE)
        rounds_pass(machine)
        assert checks(store) == []
        machine.is_set(-YEAR)
        eventually(lambda: scheduler.is_healthy)
        machine.is_set(3 * 24 * HOUR)  # as when a halted machine goes on
        eventually(lambda: not scheduler.is_healthy)
        machine.passes(timedelta(seconds=LEAP_BELIEVED_SECONDS))
        eventually(lambda: len(checks(store)) == 3 * 24)
        assert scheduler.is_healthy
