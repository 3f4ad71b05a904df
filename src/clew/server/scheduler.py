"""The thread that lives the loop: on a real clock whenever something is due, in a replay when it is told to.

One lock lets one thread at a time into the loop: a tick, a person's command, or a moved clock.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from clew.errors import Conflict, StoreBusy
from clew.loop.commands import Command, ask, outcome, waiting
from clew.registry.routes import routing_generation
from clew.server.clock import Clock
from clew.server.figures import Recent, living_figures
from clew.server.live import Bell, LiveSystem
from clew.server.measures import LoopMeasures
from clew.server.status import STATUS_FILE, TOLD_OF_MODELS
from clew.storage import Store

log = logging.getLogger("clew.server")

LOOK_SECONDS = 0.25
STATUS_EVERY_SECONDS = 2.0
LOOK_EVERY_SECONDS = 5.0
COMPACT_EVERY_SECONDS = 600.0
LONGEST_BACK_OFF_SECONDS = 60.0


class Scheduler:
    """Drives a live system by its clock, and lets people in between.

    Parameters
    ----------
    run
        The store's folder ``run``; what the loop knows of its models is written there for other processes.
    command_wait_seconds
        How long a command waits for a loop that is at work before it is left to the loop.
    """

    def __init__(
        self,
        store: Store,
        live: LiveSystem,
        clock: Clock,
        bell: Bell,
        run: Path,
        measures: LoopMeasures,
        command_wait_seconds: float = 30.0,
    ) -> None:
        self.store, self.clock, self.measures = store, clock, measures
        self._live, self._bell, self._run = live, bell, run
        self._command_wait_seconds = command_wait_seconds
        self._inside = threading.Lock()
        self._is_moving = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._go, name="scheduler", daemon=True)
        self._rest_until: dict[str, float] = {}
        self._n_failures: dict[str, int] = {}
        self._status_at = -STATUS_EVERY_SECONDS
        self._looked_at = self._compacted_at = time.monotonic()
        self._recent = Recent()

    @property
    def is_healthy(self) -> bool:
        """Whether the clock goes, and the last try of everything succeeded."""
        return self.clock.trouble is None and not any(self._n_failures.values())

    def go_live(self) -> None:
        """Start the loop in this thread; what it raises is the caller's to tell."""
        with self._in_loop():
            self._live.start(self.clock.now())
            self._tell_workers()
        self._write_status()

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_seconds: float) -> bool:
        """Stop ticking; whether the loop is at rest, so that it may be closed."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(timeout_seconds)
        return self._inside.acquire(timeout=timeout_seconds)

    # -- what people ask for -----------------------------------------------------------------------------

    def order(
        self, verb: str, deployment: str, arguments: Mapping[str, Any], *, actor: str, reason: str
    ) -> Command:
        """Write a command down and execute it; one that still waits is executed as soon as the loop rests."""
        command = ask(self.store, verb, deployment, arguments, actor, reason, self.clock.now())
        try:
            with self._in_loop(self._command_wait_seconds):
                self._run_commands()
        except StoreBusy:
            return outcome(self.store, command)
        return outcome(self.store, command)

    def move_clock(self, to: datetime) -> None:
        """Move a replay on; returns when everything due by then is done.

        Raises
        ------
        UsageError
            When the clock is real, or stands later.
        Conflict
            When it is being moved by somebody else.
        """
        self.clock.refuse_backwards(to)
        if not self._is_moving.acquire(blocking=False):
            raise Conflict("The clock is being moved by another request. Wait for its answer, then repeat.")
        try:
            with self._in_loop(), self.measures.timed("clock"):
                self._live.advance(to)
                # Only now: a control process that dies on the way is asked for the same move again.
                self.clock.move(to)
                self._tell_workers()
        finally:
            self._is_moving.release()
        self._status_at = -STATUS_EVERY_SECONDS

    # -- the thread --------------------------------------------------------------------------------------

    def _go(self) -> None:
        while not self._stopped.wait(LOOK_SECONDS):
            self._attempt("commands", self._tick_commands)
            if self.clock.mode == "real":
                self._attempt("advance", self._tick_advance)
            self._attempt("look", self._tick_look)
            self._attempt("compact", self._tick_compact)
            self._attempt("status", self._tick_status)
            self._attempt("clock", self.clock.keep_sometimes)

    def _attempt(self, what: str, work: Callable[[], None]) -> None:
        if time.monotonic() < self._rest_until.get(what, 0.0):
            return
        try:
            work()
        except Exception:
            # The loop may go on whatever this was: every step is recorded when it is done and can be
            # repeated, predictions do not pass through here, and a person needs the server to see what is
            # wrong. Tries lie ever further apart, so that a lasting fault fills no disk with its traceback.
            n_failures = self._n_failures[what] = self._n_failures.get(what, 0) + 1
            rest_seconds = min(2.0**n_failures, LONGEST_BACK_OFF_SECONDS)
            self._rest_until[what] = time.monotonic() + rest_seconds
            self.measures.failed(what)
            log.exception("the loop failed", extra={"step": what, "again_in_seconds": rest_seconds})
        else:
            self._n_failures[what] = 0

    def _tick_commands(self) -> None:
        if waiting(self.store):
            with self._in_loop():
                self._run_commands()

    def _tick_advance(self) -> None:
        now, due = self.clock.now(), self._live.next_due
        if due is not None and due <= now:
            with self._in_loop(), self.measures.timed("advance"):
                self._live.advance(now)
                self._tell_workers()

    def _tick_look(self) -> None:
        if time.monotonic() - self._looked_at >= LOOK_EVERY_SECONDS:
            with self._in_loop():
                self._live.look(self.clock.now())
                self._tell_workers()
            self._looked_at = time.monotonic()

    def _tick_compact(self) -> None:
        if time.monotonic() - self._compacted_at >= COMPACT_EVERY_SECONDS:
            # Beside the loop: it only touches segments that every loop has read.
            self._live.compact(self.clock.now())
            self._compacted_at = time.monotonic()

    def _tick_status(self) -> None:
        if time.monotonic() - self._status_at >= STATUS_EVERY_SECONDS and not self._inside.locked():
            self._write_status()

    # -- inside the loop ---------------------------------------------------------------------------------

    @contextmanager
    def _in_loop(self, wait_seconds: float = -1) -> Iterator[None]:
        if not self._inside.acquire(timeout=wait_seconds):
            raise StoreBusy("The loop is at work on something that takes long.")
        try:
            yield
        finally:
            self._inside.release()

    def _run_commands(self) -> None:
        with self.measures.timed("commands"):
            self._live.run_commands(self.clock.now())
            self._tell_workers()

    def _tell_workers(self) -> None:
        self._bell.set_clock(self.clock.now() if self.clock.mode == "replay" else None)
        with self.store.read() as reader:
            self._bell.ring(routing_generation(reader))

    def _write_status(self) -> None:
        now = self.clock.now()
        with self._in_loop():
            told = {
                each.deployment: {name: getattr(each, name) for name in TOLD_OF_MODELS}
                for each in self._live.status(now)
            }
            due = self._live.next_due
        self._recent.add(living_figures(self.store), time.monotonic())
        facts = {
            "at": now,
            "clock_trouble": self.clock.trouble,
            "next_due": due,
            "models": told,
            "lately": self._recent.lately(),
            "lately_by_version": self._recent.lately_by_version(),
        }
        fresh = self._run / f"{STATUS_FILE}.new"
        fresh.write_bytes(msgspec.json.encode(facts))
        fresh.replace(self._run / STATUS_FILE)
        self.measures.stands(now, due)
        self._status_at = time.monotonic()
