"""The parent's side of one process that runs user code: start it, talk to it, bound it, end it."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from clew.entities import Json
from clew.tracking.children import variables_of_children
from clew.training.output import Output
from clew.training.protocol import Message, NotAMessage, receive, send

_LOOK_SECONDS = 0.25
_MEMORY_LOOK_SECONDS = 0.1


class ProcessEnded(Exception):
    """The process is gone: by itself, or because it went over a limit.

    Attributes
    ----------
    why
        The rest of a sentence that begins with who ran in it.
    was_limited
        Whether it was ended here, because it went over a limit.
    """

    def __init__(self, why: str, *, was_limited: bool = False) -> None:
        self.why, self.was_limited = why, was_limited
        super().__init__(why)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one call may take; None for no limit."""

    seconds: float | None = None
    memory_bytes: int | None = None
    is_declared: bool = False  # by @clew.model, where the user can raise it


class UserProcess:
    """One process for user code, in a session of its own; for one thread at a time.

    Requests and replies travel through pipes of their own, what is printed through another, and the
    process ends when this object's lifeline closes, at the latest when the parent ends.
    """

    def __init__(self, code_folder: Path, project_root: Path, python: Path | None = None) -> None:
        request_read, self._requests = os.pipe()
        self._replies, reply_write = os.pipe()
        lifeline_read, self._lifeline = os.pipe()
        self._printed, printed_write = os.pipe()
        theirs = (request_read, reply_write, lifeline_read)
        try:
            self._popen = subprocess.Popen(
                [
                    python or sys.executable,
                    "-P",
                    "-m",
                    "clew.training.child",
                    *map(str, theirs),
                    code_folder,
                    project_root,
                ],
                stdin=subprocess.DEVNULL,
                stdout=printed_write,
                stderr=printed_write,
                pass_fds=theirs,
                cwd=code_folder,
                env=variables_of_children(project_root),
                start_new_session=True,
            )
        finally:
            for fd in (*theirs, printed_write):
                os.close(fd)
        os.set_blocking(self._printed, False)
        self._output = Output()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._replies, selectors.EVENT_READ)
        self._selector.register(self._printed, selectors.EVENT_READ)

    def call(self, header: Json, buffers: Sequence[bytes | bytearray], limits: Limits) -> Message:
        """Send a request and wait for its reply.

        Raises
        ------
        ProcessEnded
            When no reply will come: the process died, or was killed here because it went over a limit.
        """
        watch = _Watch(limits, self._popen.pid)
        try:
            send(self._write, header, buffers)
            reply = receive(lambda n_bytes: self._read(n_bytes, watch))
        except (BrokenPipeError, EOFError):
            raise ProcessEnded(self._how_it_ended()) from None
        except NotAMessage:
            self.kill()
            raise ProcessEnded("wrote into the pipe that Clew's replies travel in") from None
        except BaseException:  # a limit, or Ctrl-C: user code must not go on behind our back
            self.kill()
            raise
        self._drain()
        return reply

    def take_output(self) -> bytes:
        """What was printed since the last call of this, within bounds."""
        return self._output.take()

    @property
    def process_id(self) -> int:
        return self._popen.pid

    def has_ended(self) -> bool:
        return self._popen.poll() is not None

    def interrupt(self) -> None:
        """End the process from another thread than the one that waits for its reply; that one is told."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if self._popen.poll() is None:
                os.killpg(self._popen.pid, signal.SIGKILL)

    def kill(self) -> None:
        """End the process and those it started; harmless when they are gone."""
        if self._lifeline < 0:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait()
        self._drain()
        self._selector.close()
        for fd in (self._lifeline, self._requests, self._replies, self._printed):
            os.close(fd)
        self._lifeline = -1

    def _write(self, content: memoryview) -> None:
        while content:
            content = content[os.write(self._requests, content) :]

    def _read(self, n_bytes: int, watch: _Watch) -> bytearray:
        got = bytearray()
        while len(got) < n_bytes:
            ready = {key.fd for key, _ in self._selector.select(watch.look_seconds())}
            if self._printed in ready:
                self._drain()
            if self._replies in ready:
                chunk = os.read(self._replies, min(n_bytes - len(got), 1 << 20))
                if not chunk:
                    raise EOFError
                got += chunk
            elif not ready and self._popen.poll() is not None:
                raise EOFError  # something it started still holds the pipe
            watch.check()
        return got

    def _drain(self) -> None:
        # Bounded, as something left behind may print for ever; a pipe holds less than this.
        for _ in range(64):
            try:
                printed = os.read(self._printed, 1 << 16)
            except BlockingIOError:
                return
            if not printed:
                with contextlib.suppress(KeyError):
                    self._selector.unregister(self._printed)
                return
            self._output.add(printed)

    def _how_it_ended(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(timeout=5)
        code = self._popen.returncode
        self.kill()
        return _how_it_ended(code)


class _Watch:
    """Holds one call to its limits."""

    def __init__(self, limits: Limits, pid: int) -> None:
        self._limits = limits
        self._pid = pid
        self._deadline = None if limits.seconds is None else time.monotonic() + limits.seconds
        self._next_look = time.monotonic()

    def look_seconds(self) -> float:
        pause = _LOOK_SECONDS if self._limits.memory_bytes is None else _MEMORY_LOOK_SECONDS
        left = pause if self._deadline is None else self._deadline - time.monotonic()
        return max(0.0, min(pause, left))

    def check(self) -> None:
        now = time.monotonic()
        if self._deadline is not None and now >= self._deadline:
            raise ProcessEnded(
                f"ran longer than its limit of {self._limits.seconds:g} seconds"
                f"{self._mend('longer', 'time_limit', '4h')}",
                was_limited=True,
            )
        if self._limits.memory_bytes is not None and now >= self._next_look:
            self._check_memory(self._limits.memory_bytes)
            self._next_look = time.monotonic() + _MEMORY_LOOK_SECONDS

    def _check_memory(self, limit: int) -> None:
        used = memory_bytes(self._pid)
        if used > limit:
            raise ProcessEnded(
                f"used {used / 1e6:,.0f} MB of memory, more than its limit of {limit / 1e6:,.0f} MB"
                f"{self._mend('more', 'memory_limit', '4GB')}",
                was_limited=True,
            )

    def _mend(self, what: str, argument: str, example: str) -> str:
        if not self._limits.is_declared:
            return ""
        return (
            f". If it needs {what}, raise the limit with {argument}= in @clew.model: {argument}={example!r}"
        )


def memory_bytes(pid: int) -> int:
    """Memory of a process and those it started, without files that are only mapped.

    What is resident is counted and not what is reserved (as ``RLIMIT_AS`` would): allocators reserve far
    more than they use, and a mapped snapshot costs nothing that others need.
    """
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    return sum(map(_own_bytes, family))


def _own_bytes(process: psutil.Process) -> int:
    try:
        memory = process.memory_info()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0
    return max(0, int(memory.rss) - int(getattr(memory, "shared", 0)))


def _how_it_ended(code: int | None) -> str:
    if code is None:
        return "closed the pipe that Clew's replies travel in"
    if code >= 0:
        return f"ended its own process with exit code {code}, as os._exit() does"
    name = signal.Signals(-code).name if -code in list(signal.Signals) else f"signal {-code}"
    if name == "SIGKILL":
        return (
            "was killed by SIGKILL, which the kernel's out-of-memory killer sends when memory runs out;"
            " fit on fewer rows, or give the machine more memory"
        )
    return f"was killed by {name}: native code that it called crashed or was ended from outside"
