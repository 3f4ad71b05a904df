"""Which version a store has, and how it comes to this Clew's."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection, inspect

from clew import __version__
from clew.errors import StoreError, StoreTooNew
from clew.storage.database import Database
from clew.storage.failures import explained
from clew.storage.rows import Reader, Transaction
from clew.storage.tables import STORE_VERSION, metadata, stored_time

MIGRATIONS = Path(__file__).parent / "migrations"


def is_up_to_date(database: Database) -> bool:
    """Whether the store is there and of this Clew's version.

    Raises
    ------
    StoreTooNew
        When a newer Clew wrote it.
    StoreError
        When the database belongs to another program.
    """
    with database.connection("read") as connection:
        return _version(database, connection) == STORE_VERSION


def bring_up_to_date(
    database: Database,
    backups: Path,
    now: datetime,
    migrations: Path = MIGRATIONS,
    newest: int = STORE_VERSION,
) -> None:
    """Make the tables of a new store, or migrate an older one after laying a copy of it aside."""
    _use_write_ahead_log(database)
    with database.connection("read") as connection:
        version = _version(database, connection, newest)
    if version is not None and version < newest:
        with explained(database):
            _back_up(database, backups, version, now)
    with database.connection("write") as connection:
        # Read again under the write lock: on PostgreSQL another machine may have been faster.
        version = _version(database, connection, newest)
        if version is None:
            metadata.create_all(connection, checkfirst=False)
            Transaction(connection).insert("meta", {"key": "created_at", "value": stored_time(now)})
        elif version < newest:
            run_migrations(connection, migrations, version, newest)
        else:
            return
        _record_version(Transaction(connection), newest)


def _version(database: Database, connection: Connection, newest: int = STORE_VERSION) -> int | None:
    """The store's version, or None when the database is empty."""
    tables = set(inspect(connection).get_table_names())
    if not tables:
        return None
    row = Reader(connection).get("meta", key="store_version") if "meta" in tables else None
    if row is None:
        raise StoreError(
            f"{database.name} holds tables of another program ({', '.join(sorted(tables)[:5])}). Give Clew a"
            " database of its own: database or store in clew.toml."
        )
    version = int(row["value"])
    if version > newest:
        writer = Reader(connection).get("meta", key="written_by") or {"value": "a newer one"}
        raise StoreTooNew(
            f"{database.name} has store version {version}, written by Clew {writer['value']}; this is Clew"
            f" {__version__}, which knows versions up to {newest}. Run: pip install --upgrade clew"
        )
    return version


def _record_version(tx: Transaction, version: int) -> None:
    for key, value in (("store_version", str(version)), ("written_by", __version__)):
        if not tx.update("meta", {"key": key}, {"value": value}):
            tx.insert("meta", {"key": key, "value": value})


def _use_write_ahead_log(database: Database) -> None:
    if database.path is None:
        return
    # Readers then never wait for the writer. Recorded in the file, so once is enough.
    with explained(database), database.engine().connect() as connection:
        connection.connection.cursor().execute("PRAGMA journal_mode = WAL")


def run_migrations(connection: Connection, migrations: Path, version: int, newest: int) -> None:
    """Take the steps after `version` up to `newest`, in the transaction of `connection`: all or none.

    Version 0 is an empty database.
    """
    from alembic.migration import MigrationContext
    from alembic.operations import Operations
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory(str(migrations))
    steps = list(scripts.iterate_revisions(f"{newest:04}", f"{version:04}" if version else "base"))
    with Operations.context(MigrationContext.configure(connection)):
        for step in reversed(steps):
            step.module.upgrade()


def _back_up(database: Database, backups: Path, version: int, now: datetime) -> Path | None:
    """Copy a SQLite database aside, whole even while others write.

    Returns None for PostgreSQL: its own tools back it up, and a migration that fails there leaves nothing.
    """
    if database.path is None:
        return None
    backups.mkdir(mode=0o700, exist_ok=True)
    copy = backups / f"{database.path.stem}-v{version}-{now:%Y%m%dT%H%M%S%f}Z.sqlite"
    with closing(sqlite3.connect(database.path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    return copy
