"""Appending to the prediction log, and the ids that name what is in it.

A worker writes its records to a segment of its own, with one system call before it answers. What the call
has taken survives the death of the process; a thread behind it asks the disk to keep it, many answers at
once, so that a power cut costs no more than the last fraction of a second.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from clew.errors import DataError, LogFailed, NotFound
from clew.storage.folder import sync_folder
from clew.storage.log_segments import (
    HEADER_BYTES,
    framed,
    header,
    leave_request,
    segment_path,
    worker_segments,
)
from clew.storage.records import Record, encode_record

log = logging.getLogger("clew.storage")

# macOS has only fsync, which there leaves the data to the drive: enough against its own crash.
_sync_data = getattr(os, "fdatasync", os.fsync)

_ID = re.compile(r"(0|[1-9a-f][0-9a-f]{0,15})-(0|[1-9a-f][0-9a-f]{0,15})-(0|[1-9a-f][0-9a-f]{0,15})")


def prediction_id(worker: int, segment: int, offset: int) -> str:
    """What names the record that this worker wrote at this offset of this segment.

    Examples
    --------
    >>> prediction_id(3, 1, 500)
    '3-1-1f4'
    """
    return f"{worker:x}-{segment:x}-{offset:x}"


def parse_prediction_id(text: str) -> tuple[int, int, int]:
    """Worker, segment and offset of the record that `text` names.

    Raises
    ------
    NotFound
        When it is no prediction id.

    Examples
    --------
    >>> parse_prediction_id("3-1-1f4")
    (3, 1, 500)
    """
    matched = _ID.fullmatch(text)
    if matched is None:
        raise NotFound(f"{text!r} is no prediction id; one looks like 3-1-1f4, as it stood in the answer.")
    worker, segment, offset = (int(part, 16) for part in matched.groups())
    return worker, segment, offset


@dataclass(slots=True)
class _OwnSegment:
    """The segment that a writer writes.

    Attributes
    ----------
    prefix
        What the ids of its records begin with.
    end
        Where the next record goes.
    """

    prefix: str
    descriptor: int
    salt: int
    end: int = HEADER_BYTES


class LogWriter:
    """Appends the records of one worker.

    It always begins a segment of its own, so that it never writes after what a killed process left. Several
    threads may append. Other processes see a record as soon as `append` returns, and may be asked to read
    what lies in `folder` with `read_since`.

    Parameters
    ----------
    folder
        Of the log; it is made when it is not there.
    worker
        The writer's number. Two writers of one number get different segments.
    segment_bytes
        A segment that has grown to this is left for a new one; only those that were left are compacted.
    sync_seconds
        After how long the disk is asked to keep what was appended. A shorter time means more work for the
        disk; 0 asks as often as it can.

    Raises
    ------
    LogFailed
        When no segment can be made.

    Examples
    --------
    ::

        writer = LogWriter(store.folder / LOG_FOLDER, worker=3)
        [answer_id] = writer.append([Prediction(...)])  # now it may be answered
        writer.close()
    """

    def __init__(
        self, folder: Path, worker: int, *, segment_bytes: int = 64_000_000, sync_seconds: float = 0.05
    ) -> None:
        self._folder, self._worker = folder, worker
        self._segment_bytes = segment_bytes
        self._lock = threading.Lock()
        self._left: list[int] = []  # descriptors of segments that were left, not yet synced
        self._sync_failure: OSError | None = None
        self._is_dirty = self._is_closed = self._is_new = self._is_torn = False
        self._wake, self._closing = threading.Event(), threading.Event()
        with _explained(folder):
            (folder / str(worker)).mkdir(mode=0o700, parents=True, exist_ok=True)
        self._segment = self._begun()
        self._thread = threading.Thread(
            target=self._sync_until_closed, args=[sync_seconds], daemon=True, name="clew log sync"
        )
        self._thread.start()

    def append(self, records: Sequence[Record]) -> list[str]:
        """Write `records` at once; returns their ids in order.

        Raises
        ------
        LogFailed
            When not all could be written, as when the disk is full: the first of them may be in the log, but
            none may be answered. Also when the disk failed to keep what was appended before, which is said
            once.
        DataError
            When a value cannot be kept, such as an integer of more than 64 bits.
        """
        if not records:
            return []
        with self._lock:
            segment = self._writable()
            prefix, salt, end = segment.prefix, segment.salt, segment.end
            frames, ids = [], []
            for record in records:
                frame = framed(_encoded(record), salt, end)
                frames.append(frame)
                ids.append(f"{prefix}{end:x}")
                end += len(frame)
            self._write(segment, frames)
            segment.end = end
            if not self._is_dirty:
                self._is_dirty = True
                self._wake.set()
        return ids

    def leave_if_asked(self) -> None:
        """Begin a new segment when somebody waits for this one, as to erase records in it.

        Raises
        ------
        LogFailed
            When no segment can be made; the one that there is is written on.
        """
        request = leave_request(self._folder, self._worker)
        if not request.exists():
            return
        with self._lock, _explained(self._folder):
            if self._is_closed:
                return
            self._leave()
            self._is_dirty = True
            self._wake.set()
            request.unlink(missing_ok=True)

    def close(self) -> None:
        """Have the disk keep all that was appended, and let go of the segment. Repeating it does nothing.

        Raises
        ------
        LogFailed
            When the disk could not.
        """
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = self._is_dirty = True
            self._closing.set()
            self._wake.set()
        self._thread.join()
        os.close(self._segment.descriptor)
        self._tell_sync_failure()

    def _writable(self) -> _OwnSegment:
        """The segment to append to, a new one when the old has grown too long or cannot be trusted."""
        if self._is_closed:
            raise LogFailed(f"The writer {self._worker} of the prediction log was closed.")
        if self._is_torn or self._sync_failure is not None or self._segment.end >= self._segment_bytes:
            self._leave()
            self._tell_sync_failure()
        return self._segment

    def _tell_sync_failure(self) -> None:
        failure, self._sync_failure = self._sync_failure, None
        if failure is not None:
            raise _failed(self._folder, failure) from failure

    def _leave(self) -> None:
        begun = self._begun()
        self._left.append(self._segment.descriptor)
        self._segment, self._is_torn = begun, False

    def _write(self, segment: _OwnSegment, frames: list[bytes]) -> None:
        n_written = 0
        joined = b"".join(frames)
        try:
            n_written = os.pwrite(segment.descriptor, joined, segment.end)
            if n_written < len(joined):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            self._take_back(segment, frames, n_written)
            raise _failed(self._folder, error) from error

    def _take_back(self, segment: _OwnSegment, frames: list[bytes], n_written: int) -> None:
        """Leave no half of a record in the segment, or leave the segment.

        Whole records stay: somebody may have read them, and now begins to read where they end.
        """
        for frame in frames:
            if len(frame) > n_written:
                break
            segment.end += len(frame)
            n_written -= len(frame)
        try:
            os.ftruncate(segment.descriptor, segment.end)
        except OSError:
            self._is_torn = True

    def _begun(self) -> _OwnSegment:
        """A new segment with its header, locked."""
        with _explained(self._folder):
            while True:
                segment = self._claimed()
                if segment is not None:
                    self._is_new = True
                    return segment

    def _claimed(self) -> _OwnSegment | None:
        """A file under the next number; None when another process got between."""
        known = [each.number for each in worker_segments(self._folder, self._worker)]
        number = max(known, default=0) + 1
        path = segment_path(self._folder, self._worker, number)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            # Before it was locked a compaction may have removed it as left by a dead writer; and a later
            # number means that this one may have been used, compacted and removed since it was chosen.
            newest = max((each.number for each in worker_segments(self._folder, self._worker)), default=0)
            if newest == number:
                salt = int.from_bytes(os.urandom(4), "little")
                if os.pwrite(descriptor, header(salt), 0) == HEADER_BYTES:
                    return _OwnSegment(f"{self._worker:x}-{number:x}-", descriptor, salt)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except BaseException:
            path.unlink(missing_ok=True)
            os.close(descriptor)
            raise
        if newest > number:
            path.unlink(missing_ok=True)
        os.close(descriptor)
        return None

    def _sync_until_closed(self, seconds: float) -> None:
        is_last = False
        while not is_last:
            self._wake.wait()
            self._closing.wait(seconds)  # so that all that is appended meanwhile shares one sync
            is_last = self._is_closed
            self._sync()

    def _sync(self) -> None:
        with self._lock:
            self._is_dirty = False
            self._wake.clear()
            left, self._left = self._left, []
            is_new, self._is_new = self._is_new, False
            current = self._segment.descriptor
        try:
            for descriptor in [*left, current]:
                _sync_data(descriptor)
            if is_new:
                sync_folder(self._folder / str(self._worker))
                sync_folder(self._folder)
        except OSError as error:
            # The next caller of append is told. Here it goes on, with a new segment: what the kernel holds
            # of this one may or may not reach the disk, and asking again would not tell.
            log.exception("the disk did not keep the prediction log", extra={"worker": self._worker})
            self._sync_failure = error
        finally:
            for descriptor in left:
                os.close(descriptor)


def _encoded(record: Record) -> bytes:
    try:
        return encode_record(record)
    except (OverflowError, UnicodeEncodeError) as error:
        raise DataError(
            f"A record of {record.deployment!r} has a value that cannot be kept: {error}."
        ) from None


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Turn the kernel's errors inside the block into `LogFailed`."""
    try:
        yield
    except OSError as error:
        raise _failed(folder, error) from error


def _failed(folder: Path, error: OSError) -> LogFailed:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        todo = "Free some space: it goes on by itself then"
    else:
        todo = "Check the disk, who owns the folder, and its permissions"
    return LogFailed(
        f"The prediction log in {folder} cannot be written: {error.strerror}. {todo}; what was not"
        " logged was not answered."
    )
