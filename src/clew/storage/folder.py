"""Objects as files of a local folder."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from clew.errors import StoreError
from clew.storage.locks import claim, sweep
from clew.storage.objects import ASIDE, Batch, ObjectStore, StoredObject, checked, digest_at, object_name

# So many files of a batch are open at most.
_FILES_A_BATCH = 64
# The disk takes the waits of several threads together.
_N_SYNCING = 8


class FolderObjects(ObjectStore):
    """Objects as files of a local folder, safe against power cuts once `put` has returned."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._verified: dict[str, tuple[int, int, int]] = {}

    @property
    def name(self) -> str:
        return str(self.folder)

    def exists(self, digest: str) -> bool:
        return self._place(digest).is_file()

    @contextmanager
    def batch(self) -> Iterator[Batch]:
        with _FolderBatch(self) as batch:
            yield batch
            batch.publish()

    def path(self, digest: str) -> Path:
        place = self._place(digest)
        if not place.exists():
            self.bring_back(digest)
        try:
            stat = place.stat()
        except FileNotFoundError:
            raise self._missing(digest) from None
        # Hashed once for each state of the file: a changed file has another time, size or number.
        if self._verified.get(digest) != _state(stat):
            found = _hash_of(place)
            if found != digest:
                raise self._damaged(digest, found, stat.st_size)
            self._verified[digest] = _state(stat)
        return place

    def listing(self, *, aside: bool = False) -> Iterator[StoredObject]:
        top = self.folder / ASIDE if aside else self.folder
        for path in top.glob("[0-9a-f][0-9a-f]/*"):
            digest = digest_at(path.relative_to(top).as_posix())
            with suppress(FileNotFoundError):  # another process was faster
                stat = path.stat()
                if digest is not None:
                    yield StoredObject(digest, stat.st_size, datetime.fromtimestamp(stat.st_mtime, UTC))

    def set_aside(self, digest: str) -> None:
        place, aside = self._place(digest), self._aside(digest)
        with self._explained(), suppress(FileNotFoundError):
            self._make_folder(aside.parent)
            os.utime(place)  # the day begins now; before the move, so that it is never taken for an older one
            place.replace(aside)

    def bring_back(self, digest: str) -> None:
        place, aside = self._place(digest), self._aside(digest)
        if aside.exists():
            with self._explained(), suppress(FileNotFoundError):
                self._make_folder(place.parent)
                aside.replace(place)
                sync_folder(place.parent)

    def drop(self, digest: str) -> None:
        with self._explained():
            self._aside(digest).unlink(missing_ok=True)

    def forget(self, digest: str) -> None:
        """Remove an object here and now: of a folder that holds copies only."""
        self._place(digest).unlink(missing_ok=True)

    def probe(self) -> None:
        try:
            self._temporary.mkdir(parents=True, exist_ok=True, mode=0o700)
            sweep(self._temporary)
            with self._temporary_file() as (file, path):
                file.write(b"probe")
                twin = path.with_suffix(".twin")
                os.link(path, twin)
                with suppress(FileExistsError):
                    os.link(path, twin)
                    raise StoreError(
                        f"{self.folder} lets a second link replace a file; use another file system."
                    )
                twin.unlink()
        except OSError as error:
            raise StoreError(
                f"Objects cannot be kept in {self.folder}: {error.strerror}. It must be a folder that you may"
                " write, on a file system that knows hard links."
            ) from error

    @property
    def _temporary(self) -> Path:
        return self.folder / "tmp"

    def _place(self, digest: str) -> Path:
        return self.folder / object_name(checked(digest))

    def _aside(self, digest: str) -> Path:
        return self.folder / ASIDE / object_name(checked(digest))

    def _start(self, digest: str, n_bytes: int) -> bytes:
        try:
            with self._place(digest).open("rb") as file:
                return file.read(n_bytes)
        except FileNotFoundError:
            raise self._missing(digest) from None

    def _read(self, digest: str) -> bytes:
        try:
            return self._place(digest).read_bytes()
        except FileNotFoundError:
            raise self._missing(digest) from None

    def _put(self, content: Iterable[bytes], digest: str, n_bytes: int) -> str:
        place = self._place(digest)
        with self._explained():
            if not _is_whole(place, digest, n_bytes):
                self._create(place, content, digest)
        return digest

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise _explained(self.folder, error) from error

    def _create(self, place: Path, content: Iterable[bytes], digest: str) -> None:
        self._make_folder(place.parent)
        with self._temporary_file() as (file, path):
            for chunk in content:
                file.write(chunk)
            file.flush()
            _sync(file.fileno())
            self._link(file, path, digest)
        sync_folder(place.parent)

    def _link(self, file: IO[bytes], path: Path, digest: str) -> None:
        """Give a file with these bytes, which is on the disk, the name of the object."""
        # The bytes were hashed on their way, so that reading them back begins without another look.
        self._verified[digest] = _state(os.fstat(file.fileno()))
        place = self._place(digest)
        try:
            os.link(path, place)
        except FileExistsError:
            # Another process was faster, or the object that is there is torn. Either way these
            # bytes, which are known to be right, may take its place.
            path.replace(place)

    def _make_folder(self, folder: Path) -> None:
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            sync_folder(folder.parent)

    @contextmanager
    def _temporary_file(self) -> Iterator[tuple[IO[bytes], Path]]:
        while True:
            path = self._temporary / secrets.token_hex(16)
            with path.open("xb") as file:
                # By its descriptor: until it is claimed, a sweep may take its name away.
                os.fchmod(file.fileno(), 0o400)
                claimed = claim(path)
                if claimed is None:
                    continue
                try:
                    yield file, path
                    return
                finally:
                    path.unlink(missing_ok=True)
                    os.close(claimed)


class _FolderBatch:
    """Files that are written at once, and then wait for the disk together."""

    def __init__(self, objects: FolderObjects) -> None:
        self._objects, self._lock = objects, threading.Lock()
        self._written: dict[str, tuple[IO[bytes], Path, ExitStack]] = {}

    def __enter__(self) -> _FolderBatch:
        return self

    def __exit__(self, *raised: object) -> None:
        self._close()

    def put(self, content: bytes) -> str:
        digest = hashlib.sha256(content).hexdigest()
        with self._objects._explained():
            if not _is_whole(self._objects._place(digest), digest, memoryview(content).nbytes):
                self._write(content, digest)
        return digest

    def publish(self) -> None:
        """Have all that was put on the disk, under its name."""
        with self._objects._explained(), self._lock:
            self._publish()

    def _write(self, content: bytes, digest: str) -> None:
        with ExitStack() as opened:
            file, path = opened.enter_context(self._objects._temporary_file())
            file.write(content)
            file.flush()
            with self._lock:
                if digest not in self._written:
                    self._written[digest] = file, path, opened.pop_all()
                if len(self._written) >= _FILES_A_BATCH:
                    self._publish()

    def _publish(self) -> None:
        with ThreadPoolExecutor(_N_SYNCING) as pool:
            list(pool.map(lambda written: _sync(written[0].fileno()), self._written.values()))
            folders = {self._objects._place(digest).parent for digest in self._written}
            new = {folder.parent for folder in folders if not folder.is_dir()}
            for folder in folders:
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for digest, (file, path, _) in self._written.items():
                self._objects._link(file, path, digest)
            list(pool.map(sync_folder, [*folders, *new]))
        self._close()

    def _close(self) -> None:
        for _, _, opened in self._written.values():
            opened.close()
        self._written.clear()


def _state(stat: os.stat_result) -> tuple[int, int, int]:
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def _is_whole(place: Path, digest: str, n_bytes: int) -> bool:
    try:
        return place.stat().st_size == n_bytes and _hash_of(place) == digest
    except FileNotFoundError:
        return False


def _hash_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(descriptor: int) -> None:
    # macOS leaves data in the drive's cache after fsync; F_FULLFSYNC empties that too.
    full_sync = getattr(fcntl, "F_FULLFSYNC", None)
    if full_sync is not None:
        fcntl.fcntl(descriptor, full_sync)
    else:
        os.fsync(descriptor)


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _explained(folder: Path, error: OSError) -> StoreError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreError(f"The disk of {folder} is full. Free some space, then try again: nothing was lost.")
    return StoreError(f"Objects cannot be written to {folder}: {error.strerror}. Check its permissions.")
