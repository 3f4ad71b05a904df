"""A prediction worker: ``python -P -m clew.serving.worker PROJECT_ROOT SOCKET_FD LIFELINE_FD``.

It serves on a listening socket that its parent opened, and ends when its parent does: at once when the pipe
`LIFELINE_FD` closes, after the requests that are being answered when it gets SIGTERM. One thread answers, one
loads new versions, one writes figures.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import uvloop

from clew.config import Settings, load_settings
from clew.serving import fleet
from clew.serving.app import Application
from clew.serving.connections import Connections
from clew.serving.doorbell import Doorbell
from clew.serving.figures_file import WorkerFigures, remove_figures, write_figures
from clew.serving.first_answers import FirstAnswers
from clew.serving.loading import Loader, read_mark, read_wanted
from clew.serving.recorder import Recorder
from clew.storage import Store, open_store
from clew.storage.log import LogWriter
from clew.storage.log_segments import LOG_FOLDER

log = logging.getLogger("clew.serving")

LOOK_AT_DOORBELL_SECONDS = 0.005
ASK_STORE_SECONDS = 0.2
TRY_AGAIN_SECONDS = 5.0
LOADED_WITHIN_SECONDS = 20.0
FIGURES_SECONDS = 1.0
BACKLOG = 2048


def main(arguments: list[str]) -> int:
    root, listening, lifeline = Path(arguments[0]), int(arguments[1]), int(arguments[2])
    threading.Thread(target=_end_with_parent, args=[lifeline], name="lifeline", daemon=True).start()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.INFO)
    settings = load_settings(root)
    with open_store(settings, now=_wall_clock()) as store:
        worker = fleet.join(store, _wall_clock())
        try:
            serve(settings, store, worker, socket.socket(fileno=listening))
        finally:
            fleet.leave(store, worker, _wall_clock())
            remove_figures(store, worker)
    return 0


def serve(settings: Settings, store: Store, worker: int, listening: socket.socket) -> None:
    """Answer requests on the socket until SIGTERM."""
    run_folder = store.folder / "run"
    figures = WorkerFigures(worker, os.getpid())
    stopping = threading.Event()
    with ExitStack() as stack:
        doorbell = Doorbell(run_folder)
        stack.callback(doorbell.close)
        writer = LogWriter(store.folder / LOG_FOLDER, worker)
        stack.callback(writer.close)
        recorder = Recorder(writer, figures, must_log=settings.serving.log_failure == "stop")
        clock = _clock_of(doorbell)
        answers = FirstAnswers(run_folder)
        app = Application(settings.serving, recorder, answers, figures, clock)
        stack.callback(app.close)
        scratch = stack.enter_context(store.scratch(f"worker-{worker}"))
        follower = Follower(
            store,
            worker,
            app,
            doorbell,
            Loader(store, scratch, settings.root, _wall_clock),
            figures,
            stopping,
        )
        for work in (follower.run, lambda: _keep_figures(store, figures, answers, stopping)):
            thread = threading.Thread(target=work, daemon=True)
            thread.start()
            stack.callback(thread.join)
        stack.callback(stopping.set)
        asyncio.Runner(loop_factory=uvloop.new_event_loop).run(_listen(settings, app, figures, listening))


async def _listen(
    settings: Settings, app: Application, figures: WorkerFigures, listening: socket.socket
) -> None:
    loop, stopping = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    await _until_loaded(app, stopping)
    timeout = settings.serving.timeout_seconds
    connections = Connections(app, figures, settings.serving.max_body_bytes)
    server = await loop.create_server(connections.connect, sock=listening, backlog=BACKLOG)
    sweeping = loop.create_task(connections.close_slow(timeout))
    try:
        await stopping.wait()
        server.close()
        await connections.finish(timeout)
    finally:
        sweeping.cancel()


async def _until_loaded(app: Application, stopping: asyncio.Event) -> None:
    """Take no connection before there is something to answer with: it waits for a worker that can.

    After some patience it answers all the same, so that somebody may be told what is wrong.
    """
    give_up = time.monotonic() + LOADED_WITHIN_SECONDS
    # Looked at and not waited for: another thread loads, and a signal may end the wait as well.
    while not app.is_ready and not stopping.is_set() and time.monotonic() < give_up:  # noqa: ASYNC110
        await asyncio.sleep(LOOK_AT_DOORBELL_SECONDS)


class Follower:
    """Follows the store: when routes or tokens change it loads what they name and serves by it."""

    def __init__(
        self,
        store: Store,
        worker: int,
        app: Application,
        doorbell: Doorbell,
        loader: Loader,
        figures: WorkerFigures,
        stopping: threading.Event,
    ) -> None:
        self._store, self._worker, self._app, self._doorbell = store, worker, app, doorbell
        self._loader, self._figures, self._stopping = loader, figures, stopping
        self._mark: Any = None

    def run(self) -> None:
        rung, asked_at, tried_at = -1, 0.0, 0.0
        while not self._stopping.wait(LOOK_AT_DOORBELL_SECONDS):
            now, ringing = time.monotonic(), self._doorbell.generation()
            if ringing == rung and now - asked_at < ASK_STORE_SECONDS:
                continue
            rung, asked_at = ringing, now
            is_stale = bool(self._loader.failures) and now - tried_at > TRY_AGAIN_SECONDS
            try:
                if self._follow(again=is_stale):
                    tried_at = time.monotonic()
            # The store may be busy, away or damaged: what is loaded is served on, and it is asked again.
            except Exception:
                log.exception("the store cannot be asked for routes")

    def _follow(self, *, again: bool) -> bool:
        mark = read_mark(self._store)
        if mark == self._mark and not again:
            return False
        wanted = read_wanted(self._store)
        self._app.table = self._loader.table(wanted, self._app.table)
        self._app.is_ready = True
        self._figures.generation = wanted.generation
        fleet.acknowledge(self._store, self._worker, wanted.generation, self._loader.failures, _wall_clock())
        self._mark = mark
        # What was loaded stays; looking through it for garbage again and again would cost requests time.
        gc.collect()
        gc.freeze()
        return True


def _keep_figures(
    store: Store, figures: WorkerFigures, answers: FirstAnswers, stopping: threading.Event
) -> None:
    process, n_written = psutil.Process(), 0
    while True:
        used = process.cpu_times()
        figures.cpu_seconds = used.user + used.system
        figures.memory_bytes = process.memory_info().rss
        figures.log_bytes = _size_of(store.folder / LOG_FOLDER / str(figures.worker))
        figures.written_at = _wall_microseconds()
        try:
            write_figures(store, figures)
            if n_written % 3600 == 0:
                answers.forget_old()
        # A full disk must not end the figures for good: they are what tells of it.
        except OSError:
            log.exception("figures cannot be written")
        n_written += 1
        if stopping.wait(FIGURES_SECONDS):
            return


def _size_of(folder: Path) -> int:
    n_bytes = 0
    for path in folder.glob("*"):
        with contextlib.suppress(FileNotFoundError):  # compacted in this moment
            n_bytes += path.stat().st_size
    return n_bytes


def _end_with_parent(lifeline: int) -> None:
    with contextlib.suppress(OSError):
        os.read(lifeline, 1)
    os._exit(1)


def _clock_of(doorbell: Doorbell) -> Callable[[], int]:
    """The system's clock in microseconds since 1970: a replay's, or the real one."""
    replay = doorbell.clock_microseconds
    return lambda: replay() or _wall_microseconds()


def _wall_microseconds() -> int:
    return time.time_ns() // 1000


def _wall_clock() -> datetime:
    return datetime.now(UTC)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
