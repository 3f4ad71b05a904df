"""The supervisor: ``clew up`` itself. Opens the sockets, starts the processes, starts again what dies.

It answers no request and opens no database, so there is little that could end it. Its children end when the
pipe that each of them holds closes, which the kernel does when this process dies, however it dies.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from clew.errors import ClewError, SettingsError, StoreError
from clew.server.presence import Held, Presence, held_up
from clew.server.sockets import open_socket

FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS = 0.1, 10.0
HEALTHY_SECONDS = 60.0
"""Who lived so long is started again at once, as if it had never died."""

DRAIN_SECONDS, CONTROL_SECONDS = 30.0, 25.0
"""How long workers have to answer what they began, and control to bring the loop to rest."""


@dataclass(frozen=True, slots=True)
class UpOptions:
    """What ``clew up`` was asked for; see its help."""

    root: Path
    store: Path
    target: str | None = None
    host: str = "127.0.0.1"
    port: int = 8750
    control_port: int = 8751
    workers: int = 1
    clock: str | None = None
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Programs:
    """The programs of the parts; their arguments come behind."""

    control: tuple[str, ...] = (sys.executable, "-P", "-m", "clew.server.control")
    worker: tuple[str, ...] = (sys.executable, "-P", "-m", "clew.serving.worker")


DEFAULT_PROGRAMS = Programs()


@dataclass(frozen=True, slots=True)
class Ready:
    """Everything answers: `models` with their champions, and what the system goes by."""

    presence: Presence
    models: dict[str, int | None]
    clock: str
    now: datetime
    made_token: bool


class Audience(Protocol):
    """Who is told what happens."""

    def event(self, at: datetime, what: str, sentence: str) -> None: ...
    def remark(self, sentence: str) -> None: ...
    def ready(self, ready: Ready) -> None: ...


class UpFailed(ClewError):
    """The system could not start; what stopped it is told as it would tell it itself.

    Attributes
    ----------
    traceback
        The user's own traceback; empty when there is none.
    """

    def __init__(
        self, message: str, code: str = "INTERNAL_ERROR", exit_code: int = 1, traceback: str = ""
    ) -> None:
        self.error_code, self.exit_code, self.traceback = code, exit_code, traceback
        super().__init__(message)


def back_off(delay_seconds: float, lived_seconds: float) -> float:
    """How long to wait before a part is started again.

    Parameters
    ----------
    delay_seconds
        What was waited last time; 0 at first.
    lived_seconds
        How long the part lived.

    Examples
    --------
    >>> back_off(0, 1), back_off(0.1, 1), back_off(8, 1), back_off(8, 61)
    (0.1, 0.2, 10.0, 0.1)
    """
    if not delay_seconds or lived_seconds >= HEALTHY_SECONDS:
        return FIRST_DELAY_SECONDS
    return min(2 * delay_seconds, LONGEST_DELAY_SECONDS)


@dataclass(slots=True)
class Part:
    """A child process that is to be there: now as `process`, or again at `due`, by the monotonic clock."""

    name: str
    command: Callable[[int], tuple[list[str], list[int]]]
    process: subprocess.Popen[bytes] | None = None
    lifeline: int = -1
    began: float = 0.0
    delay_seconds: float = 0.0
    due: float | None = None
    kept_open: list[int] = field(default_factory=list)

    def start(self) -> None:
        """Start the process with the reading end of a lifeline."""
        read, self.lifeline = os.pipe()
        try:
            words, descriptors = self.command(read)
            self.process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=2,  # standard output belongs to whoever typed the command
                pass_fds=[read, *descriptors],
                start_new_session=True,
            )
        finally:
            for descriptor in (read, *self.kept_open):
                os.close(descriptor)
            self.kept_open.clear()
        self.began, self.due = time.monotonic(), None

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def terminate(self) -> None:
        if self.process is not None:
            self.process.terminate()

    def end(self) -> None:
        """Kill what is left of the process and its group, and forget it."""
        if self.process is None:
            return
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self.lifeline)
        self.process, self.lifeline = None, -1


class Supervisor:
    """Keeps the parts of a running system alive. Make one with `supervise`."""

    def __init__(
        self, options: UpOptions, programs: Programs, sockets: Sequence[socket.socket], audience: Audience
    ) -> None:
        self._options, self._programs, self._audience = options, programs, audience
        self._predictions, self._controls = sockets
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = os.pipe()
        for end in (self._wake_read, self._wake_write):
            os.set_blocking(end, False)
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        self._control = Part("control", self._control_command)
        self._workers = [Part(f"worker {n}", self._worker_command) for n in range(1, options.workers + 1)]
        self._pipes: dict[int, bytes] = {}
        self._facts: dict[str, Any] | None = None
        self._n_asked_to_stop = 0
        self._opened: dict[str, Any] | None = None
        self._answers = threading.Event()
        self._was_ready = False
        self._since = datetime.now(UTC)
        self._held: Held | None = None

    # -- life --------------------------------------------------------------------------------------------

    def run(self, held: Held) -> int:
        """Live until asked to stop; the exit code.

        Raises
        ------
        UpFailed
            When the system cannot start at all.
        """
        self._held = held
        with self._signals():
            try:
                self._start(self._control)
                while not self._n_asked_to_stop:
                    self._wait(self._seconds_to_wait())
                    self._look_after(self._control)
                    for worker in self._workers if self._opened is not None else ():
                        self._look_after(worker)
                    self._say_when_ready()
                self._stop()
            finally:
                for part in (*self._workers, self._control):
                    part.end()
                self._close()
        return 0 if self._n_asked_to_stop < 2 else 130

    def _look_after(self, part: Part) -> None:
        if part.is_running:
            return
        if part.process is not None:
            self._note_death(part)
        elif part.due is None or part.due <= time.monotonic():
            self._start(part)

    def _note_death(self, part: Part) -> None:
        assert part.process is not None  # noqa: S101 - the caller looked
        code, pid = part.process.returncode, part.process.pid
        ended = how_it_ended(code)
        part.end()
        self._read_reports()
        # One that gave up by itself before it was ever live will do so again; one that was killed will not.
        gave_up = self._facts is None and code is not None and code >= 0
        if part is self._control and (self._opened is None or gave_up):
            raise UpFailed(f"The control process {ended} before it was live. What it said stands above.")
        part.delay_seconds = back_off(part.delay_seconds, time.monotonic() - part.began)
        part.due = time.monotonic() + part.delay_seconds
        self._audience.remark(
            f"{part.name} (process {pid}) {ended}; it is started again in {part.delay_seconds:g} s"
        )

    def _start(self, part: Part) -> None:
        part.start()
        if self._held is None:
            return
        try:
            self._held.tell(self._presence())
        except StoreError as error:
            if not self._was_ready:
                raise
            # Others learn later which process it is now; that it runs must not hang on a full disk.
            self._audience.remark(str(error))

    def _presence(self) -> Presence:
        parts = (self._control, *self._workers)
        return Presence(
            machine=socket.gethostname(),
            pid=os.getpid(),
            since=self._since,
            host=self._options.host,
            port=self._predictions.getsockname()[1],
            control_port=self._controls.getsockname()[1],
            processes={part.name: part.process.pid for part in parts if part.process is not None},
        )

    def _stop(self) -> None:
        self._audience.remark("stopping: workers answer what they have begun; once more Ctrl-C kills")
        self._drain(self._workers, DRAIN_SECONDS)
        self._drain([self._control], CONTROL_SECONDS)

    def _drain(self, parts: Sequence[Part], seconds: float) -> None:
        give_up = time.monotonic() + seconds
        for part in parts:
            part.terminate()
        while any(part.is_running for part in parts) and self._n_asked_to_stop < 2:
            if time.monotonic() > give_up:
                self._audience.remark(f"{parts[0].name} did not end within {seconds:g} s and is killed")
                return
            self._wait(0.1)

    # -- commands ----------------------------------------------------------------------------------------

    def _control_command(self, lifeline: int) -> tuple[list[str], list[int]]:
        reports_read, reports_write = os.pipe()
        os.set_blocking(reports_read, False)
        self._selector.register(reports_read, selectors.EVENT_READ)
        self._pipes[reports_read] = b""
        self._control.kept_open.append(reports_write)
        listening = self._controls.fileno()
        words = [*self._programs.control, str(self._options.root), str(listening), str(lifeline)]
        words += ["--reports", str(reports_write)]
        if self._options.target is not None:
            words += ["--target", self._options.target]
        if self._options.clock is not None:
            words += ["--clock", self._options.clock]
        if self._options.at is not None:
            words += ["--at", self._options.at.isoformat()]
        return words, [listening, reports_write]

    def _worker_command(self, lifeline: int) -> tuple[list[str], list[int]]:
        listening = self._predictions.fileno()
        words = [*self._programs.worker, str(self._options.root), str(listening), str(lifeline)]
        return words, [listening]

    # -- what control reports ----------------------------------------------------------------------------

    def _read_reports(self) -> None:
        for descriptor in list(self._pipes):
            while chunk := _read(descriptor):
                self._pipes[descriptor] += chunk
            *lines, self._pipes[descriptor] = self._pipes[descriptor].split(b"\n")
            if chunk is not None:
                self._selector.unregister(descriptor)
                os.close(descriptor)
                del self._pipes[descriptor]
            for line in lines:
                self._hear(json.loads(line))

    def _hear(self, report: dict[str, Any]) -> None:
        kind = report["kind"]
        if kind == "opened":
            is_first, self._opened = self._opened is None, self._opened or report
            if is_first:
                threading.Thread(target=self._probe, name="probe", daemon=True).start()
        elif kind == "event":
            self._audience.event(datetime.fromisoformat(report["at"]), report["what"], report["sentence"])
        elif kind == "ready":
            self._facts = report
        elif kind == "failed" and not self._was_ready:
            raise UpFailed(report["message"], report["code"], report["exit_code"], report["traceback"])
        elif kind == "failed":
            self._audience.remark(f"control: {report['message']}")

    def _probe(self) -> None:
        """Wait until a worker answers."""
        host, port = self._predictions.getsockname()[:2]
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - to connect to
        while not self._n_asked_to_stop:
            if is_answering(host, port):
                self._answers.set()
                os.write(self._wake_write, b"\0")
                return
            time.sleep(0.1)

    def _say_when_ready(self) -> None:
        if self._was_ready or self._facts is None or self._opened is None or not self._answers.is_set():
            return
        self._was_ready = True
        self._audience.ready(
            Ready(
                presence=self._presence(),
                models=self._facts["models"],
                clock=self._facts["clock"],
                now=datetime.fromisoformat(self._facts["now"]),
                made_token=self._opened["made_token"],
            )
        )

    # -- waiting -----------------------------------------------------------------------------------------

    def _seconds_to_wait(self) -> float | None:
        due = [part.due for part in (self._control, *self._workers) if part.due is not None]
        return max(min(due) - time.monotonic(), 0.0) if due else None

    def _wait(self, seconds: float | None) -> None:
        """Until a signal, a report, a child's end, or so long."""
        if self._opened is not None and any(w.process is None and w.due is None for w in self._workers):
            seconds = 0.0
        self._selector.select(seconds)
        while _read(self._wake_read):
            pass
        self._read_reports()

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Be woken by signals; two of them ask to stop."""
        old_wake = signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        asked = (signal.SIGINT, signal.SIGTERM)
        old = {number: signal.signal(number, self._ask_to_stop) for number in asked}
        old[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, _only_wake)
        try:
            yield
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(old_wake)

    def _ask_to_stop(self, _number: int, _frame: FrameType | None) -> None:
        self._n_asked_to_stop += 1

    def _close(self) -> None:
        self._selector.close()
        for descriptor in (*self._pipes, self._wake_read, self._wake_write):
            os.close(descriptor)


def supervise(options: UpOptions, audience: Audience, programs: Programs | None = None) -> int:
    """Run everything until asked to stop by Ctrl-C or SIGTERM; the exit code.

    Raises
    ------
    StoreBusy
        When ``clew up`` runs on this store already.
    SettingsError
        When a port is taken, or is to serve for both.
    UpFailed
        When the system cannot start.
    """
    if options.port and options.port == options.control_port:
        raise SettingsError(
            f"Port {options.port} is to be that of predictions and of control, which are two servers. Choose"
            f" another for one of them: --port, --control-port, or [serving] in clew.toml."
        )
    with held_up(options.store) as held:
        predictions = open_socket(options.host, options.port, "--port")
        with predictions, open_socket(options.host, options.control_port, "--control-port") as controls:
            return Supervisor(options, programs or DEFAULT_PROGRAMS, (predictions, controls), audience).run(
                held
            )


def is_answering(host: str, port: int, timeout_seconds: float = 2.0) -> bool:
    """Whether somebody answers ``GET /health`` there with 200."""
    # By hand, because an HTTP client would be the largest thing in this process.
    request = f"GET /health HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n\r\n"
    try:
        with socket.create_connection((host, port), timeout_seconds) as connection:
            connection.sendall(request.encode())
            return connection.recv(1 << 12).split(b" ")[1:2] == [b"200"]
    except OSError:
        return False


def how_it_ended(code: int | None) -> str:
    """A process's end in words.

    Examples
    --------
    >>> how_it_ended(1), how_it_ended(-9)
    ('ended with exit code 1', 'was ended by SIGKILL')
    """
    if code is not None and code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


def _only_wake(_number: int, _frame: FrameType | None) -> None:
    """A signal that is only to end a wait."""


def _read(descriptor: int) -> bytes | None:
    """What is there to read; empty at the end, None when nothing is there now."""
    try:
        return os.read(descriptor, 1 << 16)
    except BlockingIOError:
        return None
