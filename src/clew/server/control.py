"""The control process: opens the project, lives its loop, answers people.

    python -P -m clew.server.control PROJECT_ROOT SOCKET_FD LIFELINE_FD [--clock replay --at TIME]

``clew up`` starts it with an open socket and starts it again when it ends; predictions do not need it.
"""

from __future__ import annotations

import argparse
import ipaddress
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

import uvicorn

from clew.config import NotificationSettings, ServingSettings
from clew.errors import ClewError, UsageError
from clew.loop.result import Event
from clew.notifications import deliver_due
from clew.registry.routes import list_routes
from clew.server.app import make_app
from clew.server.clock import Mode, open_clock, wall_clock
from clew.server.live import LiveSystem
from clew.server.logs import log_to_stderr
from clew.server.measures import LoopMeasures
from clew.server.presence import run_folder
from clew.server.reports import Reports
from clew.server.scheduler import Scheduler
from clew.server.slow_callers import Connection, Server
from clew.server.tokens import ensure_first_token, has_token
from clew.serving.doorbell import Doorbell
from clew.storage import Store
from clew.tracking.lifeline import die_with_parent
from clew.workspace import Workspace, open_workspace

log = logging.getLogger("clew.server")

OpenLive: TypeAlias = Callable[[Workspace, Callable[[Event], None]], AbstractContextManager[LiveSystem]]

NOTICES_EVERY_SECONDS = 2.0

CLOSING_SECONDS = 10.0
"""How long requests and the loop have to come to rest when the process is asked to end."""


@dataclass(frozen=True, slots=True)
class Arguments:
    """What the supervisor starts this process with."""

    root: Path
    socket: int
    lifeline: int
    target: str | None
    reports: int | None
    clock: Mode | None
    at: datetime | None


def parse_arguments(given: Sequence[str]) -> Arguments:
    parser = argparse.ArgumentParser(prog="clew.server.control")
    parser.add_argument("root", type=Path)
    parser.add_argument("socket", type=int)
    parser.add_argument("lifeline", type=int)
    parser.add_argument("--target")
    parser.add_argument("--reports", type=int)
    parser.add_argument("--clock", choices=["real", "replay"])
    parser.add_argument("--at", type=_moment)
    return Arguments(**vars(parser.parse_args(given)))


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def open_live(workspace: Workspace, on_event: Callable[[Event], None]) -> AbstractContextManager[LiveSystem]:
    """The project's loop over its running servers."""

    def tell(deployment: str, event: Event) -> None:
        is_alone = len(workspace.settings.models) < 2
        sentence = event.sentence if is_alone else f"{deployment}: {event.sentence}"
        on_event(replace(event, sentence=sentence))

    return workspace.live(on_event=tell)


def main(given: Sequence[str], live: OpenLive = open_live) -> int:
    """Run to the end and give the exit code: 0 when asked to end, else what the error says.

    Parameters
    ----------
    live
        Opens the loop over a workspace; another one than the project's own serves to try this process.
    """
    arguments = parse_arguments(given)
    die_with_parent(arguments.lifeline)
    # Ctrl-C is for the supervisor, which then ends this process in its turn.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    log_to_stderr()
    reports = Reports(arguments.reports)
    try:
        with _opened(arguments, reports, live) as opened:
            _serve(opened, reports)
    except ClewError as error:
        reports.failed(error)
        if arguments.reports is None:  # else whoever started it says so
            log.error("the control process cannot go on", extra={"error": type(error).__name__})
        return error.exit_code
    return 0


@dataclass(frozen=True, slots=True)
class Opened:
    """Everything this process needs, open."""

    scheduler: Scheduler
    listening: socket.socket
    serving: ServingSettings


@contextmanager
def _opened(arguments: Arguments, reports: Reports, live: OpenLive) -> Iterator[Opened]:
    with ExitStack() as stack:
        listening = stack.enter_context(socket.socket(fileno=arguments.socket))
        workspace = stack.enter_context(open_workspace(arguments.target, arguments.root))
        store = workspace.store
        _refuse_open_door(store, listening)
        clock = open_clock(store, arguments.clock, arguments.at)
        made_token = ensure_first_token(store, clock.now())
        bell = Doorbell(run_folder(store.folder))
        stack.callback(bell.close)
        # Workers that start now must not take the machine's time for a replay's.
        bell.set_clock(clock.now() if clock.mode == "replay" else None)
        reports.opened(made_token=made_token)

        def tell(event: Event) -> None:
            reports.event(event.time, event.kind, event.sentence)

        stack.enter_context(_notices_sent(store, workspace.settings.notifications))
        loop = stack.enter_context(live(workspace, tell))
        scheduler = Scheduler(store, loop, clock, bell, run_folder(store.folder), LoopMeasures())
        yield Opened(scheduler, listening, workspace.settings.serving)


@contextmanager
def _notices_sent(store: Store, settings: NotificationSettings) -> Iterator[None]:
    """Send notices as they come, beside everything else: who receives them may be slow."""
    stopped = threading.Event()

    def send() -> None:
        while not stopped.wait(NOTICES_EVERY_SECONDS):
            try:
                deliver_due(store, settings, wall_clock())
            except Exception:
                # A notice that could not be sent is still written down, and the next round tries it again.
                log.exception("notices could not be sent")

    thread = threading.Thread(target=send, name="notices", daemon=True)
    if settings.webhook or settings.command:
        thread.start()
    try:
        yield
    finally:
        stopped.set()


def _refuse_open_door(store: Store, listening: socket.socket) -> None:
    """Listen beyond this machine only where somebody has made a token for that."""
    host = listening.getsockname()[0]
    if not ipaddress.ip_address(host).is_loopback and not has_token(store):
        raise UsageError(
            f"{host} lets other machines in, and this store has no token yet that they could be asked for."
            " Make one first: clew token create NAME; or start once without --host."
        )


def _serve(opened: Opened, reports: Reports) -> None:
    """Answer requests until SIGTERM; the loop goes live beside that, so that it can be watched."""
    scheduler = opened.scheduler
    is_live = threading.Event()
    failure: list[Exception] = []
    settings = uvicorn.Config(
        make_app(scheduler, allowed_hosts=opened.serving.allowed_hosts, is_live=is_live.is_set),
        http=Connection,
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=int(CLOSING_SECONDS),
    )
    server = Server(settings, opened.serving.timeout_seconds)

    def go_live() -> None:
        try:
            scheduler.go_live()
        except Exception as error:  # noqa: BLE001 - raised again by the thread that waits
            failure.append(error)
            server.should_exit = True
            return
        is_live.set()
        reports.ready(_champions(scheduler.store), scheduler.clock.mode, scheduler.clock.now())
        scheduler.start()

    starting = threading.Thread(target=go_live, name="go live", daemon=True)
    starting.start()
    server.run(sockets=[opened.listening])
    if failure:
        raise failure[0]
    if not scheduler.stop(CLOSING_SECONDS):
        # Whatever the loop is at is recorded step by step and goes on at the next start; its children end
        # with this process.
        log.warning("the loop was at work when it was asked to end; it goes on at the next start")
        os._exit(0)


def _champions(store: Store) -> dict[str, int | None]:
    with store.read() as reader:
        return {route.deployment: route.champion for route in list_routes(reader)}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
