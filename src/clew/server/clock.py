"""The clock of a running system: real, or a replay that moves only when it is told to.

Its mode and where it stands are rows of the store, so that a restart goes on where it was. It never moves
back, whatever the machine's clock does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal, TypeAlias, cast

from clew.errors import UsageError

if TYPE_CHECKING:
    from clew.storage import Reader, Store, Transaction

Mode: TypeAlias = Literal["real", "replay"]

MODE_KEY, NOW_KEY = "clock_mode", "clock_now"

KEPT_EVERY = timedelta(seconds=10)
"""How far a real clock may run ahead of what is stored of it."""


@dataclass(frozen=True, slots=True)
class ClockState:
    """Which clock a store goes by, and where it stands."""

    mode: Mode
    now: datetime


def wall_clock() -> datetime:
    """The machine's own clock."""
    return datetime.now(UTC)


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
    """The clock of this process; made by `open_clock`. Safe for several threads."""

    def __init__(self, store: Store, state: ClockState, wall: Callable[[], datetime]) -> None:
        self._store, self._wall = store, wall
        self.mode: Mode = state.mode
        self._now = self._kept = state.now
        self._lock = threading.Lock()

    def now(self) -> datetime:
        """The time: of a replay where it was moved to, else the machine's, held where that goes back."""
        if self.mode == "replay":
            return self._now
        with self._lock:
            self._now = max(self._now, self._wall())
            return self._now

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
    store: Store, mode: Mode | None, at: datetime | None, wall: Callable[[], datetime] = wall_clock
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
    clock = Clock(store, ClockState(mode, start), wall)
    clock.keep()
    return clock


def _state(reader: Reader) -> ClockState | None:
    mode, now = reader.get("meta", key=MODE_KEY), reader.get("meta", key=NOW_KEY)
    if mode is None or now is None:
        return None
    return ClockState(cast("Mode", mode["value"]), datetime.fromisoformat(now["value"]))


def _put(tx: Transaction, state: ClockState) -> None:
    for key, value in ((MODE_KEY, state.mode), (NOW_KEY, state.now.astimezone(UTC).isoformat())):
        if not tx.update("meta", {"key": key}, {"value": value}):
            tx.insert("meta", {"key": key, "value": value})
