"""The clock of a running system: real, or a replay that moves only when it is told to.

Its mode and where it stands are rows of the store, so that a restart goes on where it was. It never moves
back, whatever the machine's clock does, and a leap of the machine's clock is not believed at once: by a year
too far every label would count as complete and every answer that waits for one would be given up, which no
correction takes back.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal, TypeAlias, cast

from clew.errors import UsageError

if TYPE_CHECKING:
    from clew.storage import Reader, Store, Transaction

log = logging.getLogger("clew.server")

Mode: TypeAlias = Literal["real", "replay"]

MODE_KEY, NOW_KEY = "clock_mode", "clock_now"

KEPT_EVERY = timedelta(seconds=10)
"""How far a real clock may run ahead of what is stored of it."""

BACK = timedelta(minutes=1)
"""By how much the machine's clock may lie behind this one before that is told: less is mended by waiting."""
LEAP = timedelta(days=1)
"""By how much more than time has passed the machine's clock may go forward at once."""
LEAP_BELIEVED_SECONDS = 600.0
"""How long a leap must last to be believed: a wrong clock is usually set right within minutes, and a machine
that was halted for a week is right to leap."""


@dataclass(frozen=True, slots=True)
class ClockState:
    """Which clock a store goes by, and where it stands."""

    mode: Mode
    now: datetime


def wall_clock() -> datetime:
    """The machine's own clock."""
    return datetime.now(UTC)


def steady_clock() -> float:
    """Seconds that pass evenly, also while the machine sleeps; nobody can set them."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def read_clock(store: Store) -> ClockState | None:
    """The clock as it is stored; None before the first start."""
    with store.read() as reader:
        return _state(reader)


def system_now(store: Store, wall: datetime) -> datetime:
    """The time by the store's clock, for a command given at `wall` by the machine's."""
    state = read_clock(store)
    if state is None:
        return wall
    return state.now if state.mode == "replay" else max(state.now, wall)


class Clock:
    """The clock of this process; made by `open_clock`. Safe for several threads.

    Attributes
    ----------
    trouble
        Why a real clock stands still, in a sentence; None while it goes.
    """

    def __init__(
        self,
        store: Store,
        state: ClockState,
        wall: Callable[[], datetime] = wall_clock,
        steady: Callable[[], float] = steady_clock,
    ) -> None:
        self._store, self._wall, self._steady = store, wall, steady
        self.mode: Mode = state.mode
        self.trouble: str | None = None
        self._now = self._kept = state.now
        self._went_at = steady()
        self._leapt_at: float | None = None
        self._lock = threading.Lock()

    def now(self) -> datetime:
        """The time: of a replay where it was moved to, else the machine's, held while that is in doubt."""
        if self.mode == "replay":
            return self._now
        with self._lock:
            wall, steady = self._wall(), self._steady()
            trouble = self._trouble_with(wall, steady)
            if trouble is None:
                self._now, self._went_at = max(self._now, wall), steady
            self._tell(trouble, wall)
            return self._now

    def _trouble_with(self, wall: datetime, steady: float) -> str | None:
        if self._now - wall > BACK:
            self._leapt_at = None
            return (
                f"The machine's clock went back to {_shown(wall)}. Nothing is due before it is"
                f" {_shown(self._now)} again, and requests that name a later time are refused. Set the"
                " machine's clock if it is wrong."
            )
        # Measured from where this clock stands, so that going back by mistake and forward again is no leap.
        passed = timedelta(seconds=steady - self._went_at)
        if wall - self._now - passed <= LEAP:
            self._leapt_at = None
            return None
        if self._leapt_at is None:
            self._leapt_at = steady
        if steady - self._leapt_at >= LEAP_BELIEVED_SECONDS:
            return None
        return (
            f"The machine's clock leapt from {_shown(self._now + passed)} to {_shown(wall)}. The loop stands"
            f" still; if it is so for {LEAP_BELIEVED_SECONDS / 60:g} minutes it goes on there. Set the"
            " machine's clock if it is wrong."
        )

    def _tell(self, trouble: str | None, wall: datetime) -> None:
        facts = {"stands_at": self._now.isoformat(), "machine": wall.isoformat()}
        if trouble is not None and self.trouble is None:
            log.error("the clock stands still", extra=facts | {"why": trouble})
        if trouble is None and self.trouble is not None:
            log.warning("the clock goes again", extra=facts)
        self.trouble = trouble

    def move(self, to: datetime) -> None:
        """Move a replay on, and keep that; moving it to where it stands changes nothing.

        Raises
        ------
        UsageError
            When the clock is real, or stands later.
        """
        self.refuse_backwards(to)
        with self._lock:
            self._now = to
        self.keep()

    def refuse_backwards(self, to: datetime) -> None:
        if self.mode == "real":
            raise UsageError(
                "The clock is real, so it moves by itself. For one that is moved, start a store of its own"
                " with: clew up --clock replay --at TIME"
            )
        if to < self._now:
            raise UsageError(
                f"The clock stands at {self._now.isoformat()} and cannot go back to {to.isoformat()}: what"
                " was decided by then is decided."
            )

    def keep(self) -> None:
        """Store where the clock stands."""
        now = self.now()
        with self._store.write() as tx:
            _put(tx, ClockState(self.mode, now))
        self._kept = now

    def keep_sometimes(self) -> None:
        """Store where a real clock stands when that was last done a while ago."""
        if self.mode == "real" and self.now() - self._kept >= KEPT_EVERY:
            self.keep()


def open_clock(
    store: Store,
    mode: Mode | None,
    at: datetime | None,
    wall: Callable[[], datetime] = wall_clock,
    steady: Callable[[], float] = steady_clock,
) -> Clock:
    """The clock of this store, as it was when it was last used.

    Parameters
    ----------
    mode
        The mode to go on with; None keeps what it was, and is real at the first start.
    at
        Where a replay begins. A clock that stands later goes on from there.

    Raises
    ------
    UsageError
        When a replay would begin nowhere, a real clock is given a beginning, or a replay that stands in the
        machine's future is to become real.
    """
    known = read_clock(store)
    mode = mode or (known.mode if known else "real")
    if mode == "real":
        if at is not None:
            raise UsageError("--at is where a replay begins, so it needs: --clock replay")
        if known is not None and known.mode == "replay" and known.now > wall():
            raise UsageError(
                f"This store's clock stands at {known.now.isoformat()}, which is still to come. Go on with"
                " --clock replay, or use another store."
            )
        start = max(wall(), known.now) if known else wall()
    else:
        begins = [moment for moment in (at, known.now if known else None) if moment is not None]
        if not begins:
            raise UsageError("--clock replay must begin somewhere; add --at, such as: --at 2026-01-01")
        start = max(begins)
    clock = Clock(store, ClockState(mode, start), wall, steady)
    clock.keep()
    return clock


def _shown(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _state(reader: Reader) -> ClockState | None:
    mode, now = reader.get("meta", key=MODE_KEY), reader.get("meta", key=NOW_KEY)
    if mode is None or now is None:
        return None
    return ClockState(cast("Mode", mode["value"]), datetime.fromisoformat(now["value"]))


def _put(tx: Transaction, state: ClockState) -> None:
    for key, value in ((MODE_KEY, state.mode), (NOW_KEY, state.now.astimezone(UTC).isoformat())):
        if not tx.update("meta", {"key": key}, {"value": value}):
            tx.insert("meta", {"key": key, "value": value})
