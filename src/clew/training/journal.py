"""What a training function leaves behind while it runs: numbers and files, in a folder of its own.

The child writes and the parent reads. A number is one record of fixed length, put into a mapped file: no
system call, no message, nobody to wait for, and what was written is there when the child is killed. Nothing
is ever dropped; the parent takes what is new once a second and at the end.
"""

from __future__ import annotations

import json
import mmap
import os
import shutil
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from clew.errors import StoreError, UsageError
from clew.tracking import checked_artifact_name

# The place of the name in the file of names, whether the record is whole and has a step, step, value, and
# the seconds since the function began.
_RECORD = struct.Struct("<IBxxxqdd")
_FIELDS = np.dtype([("name", "<u4"), ("flag", "u1"), ("pad", "V3"), ("step", "<i8"), ("value", "<f8"),
                    ("seconds", "<f8")])  # fmt: skip
_FLAG_AT = 4
_EMPTY, _WITHOUT_STEP, _WITH_STEP = range(3)
_FIRST_BYTES, _MOST_MORE_BYTES = 1 << 16, 1 << 24
_AT_ONCE = 10_000


class Logged(NamedTuple):
    """One number of ``train.log``, and how many seconds after the start it came."""

    name: str
    step: int | None
    value: float
    seconds: float


@dataclass(frozen=True, slots=True)
class ArtifactLimits:
    """What ``train.artifact`` takes: bytes of a file, bytes of all, number of files."""

    file_bytes: int = 100_000_000
    run_bytes: int = 1_000_000_000
    n_files: int = 1_000


class JournalWriter:
    """The child's side; safe to use from several threads of the process that made it."""

    def __init__(self, folder: Path, limits: ArtifactLimits) -> None:
        self._folder, self._limits = folder, limits
        self._pid, self._lock = os.getpid(), threading.Lock()
        self._names: dict[str, int] = {}
        self._values, self._size, self._end = -1, 0, 0
        self._map: mmap.mmap | None = None
        self._sizes: dict[str, int] = {}
        self._n_saved = 0
        self._start = time.perf_counter()

    def log(self, name: str, step: int | None, value: float) -> None:
        """Write one number.

        Raises
        ------
        StoreError
            When the disk is full.
        """
        with self._lock:
            place = self._names.get(name)
            if place is None:
                place = self._new_name(name)
            if self._end + _RECORD.size > self._size:
                self._grow()
            seconds = time.perf_counter() - self._start
            mapped = self._map
            assert mapped is not None  # noqa: S101 - there was room, or it grew
            _RECORD.pack_into(mapped, self._end, place, _EMPTY, step or 0, value, seconds)
            # Last, as a single byte: a record that shows it is whole.
            mapped[self._end + _FLAG_AT] = _WITHOUT_STEP if step is None else _WITH_STEP
            self._end += _RECORD.size

    def save(self, name: str, content: bytes | str | os.PathLike[str]) -> None:
        """Copy bytes, or a file, as the run's artifact `name`.

        Raises
        ------
        UsageError
            When the name is none, there is no such file, or a limit would be exceeded.
        """
        self._refuse_other_processes()
        name = checked_artifact_name(name)
        if name.startswith("clew/"):
            raise UsageError(
                f"The artifact {name!r} lies in clew/, where Clew's own are. Name another folder."
            )
        with self._lock:
            source = content if isinstance(content, bytes) else _file(name, content)
            n_bytes = len(source) if isinstance(source, bytes) else source.stat().st_size
            self._check_limits(name, n_bytes)
            self._n_saved += 1
            place = self._folder / f"artifact-{self._n_saved}"
            try:
                if isinstance(source, bytes):
                    place.write_bytes(source)
                else:
                    shutil.copyfile(source, place)
                # Named only once it is there whole.
                self._append("artifacts", {"name": name, "file": place.name})
            except OSError as error:
                raise _cannot_write("train.artifact", error) from None
            self._sizes[name] = n_bytes

    def _check_limits(self, name: str, n_bytes: int) -> None:
        limits, others = self._limits, {**self._sizes, name: n_bytes}
        told = (
            ("max_artifact_bytes", n_bytes, limits.file_bytes, "bytes"),
            ("max_run_artifact_bytes", sum(others.values()), limits.run_bytes, "bytes with the run's others"),
            ("max_run_artifacts", len(others), limits.n_files, "artifacts, it included"),
        )
        for setting, n, most, what in told:
            if n > most:
                raise UsageError(
                    f"The artifact {name!r} makes {n:,} {what}, more than {most:,}. Save less, or raise"
                    f" {setting} under [tracking] in clew.toml."
                )

    def _new_name(self, name: str) -> int:
        self._refuse_other_processes()
        try:
            self._append("names", name)
        except OSError as error:
            raise _cannot_write("train.log", error) from None
        return self._names.setdefault(name, len(self._names))

    def _append(self, file: str, value: object) -> None:
        line = json.dumps(value).encode() + b"\n"
        handle = os.open(self._folder / file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(handle, line)
        finally:
            os.close(handle)

    def _grow(self) -> None:
        self._refuse_other_processes()
        more = min(max(self._size, _FIRST_BYTES), _MOST_MORE_BYTES)
        try:
            if self._values < 0:
                self._values = os.open(self._folder / "values", os.O_RDWR | os.O_CREAT, 0o600)
            # Written and not only made longer: on a full disk that is told here, as an error, and not as a
            # signal that ends the process at the next number.
            written = 0
            while written < more:
                written += os.pwrite(self._values, bytes(more - written), self._size + written)
            grown = mmap.mmap(self._values, self._size + more)
        except OSError as error:
            raise _cannot_write("train.log", error) from None
        if self._map is not None:
            self._map.close()
        self._map, self._size = grown, self._size + more

    def _refuse_other_processes(self) -> None:
        if os.getpid() != self._pid:
            raise UsageError(
                "train.log() and train.artifact() were called in a process that the training function"
                " started. Return what is to be recorded to the function, and record it there."
            )

    def close(self) -> None:
        with self._lock:
            if self._map is not None:
                self._map.close()
                os.close(self._values)
                self._map = None


# A forked process has the map too, and would write into the records of the one that made it.
_open: list[JournalWriter] = []


def _shut_in_forked_process() -> None:
    for writer in _open:
        writer._lock = threading.Lock()
        writer._size = 0  # the next number asks for room, and is refused by name


os.register_at_fork(after_in_child=_shut_in_forked_process)


def open_journal(folder: Path, limits: ArtifactLimits) -> JournalWriter:
    """The journal of a fit that begins now; the one before it is closed."""
    for writer in _open:
        writer.close()
    _open[:] = [JournalWriter(folder, limits)]
    return _open[0]


def _file(name: str, content: str | os.PathLike[str]) -> Path:
    if not isinstance(content, str | os.PathLike):
        raise UsageError(
            f"train.artifact({name!r}, …) got {type(content).__name__!r}; give the path of a file, or bytes."
        )
    path = Path(content)
    if not path.is_file():
        raise UsageError(
            f"train.artifact({name!r}, …): there is no file {path} in {Path.cwd()}. Give the path of a file,"
            " or bytes."
        )
    return path


def _cannot_write(what: str, error: OSError) -> StoreError:
    return StoreError(f"{what}() cannot write: {error.strerror}.")


class JournalReader:
    """The parent's side: what was written so far, each number once."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._n_taken, self._n_seen = folder, 0, 0
        self._names: list[str] = []

    def new_values(self, *, is_final: bool = False) -> Iterator[list[Logged]]:
        """What is new, in order and in batches. Each batch counts as taken once the next is asked for.

        While the child writes, what was not yet there at the look before waits for the next one: another
        processor's writes may be seen in another order than they were made in.
        """
        n_whole = self._count()
        end = n_whole if is_final else min(self._n_seen, n_whole)
        self._n_seen = n_whole
        self._read_names()
        while self._n_taken < end:
            n = min(_AT_ONCE, end - self._n_taken)
            records = np.fromfile(
                self._folder / "values", _FIELDS, count=n, offset=self._n_taken * _RECORD.size
            )
            yield [
                Logged(self._names[name], step if flag == _WITH_STEP else None, value, seconds)
                for name, flag, _, step, value, seconds in records.tolist()
            ]
            self._n_taken += n

    def artifacts(self) -> dict[str, Path]:
        """Files by their names; the newest of a name."""
        path = self._folder / "artifacts"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        saved = map(json.loads, lines)
        return {checked_artifact_name(each["name"]): self._folder / Path(each["file"]).name for each in saved}

    def _count(self) -> int:
        """How many records are whole, from the first on."""
        path = self._folder / "values"
        if not path.exists():
            return 0
        n = self._n_seen
        with path.open("rb") as file:
            file.seek(n * _RECORD.size)
            while chunk := file.read(_AT_ONCE * _RECORD.size):
                flags = np.frombuffer(chunk[: len(chunk) // _RECORD.size * _RECORD.size], _FIELDS)["flag"]
                missing = np.flatnonzero(flags == _EMPTY)
                if len(missing):
                    return n + int(missing[0])
                n += len(flags)
        return n

    def _read_names(self) -> None:
        path = self._folder / "names"
        if path.exists():
            whole, _, _ = path.read_bytes().rpartition(b"\n")
            self._names = [json.loads(line) for line in whole.split(b"\n")] if whole else []
