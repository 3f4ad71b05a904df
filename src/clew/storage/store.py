"""Opening a store: its folder, its database at the right version, its objects."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType

from clew.config import Settings
from clew.errors import StoreError
from clew.storage.database import BUSY_TIMEOUT_SECONDS, Database
from clew.storage.folder import FolderObjects
from clew.storage.locks import folder_lock, scratch_folder, sweep
from clew.storage.objects import ObjectStore
from clew.storage.rows import Reader, Transaction
from clew.storage.versions import bring_up_to_date, is_up_to_date

DATABASE_FILE = "clew.sqlite"


@dataclass(frozen=True, slots=True)
class Store:
    """Where a project's records and bytes live.

    `folder` is local even when the records are in PostgreSQL and the bytes in a bucket. Close the store,
    or use it as a context manager.
    """

    database: Database
    objects: ObjectStore
    folder: Path

    def write(self) -> AbstractContextManager[Transaction]:
        """The one door for changes of rows; see `Database.write`."""
        return self.database.write()

    def read(self) -> AbstractContextManager[Reader]:
        """Read rows of one moment, beside any writer."""
        return self.database.read()

    @contextmanager
    def scratch(self, name: str) -> Iterator[Path]:
        """A fresh folder for passing files, removed afterwards."""
        with scratch_folder(self.folder / "tmp", name) as path:
            yield path

    def close(self) -> None:
        self.database.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def open_store(
    settings: Settings, *, now: datetime, busy_timeout_seconds: float = BUSY_TIMEOUT_SECONDS
) -> Store:
    """Open the store of a project; make it, or bring it to this Clew's version, when that is needed.

    Before an older SQLite store is changed, a copy is laid into ``backups`` beside it. Several
    processes may open a store at once: one makes it, the others wait for that.

    Raises
    ------
    StoreTooNew
        When a newer Clew wrote it.
    StoreBusy
        When another program holds the database for longer than the timeout.
    StoreError
        When the folder cannot be written, the file is no database of Clew, or the object store lets
        objects be replaced.
    """
    folder = settings.store
    _make_folders(folder)
    database = Database(settings.database or folder / DATABASE_FILE, busy_timeout_seconds)
    objects = open_objects(settings)
    try:
        # Nearly always the version is right: one read, no lock, no Alembic.
        if not is_up_to_date(database):
            with folder_lock(folder):
                bring_up_to_date(database, folder / "backups", now)
        objects.probe()
        sweep(folder / "tmp")
    except BaseException:
        database.close()
        raise
    return Store(database, objects, folder)


def open_objects(settings: Settings) -> ObjectStore:
    """The object store that the settings name, not yet probed."""
    url = settings.objects.url
    if url is None:
        return FolderObjects(settings.store / "objects")
    if "://" not in url:
        return FolderObjects(settings.root / url)
    from clew.storage.bucket import BucketObjects

    return BucketObjects(url, settings.objects.options, settings.store / "cache")


def _make_folders(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / "tmp").mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise _cannot_write(folder, error.strerror) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        is_read_only = os.statvfs(folder).f_flag & os.ST_RDONLY
        raise _cannot_write(folder, "Read-only file system" if is_read_only else "Permission denied")


def _cannot_write(folder: Path, reason: str | None) -> StoreError:
    return StoreError(
        f"The store {folder} cannot be written: {reason}. Check who owns it and its permissions, or name"
        ' another folder: store = "…" in clew.toml, or CLEW_STORE.'
    )
