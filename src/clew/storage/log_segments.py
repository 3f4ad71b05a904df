"""The files of the prediction log: what their names and their bytes mean.

A segment is ``<log>/<worker>/<number>.log``: a header of 12 bytes (magic, format, salt), then frames of a
length, a checksum and one record. The checksum begins with the salt and the frame's offset, so that bytes
of another segment, which a crash may leave in a file, or a frame that somebody smuggled into a feature's
text, are never taken for a record.

The process that writes a segment holds a lock on it as long as it may write. The newest segment of a worker
is never removed, only emptied, so that a number is never given twice.

Of a record that was erased the frame stays, so that those behind it keep their places: its content is the
number of the erasure and zeros. A segment that has such a frame is of format 2.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from clew.errors import StoreTooNew

LOG_FOLDER = "log"
LOG_FORMAT = 2
"""The newest that is read; segments are begun in format 1, which knows no erasures."""

_HEADER = struct.Struct("<7sBI")
_MAGIC = b"clewlog"
_FRAME = struct.Struct("<II")
# No record of msgpack begins with this byte.
_ERASED = struct.Struct("<BQ")
_ERASED_MARK = 0xC1

HEADER_BYTES = _HEADER.size


class SegmentFile(NamedTuple):
    """A segment that was found in the log's folder; they sort as they were written by each worker."""

    worker: int
    number: int
    path: Path
    n_bytes: int

    @property
    def name(self) -> str:
        """What positions call it: ``worker/number``."""
        return position_key(self.worker, self.number)


def position_key(worker: int, number: int) -> str:
    """What positions call a segment.

    Examples
    --------
    >>> position_key(3, 17)
    '3/17'
    """
    return f"{worker}/{number}"


def segment_path(folder: Path, worker: int, number: int) -> Path:
    """Where a segment lies in the log's folder.

    Examples
    --------
    >>> segment_path(Path("log"), 3, 17).as_posix()
    'log/3/00000017.log'
    """
    return folder / str(worker) / f"{number:08d}.log"


def list_segments(folder: Path) -> list[SegmentFile]:
    """All segments by worker and number; none when there is no log yet."""
    found = []
    for worker in _entries(folder):
        if worker.name.isdecimal() and worker.is_dir():
            found += worker_segments(folder, int(worker.name))
    return sorted(found)


def worker_segments(folder: Path, worker: int) -> list[SegmentFile]:
    """The segments of one worker, in no order."""
    found = []
    for entry in _entries(folder / str(worker)):
        number, _, ending = entry.name.partition(".")
        if ending != "log" or not number.isdecimal():
            continue
        try:
            n_bytes = entry.stat().st_size
        except FileNotFoundError:  # compacted since it was listed
            continue
        found.append(SegmentFile(worker, int(number), Path(entry.path), n_bytes))
    return found


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except FileNotFoundError:
        return []


def leave_request(folder: Path, worker: int) -> Path:
    """A file that asks a worker to leave its segment for a new one; it removes the file when it has."""
    return folder / str(worker) / "leave"


def header(salt: int, log_format: int = 1) -> bytes:
    """What a segment begins with."""
    return _HEADER.pack(_MAGIC, log_format, salt)


def erased_content(content: memoryview | bytes, erasure: int) -> bytes:
    """What takes the place of a record that was erased.

    Examples
    --------
    >>> erasure_in(erased_content(b"a record of a person", 3)), erasure_in(b"a record of a person")
    (3, None)
    """
    return _ERASED.pack(_ERASED_MARK, erasure).ljust(len(content), b"\0")


def erasure_in(content: memoryview | bytes) -> int | None:
    """The number of the erasure that took the record that stood here; None when it still stands."""
    if content[0] != _ERASED_MARK:
        return None
    return int(_ERASED.unpack_from(content)[1])


def framed(content: bytes, salt: int, offset: int) -> bytes:
    """A record as it stands at this offset of its segment."""
    return _FRAME.pack(len(content), crc32(content, salt ^ (offset & 0xFFFFFFFF))) + content


class OpenSegment:
    """A segment opened for reading; what is appended while it is open is seen too.

    Raises
    ------
    FileNotFoundError
        When it was compacted.
    StoreTooNew
        When a newer Clew wrote it.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._salt = _salt_of(os.pread(self._descriptor, HEADER_BYTES, 0), path)
        except BaseException:
            self.close()
            raise

    @property
    def salt(self) -> int | None:
        """None when nothing is in it."""
        return self._salt

    def close(self) -> None:
        os.close(self._descriptor)

    def __enter__(self) -> OpenSegment:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def contents(self, first: int = 0) -> Iterator[tuple[int, memoryview]]:
        """Offset and bytes of each whole, intact record from offset `first` on, up to the first that is not.

        What follows a record that is not whole was never answered: its writer was in the middle of it, or
        was killed there, and nobody writes after that place.
        """
        if self._salt is None:
            return
        first = max(first, HEADER_BYTES)
        n_bytes = os.fstat(self._descriptor).st_size - first
        # Read and not mapped: a writer whose disk is full takes back what it had half written, and a
        # mapping that loses its end kills the process that looks there.
        read = os.pread(self._descriptor, max(n_bytes, 0), first)
        yield from _intact(read, self._salt, first)

    def content_at(self, offset: int) -> memoryview | None:
        """The bytes of the record at this offset; None when no intact one begins there."""
        if self._salt is None or offset < HEADER_BYTES:
            return None
        start = os.pread(self._descriptor, _FRAME.size, offset)
        if len(start) < _FRAME.size:
            return None
        length, _ = _FRAME.unpack(start)
        if offset + _FRAME.size + length > os.fstat(self._descriptor).st_size:
            return None
        read = os.pread(self._descriptor, _FRAME.size + length, offset)
        return next((content for _, content in _intact(read, self._salt, offset)), None)


def _intact(read: bytes, salt: int, first: int) -> Iterator[tuple[int, memoryview]]:
    view, n_bytes, at = memoryview(read), len(read), 0
    unpack, head = _FRAME.unpack_from, _FRAME.size
    while at + head <= n_bytes:
        length, checksum = unpack(read, at)
        begin, end = at + head, at + head + length
        # A length of 0 is what a file is filled with whose last blocks a power cut left unwritten.
        if not length or end > n_bytes:
            return
        content = view[begin:end]
        if crc32(content, salt ^ ((first + at) & 0xFFFFFFFF)) != checksum:
            return
        yield first + at, content
        at = end


def _salt_of(start: bytes, path: Path) -> int | None:
    """None when its writer was killed before the header was written: nothing is in it."""
    if len(start) < HEADER_BYTES:
        return None
    magic, log_format, salt = _HEADER.unpack(start)
    if magic != _MAGIC:
        return None
    if log_format > LOG_FORMAT:
        raise StoreTooNew(
            f"{path} has format {log_format}, written by a newer Clew; this one reads format {LOG_FORMAT}."
            " Use the newer Clew."
        )
    return int(salt)


def record_end(offset: int, content: memoryview | bytes) -> int:
    """Where the record that stands at `offset` ends."""
    return offset + _FRAME.size + len(content)
