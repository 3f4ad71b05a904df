"""The child's own program: wait for a request, run user code, reply; until the parent goes away."""

from __future__ import annotations

import ctypes
import faulthandler
import io
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from clew.entities import Json, RowRange
from clew.errors import ClewError, UsageError
from clew.tracking.lifeline import die_with_parent
from clew.training.faults import function_fault
from clew.training.opened import OpenedFiles
from clew.training.project import Project
from clew.training.protocol import Message, pack_error, pack_predictions, receive, send, unpack_table

if TYPE_CHECKING:
    from clew.registry import LoadedModel
    from clew.training.fitting import Fitted, Rows

Reply: TypeAlias = tuple[Json, Sequence[bytes]]


class Workbench:
    """What the child holds between requests: the project, the rows in use, models by fit id."""

    def __init__(self, code_folder: Path, project_root: Path) -> None:
        self._code_folder = code_folder.resolve()
        self._project_root = project_root
        self._project = Project(code_folder, project_root)
        self._opened = OpenedFiles(self._code_folder)
        self._rows: Rows | None = None
        self._fitted: dict[str, Fitted] = {}
        self._loaded: dict[str, LoadedModel] = {}

    def answer(self, request: Message) -> Reply:
        verbs: dict[str, Callable[[Message], Reply]] = {
            "adopt": self._adopt,
            "describe": self._describe,
            "environment": self._environment,
            "table": self._table,
            "use": self._use,
            "fit": self._fit,
            "load": self._load,
            "predict": self._predict,
            "package": self._package,
            "release": self._release,
        }
        try:
            return verbs[request.header["verb"]](request)
        except ClewError as error:
            return {"error": pack_error(error)}, ()

    def _describe(self, request: Message) -> Reply:
        with self._opened.watching():
            described = self._project.describe(request.header["files"])
        return {"described": msgspec.to_builtins(described)}, ()

    def _environment(self, request: Message) -> Reply:  # noqa: ARG002
        from clew.tracking.environment import environment_detail

        return {}, (environment_detail(),)

    def _table(self, request: Message) -> Reply:
        from clew.training.tables import keep_table

        header = request.header
        spec = self._project.dataset(header["file"], header["dataset"])
        path, source = Path(header["path"]), header.get("source")
        keep_table(spec, self._project_root, self._code_folder, path, header["text"], source)
        return {}, ()

    def _use(self, request: Message) -> Reply:
        from clew.training.fitting import Rows

        header = request.header
        with self._opened.watching():
            spec = self._project.model(header["file"], header["model"])
        self._rows = Rows.open(
            header["path"], spec, header["features"], header["categorical"], header["files"]
        )
        return {}, ()

    def _fit(self, request: Message) -> Reply:
        from clew.training.fitting import fit
        from clew.training.journal import ArtifactLimits, open_journal

        header = request.header
        rows = tuple(RowRange(start, end) for start, end in header["rows"])
        journal = None
        if header.get("journal") is not None:
            journal = open_journal(Path(header["journal"]), ArtifactLimits(*header["limits"]))
        with self._opened.watching():
            fitted = fit(self._in_use(), rows, header["params"], header["seed"], self._code_folder, journal)
        self._fitted[header["fit"]] = fitted
        self._loaded[header["fit"]] = fitted.loaded
        return {"fitted": {**fitted.report, "opened": self._opened.report()}}, ()

    def _load(self, request: Message) -> Reply:
        from clew.registry import load_package

        folder, digest = Path(request.header["folder"]), request.header["expected_digest"]
        self._loaded[request.header["fit"]] = load_package(
            folder, code_folder=self._code_folder, expected_digest=digest
        )
        return {}, ()

    def _predict(self, request: Message) -> Reply:
        model = self._loaded[request.header["fit"]]
        is_table = "rows" not in request.header
        table = (
            unpack_table(request.buffers[0])
            if is_table
            else self._in_use().part(RowRange(*request.header["rows"]))
        )
        try:
            return pack_predictions(model.predict(table))
        except ClewError:
            raise
        # A model of the user's may raise anything when asked; the process and other models live on.
        except BaseException as error:  # noqa: BLE001
            raise function_fault(
                f"The model {request.header['fit']}: predict", error, self._code_folder
            ) from None

    def _package(self, request: Message) -> Reply:
        from clew.training.packaging import package

        header = request.header
        info = package(self._in_use(), self._fitted[header["fit"]], header)
        return {"package": msgspec.to_builtins(info)}, ()

    def _adopt(self, request: Message) -> Reply:
        from clew.training.adopting import adopt

        tables = [unpack_table(buffer) for buffer in request.buffers]
        try:
            return {"adopted": adopt(request.header, tables)}, ()
        except ClewError:
            raise
        # Reading a pickle runs what is in it, and that may raise anything.
        except BaseException as error:  # noqa: BLE001
            raise function_fault(request.header["path"], error, self._code_folder) from None

    def _release(self, request: Message) -> Reply:
        self._fitted.pop(request.header["fit"], None)
        self._loaded.pop(request.header["fit"], None)
        return {}, ()

    def _in_use(self) -> Rows:
        if self._rows is None:
            raise UsageError("The child has no rows yet; call use() first.")
        return self._rows


class Printing:
    """Standard output and error of user code, put back after user code closed or replaced them."""

    def __init__(self) -> None:
        self._pipe = os.dup(1)
        self._libc = ctypes.CDLL(None)
        self._streams = {1: _text_stream(1), 2: _text_stream(2)}

    def restore(self) -> None:
        for fd in self._streams:
            os.dup2(self._pipe, fd)
            if self._streams[fd].closed:
                self._streams[fd] = _text_stream(fd)
        sys.stdout, sys.stderr = self._streams[1], self._streams[2]

    def flush(self) -> None:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (ValueError, OSError, AttributeError):
                continue  # closed or replaced by user code; put back before the next request
        self._libc.fflush(None)  # what native code printed


def _text_stream(fd: int) -> io.TextIOWrapper:
    """Line by line, so that a crash loses at most the line it happens in."""
    raw = io.FileIO(fd, "w", closefd=False)
    return io.TextIOWrapper(io.BufferedWriter(raw), "utf-8", "backslashreplace", line_buffering=True)


def main(arguments: Sequence[str]) -> None:
    requests, replies, lifeline = map(int, arguments[:3])
    for fd in (requests, replies):
        os.set_inheritable(fd, False)
    die_with_parent(lifeline)
    # Ctrl-C is for the parent, which then ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.enable(file=os.dup(2))
    printing = Printing()
    printing.restore()
    workbench = Workbench(Path(arguments[3]), Path(arguments[4]))
    while True:
        try:
            request = receive(lambda n_bytes: _read(requests, n_bytes))
        except EOFError:
            # Not sys.exit(): threads that user code left behind must not keep the process.
            os._exit(0)
        printing.restore()
        header, buffers = workbench.answer(request)
        printing.flush()
        send(lambda content: _write(replies, content), header, buffers)


def _read(fd: int, n_bytes: int) -> bytearray:
    got = bytearray()
    while len(got) < n_bytes:
        chunk = os.read(fd, min(n_bytes - len(got), 1 << 20))
        if not chunk:
            raise EOFError
        got += chunk
    return got


def _write(fd: int, content: memoryview) -> None:
    while content:
        content = content[os.write(fd, content) :]


if __name__ == "__main__":
    main(sys.argv[1:])
