"""The system's clock over a machine's that somebody sets: handed in, as no test may set the real one."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clew.config import load_settings
from clew.errors import UsageError
from clew.server.clock import (
    LEAP,
    LEAP_BELIEVED_SECONDS,
    Clock,
    ClockState,
    open_clock,
    read_clock,
    system_now,
)
from clew.storage import Store, open_store

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECOND, MINUTE, DAY, YEAR = (
    timedelta(**{unit: n}) for unit, n in (("seconds", 1), ("minutes", 1), ("days", 1), ("days", 365))
)


@dataclass
class Machine:
    """A machine whose time passes when it is told to, and whose clock may be set."""

    shown: datetime = NOON
    seconds: float = 0.0

    def wall(self) -> datetime:
        return self.shown

    def steady(self) -> float:
        return self.seconds

    def passes(self, time: timedelta) -> None:
        self.shown += time
        self.seconds += time.total_seconds()

    def is_set(self, by: timedelta) -> None:
        self.shown += by


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(load_settings(tmp_path, {}), now=NOON) as store:
        yield store


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def clock(store: Store, machine: Machine) -> Clock:
    return open_clock(store, "real", None, machine.wall, machine.steady)


def trouble_with(clock: Clock) -> str | None:
    """Why it stands still; looked up anew each time, as another look at the time may change it."""
    return clock.trouble


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    return [(record.levelno, record.getMessage()) for record in caplog.records]


# ---------------------------------------------------------------- real


def test_it_goes_with_the_machine_and_says_nothing(
    clock: Clock, machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    for time in (SECOND, DAY, YEAR):  # however long nobody asks
        machine.passes(time)
        assert clock.now() == machine.shown
    assert trouble_with(clock) is None
    assert told(caplog) == []


def test_a_step_back_of_seconds_is_waited_out_in_silence(
    clock: Clock, machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    machine.is_set(-20 * SECOND)
    assert (clock.now(), clock.trouble) == (NOON, None)
    machine.passes(21 * SECOND)
    assert clock.now() == machine.shown == NOON + SECOND
    assert told(caplog) == []


def test_set_back_a_year_it_stands_still_and_says_so_once(
    clock: Clock, machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    machine.is_set(-YEAR)
    for _ in range(100):
        machine.passes(MINUTE)
        assert clock.now() == NOON
    assert clock.trouble is not None
    assert "went back to 2025-03-01 13:40:00 UTC" in clock.trouble
    assert "Nothing is due before it is 2026-03-01 12:00:00 UTC again, and" in clock.trouble
    assert told(caplog) == [(logging.ERROR, "the clock stands still")]
    machine.is_set(YEAR)
    assert clock.now() == NOON + 100 * MINUTE, "set right, it is no leap"
    assert trouble_with(clock) is None
    assert told(caplog)[1:] == [(logging.WARNING, "the clock goes again")]


def test_after_a_restart_it_still_stands_where_it_stood(store: Store, clock: Clock, machine: Machine) -> None:
    machine.passes(DAY)
    clock.keep()
    machine.is_set(-YEAR)
    again = open_clock(store, None, None, machine.wall, machine.steady)
    assert again.now() == NOON + DAY
    assert again.trouble is not None
    assert system_now(store, machine.wall()) == NOON + DAY


def test_a_leap_of_a_year_that_is_set_right_in_time_never_happened(
    clock: Clock, machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    machine.is_set(YEAR)
    for _ in range(9):
        machine.passes(MINUTE)
        assert clock.now() == NOON
    assert clock.trouble is not None
    assert "leapt from 2026-03-01 12:09:00 UTC to 2027-03-01 12:09:00 UTC" in clock.trouble
    assert "if it is so for 10 minutes it goes on there" in clock.trouble
    machine.is_set(-YEAR)
    assert clock.now() == NOON + 9 * MINUTE
    assert trouble_with(clock) is None
    assert told(caplog) == [
        (logging.ERROR, "the clock stands still"),
        (logging.WARNING, "the clock goes again"),
    ]


def test_a_leap_that_lasts_is_believed(clock: Clock, machine: Machine) -> None:
    machine.is_set(YEAR)
    assert clock.now() == NOON
    machine.passes(timedelta(seconds=LEAP_BELIEVED_SECONDS))
    assert clock.now() == machine.shown
    assert trouble_with(clock) is None
    machine.passes(SECOND)
    assert clock.now() == machine.shown


def test_a_second_leap_has_to_last_as_long_as_the_first(clock: Clock, machine: Machine) -> None:
    for _ in range(3):
        machine.is_set(YEAR)
        clock.now()
        machine.passes(9 * MINUTE)
        assert clock.trouble is not None
        machine.is_set(-YEAR)
        assert clock.now() == machine.shown


def test_a_leap_of_less_than_a_day_is_the_machines_own_affair(clock: Clock, machine: Machine) -> None:
    machine.is_set(LEAP)
    assert (clock.now(), clock.trouble) == (NOON + LEAP, None)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(moves=st.lists(st.tuples(st.integers(0, 2_000), st.integers(-800, 800))))
def test_whatever_the_machine_shows_the_clock_never_goes_back(
    moves: list[tuple[int, int]], store: Store
) -> None:
    machine = Machine()
    clock = Clock(store, ClockState("real", NOON), machine.wall, machine.steady)
    before = clock.now()
    for n_seconds, n_days in moves:
        machine.passes(n_seconds * SECOND)
        machine.is_set(n_days * DAY)
        now = clock.now()
        assert before <= now
        assert now in (before, machine.shown)
        is_slightly_behind = timedelta(0) <= before - machine.shown <= MINUTE
        assert (clock.trouble is None) == (now == machine.shown or is_slightly_behind)
        before = now


# ---------------------------------------------------------------- replay


def test_a_replay_knows_no_machine_and_moves_forwards_only(store: Store, machine: Machine) -> None:
    clock = open_clock(store, "replay", NOON - YEAR, machine.wall, machine.steady)
    machine.is_set(5 * YEAR)
    assert clock.now() == NOON - YEAR
    clock.move(NOON)
    clock.move(NOON)
    with pytest.raises(UsageError, match=r"stands at 2026-03-01T12:00:00\+00:00 and cannot go back to 2026"):
        clock.move(NOON - SECOND)
    stored = read_clock(store)
    assert stored is not None
    assert stored.now == clock.now() == NOON


def test_a_replay_of_the_future_cannot_become_real(store: Store, machine: Machine) -> None:
    open_clock(store, "replay", NOON + YEAR, machine.wall, machine.steady)
    with pytest.raises(UsageError, match="which is still to come"):
        open_clock(store, "real", None, machine.wall, machine.steady)
