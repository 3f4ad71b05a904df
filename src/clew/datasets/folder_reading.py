"""Reading files into packs: each once, by several threads, and only when it holds still."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock

from clew.datasets.folder_scan import Failed, Seen
from clew.datasets.packs import MAGIC, PACK_BYTES, PIECE_BYTES, Place, put_pack, sha256_of
from clew.storage import ObjectStore

_THREADS = min(4, os.cpu_count() or 1)
# A link that took the file's place is not followed, and a pipe not waited for.
_OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_GONE = (errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.ENXIO, errno.ESTALE, errno.EINVAL)


class _ChangedError(Exception):
    """The file is no longer what it was when the folder was looked at."""


@dataclass(slots=True)
class Reading:
    """What came of reading files: the hashes of those that could be read, new places, and the others."""

    digests: dict[Seen, bytes] = field(default_factory=dict)
    places: dict[bytes, Place] = field(default_factory=dict)
    changed: list[bytes] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)


def read_files(
    objects: ObjectStore, top: bytes, files: Sequence[Seen], known: Mapping[bytes, Place]
) -> Reading:
    """Read files and links, and store the contents that are not among the `known`.

    A file that changed since it was seen, or while it was read, is left out and named.

    Raises
    ------
    StoreError
        When contents cannot be stored.
    """
    reader = _Reader(objects, top, known)
    with ThreadPoolExecutor(_THREADS) as threads:
        try:
            for done in [threads.submit(reader.read_batch, batch) for batch in _batches(files)]:
                done.result()
        except BaseException:
            threads.shutdown(wait=True, cancel_futures=True)
            raise
    return reader.reading


def _batches(files: Sequence[Seen]) -> Iterator[list[Seen]]:
    """Files that go into one pack; what is longer than a pack stands alone."""
    batch: list[Seen] = []
    n_bytes = 0
    for seen in files:
        if batch and n_bytes + seen.size > PACK_BYTES:
            yield batch
            batch, n_bytes = [], 0
        batch.append(seen)
        n_bytes += seen.size
    if batch:
        yield batch


class _Reader:
    """Reads batches, from several threads at once."""

    def __init__(self, objects: ObjectStore, top: bytes, known: Mapping[bytes, Place]) -> None:
        self._objects, self._top, self._known = objects, top, known
        self._taken: set[bytes] = set()
        self._lock = Lock()
        self.reading = Reading()

    def read_batch(self, batch: Sequence[Seen]) -> None:
        if batch[0].size > PACK_BYTES:
            self._read_large(batch[0])
            return
        digests, contents, new = {}, [], []
        for seen in batch:
            with self._noted(seen):
                content = _content(self._top, seen)
                digests[seen] = digest = sha256_of(content)
                if content and self._take(digest):
                    contents.append(content)
                    new.append(digest)
        places = dict(zip(new, put_pack(self._objects, contents), strict=True))
        with self._lock:
            self.reading.digests |= digests
            self.reading.places |= places

    def _read_large(self, seen: Seen) -> None:
        with self._noted(seen):
            # Looked at before it is stored, where it may well be a known one whose times were moved.
            digest = _hash_of(self._top, seen) if self._known else None
            packs: tuple[str, ...] = ()
            if digest is None or self._take(digest):
                stored, packs = self._store_pieces(seen)
                if digest not in (None, stored):
                    raise _ChangedError
                digest = stored
            with self._lock:
                self.reading.digests[seen] = digest
                if packs:
                    self.reading.places[digest] = Place(packs, len(MAGIC))

    def _store_pieces(self, seen: Seen) -> tuple[bytes, tuple[str, ...]]:
        hashed, packs = hashlib.sha256(), []
        for piece in _pieces(self._top, seen):
            hashed.update(piece)
            packs.append(put_pack(self._objects, [piece])[0].packs[0])
        return hashed.digest(), tuple(packs)

    def _take(self, digest: bytes) -> bool:
        """Whether this content is to be stored, and by the caller."""
        with self._lock:
            if digest in self._known or digest in self._taken:
                return False
            self._taken.add(digest)
            return True

    @contextmanager
    def _noted(self, seen: Seen) -> Iterator[None]:
        """Note a file that cannot be read, and go on with the others."""
        try:
            yield
        except _ChangedError:
            with self._lock:
                self.reading.changed.append(seen.path)
        except OSError as error:
            with self._lock:
                if error.errno in _GONE:
                    self.reading.changed.append(seen.path)
                else:
                    self.reading.failed.append(Failed(seen.path, error.strerror or str(error)))


def _content(top: bytes, seen: Seen) -> bytes:
    """All of a small file, or where a link points."""
    path = top + b"/" + seen.path
    if seen.kind == "link":
        target = os.readlink(path)  # noqa: PTH115 - pathlib would tidy it up
        if len(target) != seen.size:
            raise _ChangedError
        return target
    descriptor = os.open(path, _OPEN)
    try:
        content = os.read(descriptor, seen.size + 1)
        while len(content) < seen.size and (more := os.read(descriptor, seen.size + 1 - len(content))):
            content += more
        _refuse_change(descriptor, seen)
    finally:
        os.close(descriptor)
    if len(content) != seen.size:
        raise _ChangedError
    return content


def _pieces(top: bytes, seen: Seen) -> Iterator[bytes]:
    """A large file, piece by piece."""
    descriptor = os.open(top + b"/" + seen.path, _OPEN)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        left = seen.size
        while left:
            piece = _read_up_to(file.fileno(), min(left, PIECE_BYTES))
            left -= len(piece)
            if not piece:
                raise _ChangedError
            yield piece
        _refuse_change(file.fileno(), seen)


def _read_up_to(descriptor: int, n_bytes: int) -> bytes:
    chunks = []
    while n_bytes and (chunk := os.read(descriptor, n_bytes)):
        chunks.append(chunk)
        n_bytes -= len(chunk)
    return b"".join(chunks)


def _hash_of(top: bytes, seen: Seen) -> bytes:
    hashed = hashlib.sha256()
    for piece in _pieces(top, seen):
        hashed.update(piece)
    return hashed.digest()


def _refuse_change(descriptor: int, seen: Seen) -> None:
    """Of what was seen before, each change since moves at least the change time."""
    now = os.fstat(descriptor)
    if (now.st_size, now.st_mtime_ns, now.st_ctime_ns, now.st_ino) != (
        seen.size,
        seen.mtime_ns,
        seen.ctime_ns,
        seen.inode,
    ):
        raise _ChangedError
