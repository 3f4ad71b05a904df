"""How the database is reached, and the one door through which it is written.

One writer at a time: on SQLite ``BEGIN IMMEDIATE`` takes the write lock before anything is read, on
PostgreSQL an advisory lock does the same. So a value read inside ``write()`` cannot change before it
is written back. SERIALIZABLE with retries was the other choice for PostgreSQL; but a block under
``with`` cannot be run again, and rows are few: waiting in line costs less than it protects.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError

from clew.errors import MissingExtra, SettingsError, StoreBusy, StoreError
from clew.storage.failures import explained
from clew.storage.rows import Reader, Transaction

BUSY_TIMEOUT_SECONDS = 30.0

# Any fixed number does: it keeps Clew's lock apart from those that other programs take in the database.
_ADVISORY_LOCK = 0x636C6577

# Held while a thread writes, so that no other thread forks then: the child's copy of SQLite would think
# for ever that the file is being written. Reentrant, because one thread may write to two databases.
_fork_lock = threading.RLock()
os.register_at_fork(
    before=_fork_lock.acquire, after_in_parent=_fork_lock.release, after_in_child=_fork_lock.release
)

# Engines of a parent process, kept so that a forked child never closes connections that are not its own.
_inherited: list[Engine] = []


class Database:
    """A SQLite file or a PostgreSQL database.

    Parameters
    ----------
    where
        The SQLite file, or a URL such as ``postgresql://user:password@host/name``.
    busy_timeout_seconds
        How long a writer waits for another one before `StoreBusy`.
    """

    def __init__(self, where: Path | str, busy_timeout_seconds: float = BUSY_TIMEOUT_SECONDS) -> None:
        self.url = _url(where)
        self.busy_timeout_seconds = busy_timeout_seconds
        self.path = Path(where) if isinstance(where, Path) else None
        self._engine: Engine | None = None
        self._owner_pid = os.getpid()
        self._writing = threading.local()
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """What to call it in a message: the file, or the URL without its password."""
        return str(self.path) if self.path else self.url.render_as_string(hide_password=True)

    def write(self) -> AbstractContextManager[Transaction]:
        """The one door for changes: all of the block is kept, or nothing when it raises.

        Raises
        ------
        StoreBusy
            When another process keeps writing for longer than the busy timeout.
        StoreError
            Inside another ``write()`` of this thread, which would wait for itself.

        Examples
        --------
        ::

            with store.write() as tx:
                row = tx.get("aliases", deployment="churn", alias="champion")
                tx.update("aliases", {...}, {"number": row["number"] + 1})
        """
        return self._write()

    def read(self) -> AbstractContextManager[Reader]:
        """Read rows of one moment, beside any writer."""
        return self._read()

    @contextmanager
    def _write(self) -> Iterator[Transaction]:
        with self._alone(), self.connection("write") as connection:
            yield Transaction(connection)

    @contextmanager
    def _read(self) -> Iterator[Reader]:
        with self.connection("read") as connection:
            yield Reader(connection)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Let one thread of this process write, and not twice at once."""
        pid = getattr(self._writing, "pid", None)
        if pid == os.getpid():
            raise StoreError(
                f"write() was entered inside another write() to {self.name}; it would wait for itself."
                " Hand the open transaction on instead."
            )
        if pid is not None:
            raise StoreError(
                f"This process was forked inside a write() to {self.name}, whose lock it cannot let go. Start"
                " processes outside of write()."
            )
        if not _fork_lock.acquire(timeout=self.busy_timeout_seconds):
            raise StoreBusy(
                f"Another thread of this process has been writing to {self.name} for"
                f" {self.busy_timeout_seconds:g} s, or waiting for another program that does. Let that"
                " finish, then try again."
            )
        self._writing.pid = os.getpid()
        try:
            yield
        finally:
            self._writing.pid = None
            _fork_lock.release()

    @contextmanager
    def connection(self, purpose: str) -> Iterator[Connection]:
        """A connection in a transaction that is committed unless the block raises. Storage's own."""
        with explained(self), self.engine().connect() as connection:
            connection = connection.execution_options(clew_purpose=purpose)
            with connection.begin():
                if connection.dialect.name == "postgresql":
                    self._begin_postgresql(connection, purpose)
                yield connection

    def _begin_postgresql(self, connection: Connection, purpose: str) -> None:
        if purpose == "read":
            connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
            return
        milliseconds = int(self.busy_timeout_seconds * 1000)
        connection.execute(text(f"SET LOCAL lock_timeout = {milliseconds}"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _ADVISORY_LOCK})

    def engine(self) -> Engine:
        """The connections of this process: after a fork the child gets its own. Storage's own."""
        with self._lock:
            if self._owner_pid != os.getpid():
                if self._engine is not None:
                    _inherited.append(self._engine)
                self._engine, self._owner_pid = None, os.getpid()
            if self._engine is None:
                self._engine = _connect(self.url, self.busy_timeout_seconds)
            return self._engine

    def close(self) -> None:
        """Close the connections; the next use opens new ones."""
        if self._engine is not None and self._owner_pid == os.getpid():
            self._engine.dispose()
            self._engine = None


def _url(where: Path | str) -> URL:
    if isinstance(where, Path):
        return URL.create("sqlite+pysqlite", database=str(where))
    try:
        url = make_url(where)
    except ArgumentError:
        raise SettingsError(
            "database is no URL; write postgresql://USER:PASSWORD@HOST/NAME, or leave it out for a"
            " SQLite file."
        ) from None
    if url.drivername not in ("postgresql", "postgres", "postgresql+psycopg"):
        raise SettingsError(
            f"database has the URL scheme {url.drivername!r}; Clew speaks postgresql, or SQLite when no"
            " database is set."
        )
    return url.set(drivername="postgresql+psycopg")


def _connect(url: URL, busy_timeout_seconds: float) -> Engine:
    if url.get_backend_name() == "sqlite":
        # isolation_level=None: the driver begins nothing by itself, so that our BEGIN is the only one.
        options: dict[str, Any] = {"timeout": busy_timeout_seconds, "isolation_level": None}
        engine = create_engine(url, connect_args=options, hide_parameters=True)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    try:
        return create_engine(
            url, connect_args={"connect_timeout": 10}, pool_pre_ping=True, hide_parameters=True
        )
    except ModuleNotFoundError:
        raise MissingExtra("psycopg", "postgres", "A PostgreSQL store") from None


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # FULL: a decision is stored before it acts, so a power cut must not take back a commit.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def _begin_sqlite(connection: Connection) -> None:
    is_write = connection.get_execution_options().get("clew_purpose") == "write"
    connection.exec_driver_sql("BEGIN IMMEDIATE" if is_write else "BEGIN")
