"""Versions that need the project's own code to predict: each answers in a process of its own.

User code never runs in a prediction worker. The process has the version's captured code on its path and no
other, so that two versions never share modules; it gets encoded rows through a socket and sends answers back.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import weakref
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from clew.entities import Json
from clew.errors import DataError, PackageError
from clew.registry.arrow_rows import ArrowRow
from clew.registry.package_checks import read_own
from clew.registry.signature import Signature
from clew.serving.answering import ModelFailed
from clew.tracking.children import variables_of_children

if TYPE_CHECKING:
    from clew.storage.records import Value

START_SECONDS = 60.0
ANSWER_SECONDS = 30.0
"""Who has not answered a question by then hangs, and is ended."""

_PROGRAM = ("-P", "-m", "clew.serving.own_code_child")
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class OwnCode:
    """A package and the captured code that it needs, each laid out in a folder.

    `python` is the interpreter of another environment that has this Clew; None for the present one.
    """

    package: Path
    digest: str
    code: Path
    project_root: Path
    python: Path | None = None


class OwnCodeRows(ArrowRow):
    """Answers rows of such a version; see :class:`clew.registry.row_models.RowModel`.

    Raises
    ------
    PackageError
        When the process cannot load the package.
    """

    def __init__(self, own: OwnCode) -> None:
        super().__init__(Signature.from_json(read_own(own.package)["signature"]))
        self._process = OwnCodeProcess(own)
        weakref.finalize(self, self._process.end)

    def close(self) -> None:
        """End the process at once, and not only with the last reference; harmless to repeat."""
        self._process.end()

    def answer(self, rows: Sequence[tuple[Any, ...]]) -> tuple[list[Value], list[tuple[float, ...]] | None]:
        reply = self._process.ask(rows)
        probabilities = reply["probabilities"]
        return reply["predicted"], None if probabilities is None else list(map(tuple, probabilities))


class OwnCodeProcess:
    """The process of one version, started again when it died; several threads may ask, one at a time."""

    def __init__(self, own: OwnCode) -> None:
        self._own = own
        self._asking = threading.Lock()
        self._running = ExitStack()
        self._start()

    def ask(self, rows: Sequence[Sequence[Any]]) -> Json:
        """What the model answers to encoded rows.

        Raises
        ------
        DataError
            When the model cannot take a value.
        PackageError
            When a new process cannot load the package.
        ModelFailed
            When user code raised, hung or ended its process.
        """
        with self._asking:
            try:
                reply = self._exchange(rows)
            except (EOFError, OSError):
                # Whoever ended it, the question may well be harmless: it is asked once more.
                self._start()
                try:
                    reply = self._exchange(rows)
                except (EOFError, OSError):
                    self.end()
                    raise ModelFailed("its own code ended the process that it runs in") from None
        _raise(reply)
        return reply

    def end(self) -> None:
        """End the process; harmless when it is gone."""
        self._running.close()

    def _exchange(self, rows: Sequence[Sequence[Any]]) -> Json:
        try:
            send(self._socket, rows)
            reply: Json = receive(self._socket)
            return reply
        except TimeoutError:
            self.end()
            raise ModelFailed(f"its own code did not answer within {ANSWER_SECONDS:g} s") from None

    def _start(self) -> None:
        self.end()
        own = self._own
        with ExitStack() as stack:
            self._socket, theirs = socket.socketpair()
            stack.enter_context(self._socket)
            reading, lifeline = os.pipe()
            stack.callback(os.close, lifeline)
            handles = str(theirs.fileno()), str(reading)
            try:
                process = subprocess.Popen(
                    [own.python or sys.executable, *_PROGRAM, *handles, own.package, own.digest, own.code],
                    stdin=subprocess.DEVNULL,
                    stdout=2,
                    pass_fds=[theirs.fileno(), reading],
                    cwd=own.code,
                    env=variables_of_children(own.project_root),
                    start_new_session=True,
                )
            finally:
                theirs.close()
                os.close(reading)
            stack.callback(_end_group, process)
            self._socket.settimeout(START_SECONDS)
            try:
                _raise(receive(self._socket))
            except (EOFError, OSError):
                raise PackageError(
                    "The process for the version's own code ended before it had loaded the package."
                ) from None
            self._socket.settimeout(ANSWER_SECONDS)
            self._running = stack.pop_all()


def _end_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _raise(reply: Json) -> None:
    """Raise what the process could not do."""
    if "column" in reply:
        raise DataError(reply["error"], reply["column"], reply["rows"])
    if "is_loaded" in reply:
        raise PackageError(reply["error"])
    if "error" in reply:
        raise ModelFailed(reply["error"])


def send(to: socket.socket, content: Any) -> None:
    """Send one message: its length, then MessagePack."""
    packed = msgspec.msgpack.encode(content)
    to.sendall(_LENGTH.pack(len(packed)) + packed)


def receive(sender: socket.socket) -> Any:
    """One message.

    Raises
    ------
    EOFError
        When the other side is gone.
    """
    (n_bytes,) = _LENGTH.unpack(_read(sender, _LENGTH.size))
    return msgspec.msgpack.decode(_read(sender, n_bytes))


def _read(sender: socket.socket, n_bytes: int) -> bytes:
    got = bytearray()
    while len(got) < n_bytes:
        piece = sender.recv(n_bytes - len(got))
        if not piece:
            raise EOFError
        got += piece
    return bytes(got)
