"""What a failure of the database means to the person who has to mend it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import psutil
from sqlalchemy.exc import DBAPIError, IntegrityError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from clew.errors import StoreBusy, StoreError


class Failing(Protocol):
    """What a message needs to know of a database."""

    @property
    def name(self) -> str: ...
    @property
    def path(self) -> Path | None: ...
    @property
    def busy_timeout_seconds(self) -> float: ...


@contextmanager
def explained(database: Failing) -> Iterator[None]:
    """Turn the driver's errors inside the block into Clew's, with what to do."""
    try:
        yield
    except DBAPIError as error:
        raise _explanation(database, error) from error
    except StatementError as error:  # a value that its column cannot hold; nothing was sent
        raise StoreError(f"{database.name} cannot keep a row: {error.orig}.") from error
    except sqlite3.Error as error:
        raise _explain_sqlite(database, database.path or Path(), str(error)) from error
    except PoolTimeout as error:
        raise StoreBusy(
            f"No connection to {database.name} became free: too many threads use it at once."
        ) from error


def _explanation(database: Failing, error: DBAPIError) -> StoreError:
    words = str(error.orig).strip()
    if isinstance(error, IntegrityError):
        return StoreError(f"{database.name} refused a row: {words}.")
    if database.path is None:
        return _explain_postgresql(database, error, words)
    return _explain_sqlite(database, database.path, words)


def _explain_sqlite(database: Failing, path: Path, words: str) -> StoreError:
    if "locked" in words or "busy" in words:
        return StoreBusy(
            f"{path} has been locked by another program for {database.busy_timeout_seconds:g} s"
            f"{_holders(path)}. Let it finish, or stop it, then try again."
        )
    if "not a database" in words or "malformed" in words:
        return StoreError(
            f"{path} is not a SQLite database, or it is damaged ({words}). Move it away to start a new store,"
            f" or put back a copy from {path.parent / 'backups'}."
        )
    if "readonly" in words or "unable to open" in words:
        return StoreError(
            f"{path} cannot be written ({words}). Check who owns {path.parent} and its permissions."
        )
    if "full" in words:
        return StoreError(
            f"The disk of {path} is full ({words}). Free some space, then try again: nothing was lost."
        )
    return StoreError(f"{path} failed: {words}.")


def _explain_postgresql(database: Failing, error: DBAPIError, words: str) -> StoreError:
    state = getattr(error.orig, "sqlstate", None)
    if state == "55P03":
        return StoreBusy(
            f"{database.name} has been written by another process for {database.busy_timeout_seconds:g} s."
            " See which in pg_stat_activity; let it finish, then try again."
        )
    if state is None:  # nothing came from the server: it was not reached, or the line broke
        return StoreError(
            f"{database.name} cannot be reached: {words}. Check that the server runs, and the URL in"
            " clew.toml."
        )
    return StoreError(f"{database.name} failed: {words}.")


def _holders(path: Path) -> str:
    """Which other processes have the file open, as far as this user may see."""
    holders = []
    for process in psutil.process_iter(["pid", "name"]):
        try:
            if process.pid != os.getpid() and any(Path(file.path) == path for file in process.open_files()):
                holders.append(f"process {process.pid} ({process.info['name']})")
        except (psutil.Error, OSError):
            continue  # gone in the meantime, or another user's
    return f"; it is open in {', '.join(holders)}" if holders else ""
