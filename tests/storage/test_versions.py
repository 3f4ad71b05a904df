from __future__ import annotations

import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, MetaData, text

from clew import __version__
from clew.config import Settings
from clew.errors import StoreError, StoreTooNew
from clew.storage import Database, Store, open_store
from clew.storage.run_values import ValueCondition, search_runs
from clew.storage.tables import STORE_VERSION, metadata
from clew.storage.versions import MIGRATIONS, bring_up_to_date, run_migrations
from tests.storage.conftest import NOW

NEXT = """
from __future__ import annotations
import sqlalchemy as sa
from alembic import op
revision = "{number:04}"
down_revision = "{before:04}"
def upgrade() -> None:
    op.add_column("runs", sa.Column("colour_{number}", sa.Text()))
    op.execute("UPDATE runs SET colour_{number} = model")
    {more}
"""


def later_migrations(folder: Path, *more: str) -> Path:
    """The released migrations and some of the future, which each add a column and then do `more`."""
    shutil.copytree(MIGRATIONS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    for number, what in enumerate(more, STORE_VERSION + 1):
        step = NEXT.format(number=number, before=number - 1, more=what)
        (folder / "versions" / f"v{number:04}_future.py").write_text(step)
    return folder


def add_run(store: Store) -> None:
    with store.write() as tx:
        tx.insert(
            "runs",
            {"id": "r", "key": "k", "model": "m", "purpose": "p", "status": "running", "started_at": NOW},
        )


def version_of(database: Database) -> str:
    with database.read() as reader:
        row = reader.get("meta", key="store_version")
    assert row is not None
    return str(row["value"])


def shape(connection: Connection) -> dict[str, list[object]]:
    """What the database says of its columns."""
    found = MetaData()
    found.reflect(connection)
    return {
        name: [
            (column.name, str(column.type), column.nullable, column.primary_key) for column in table.columns
        ]
        for name, table in found.tables.items()
    }


def definitions(statement: str) -> list[str]:
    """What a statement says, in any order: columns that are added later stand behind the constraints."""
    head, _, body = statement.partition("(")
    outer = re.split(r",(?![^(]*\))", body.rpartition(")")[0])
    return [head.strip(), *sorted(each.strip() for each in outer)]


def test_the_migrations_make_the_same_tables_as_a_new_store(any_store: Store) -> None:
    names_only = {"compare_type": False}  # the types are compared as the database tells them
    with any_store.database.connection("write") as connection:
        new = shape(connection)
        metadata.drop_all(connection)
        run_migrations(connection, MIGRATIONS, 0, STORE_VERSION)
        assert shape(connection) == new
        assert compare_metadata(MigrationContext.configure(connection, opts=names_only), metadata) == []
    assert set(new) == set(metadata.tables)


def test_sqlite_is_told_the_very_same_of_a_new_and_a_migrated_store(store: Store) -> None:
    def statements() -> dict[str, list[str]]:
        with store.database.connection("read") as connection:
            rows = connection.execute(text("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"))
            return {name: definitions(" ".join(sql.split())) for name, sql in rows}

    new = statements()
    with store.database.connection("write") as connection:
        metadata.drop_all(connection)
        run_migrations(connection, MIGRATIONS, 0, STORE_VERSION)
    assert statements() == new


def test_snapshots_of_a_store_of_version_2_are_there_after_its_migration(any_store: Store) -> None:
    row = {
        "dataset": "rides",
        "id": "a1",
        "n_rows": 3,
        "taken_at": "2026-03-01T12:00:00.000000Z",
        "format": 0,
    }
    with any_store.database.connection("write") as connection:
        metadata.drop_all(connection)
        run_migrations(connection, MIGRATIONS, 0, 2)
        assert "cuts" not in str(shape(connection)["snapshots"])
        names = ", ".join(row)
        values = ", ".join(f":{name}" for name in row)
        connection.execute(text(f"INSERT INTO snapshots ({names}) VALUES ({values})"), row)
        run_migrations(connection, MIGRATIONS, 2, STORE_VERSION)
    with any_store.read() as reader:
        [kept] = reader.find("snapshots")
    assert (kept["id"], kept["n_rows"], kept["format"]) == ("a1", 3, 0)
    assert (kept["blocks"], kept["cuts"]) == (None, None)


def test_runs_of_a_store_of_version_4_can_be_searched_after_its_migration(any_store: Store) -> None:
    params = '{"leaves": {"value": 31, "source": "default"}}'
    row = {"id": "r1", "key": "try/1", "model": "m", "purpose": "try", "status": "finished", "params": params,
           "metrics": '{"accuracy": 0.9, "loss": null}',
           "started_at": "2026-03-01T12:00:00.000000Z"}  # fmt: skip
    with any_store.database.connection("write") as connection:
        metadata.drop_all(connection)
        run_migrations(connection, MIGRATIONS, 0, 4)
        names, values = ", ".join(row), ", ".join(f":{name}" for name in row)
        connection.execute(text(f"INSERT INTO runs ({names}) VALUES ({values})"), row)
        connection.execute(text(f"INSERT INTO runs ({names}) VALUES ({values})"),
                           {**row, "id": "r2", "key": "try/2", "params": None, "metrics": None})  # fmt: skip
        run_migrations(connection, MIGRATIONS, 4, STORE_VERSION)
    with any_store.read() as reader:
        conditions = [
            ValueCondition("param", "leaves", "=", 31.0),
            ValueCondition("metric", "accuracy", ">", 0.5),
        ]
        assert [found["id"] for found in search_runs(reader, conditions)] == ["r1"]
        assert reader.get("run_values", run="r1", kind="metric", name="loss") == {
            "run": "r1",
            "kind": "metric",
            "name": "loss",
            "text": "nan",
            "number": None,
        }


def test_an_older_store_is_migrated_with_its_rows(any_store: Store, tmp_path: Path) -> None:
    add_run(any_store)
    folder = later_migrations(tmp_path / "migrations", "pass", "pass")
    bring_up_to_date(any_store.database, tmp_path / "backups", NOW, folder, STORE_VERSION + 2)
    assert version_of(any_store.database) == str(STORE_VERSION + 2)
    first, second = (f"colour_{number}" for number in (STORE_VERSION + 1, STORE_VERSION + 2))
    with any_store.database.connection("read") as connection:
        assert connection.execute(text(f"SELECT id, {first}, {second} FROM runs")).one() == ("r", "m", "m")


def test_a_copy_is_laid_aside_before_a_migration_and_opens_as_it_was(store: Store, tmp_path: Path) -> None:
    add_run(store)
    folder = later_migrations(tmp_path / "migrations", "pass")
    bring_up_to_date(store.database, tmp_path / "backups", NOW, folder, STORE_VERSION + 1)
    [copy] = (tmp_path / "backups").iterdir()
    assert copy.name == f"clew-v{STORE_VERSION}-20260301T120000000000Z.sqlite"
    restored = tmp_path / "restored"
    restored.mkdir()
    shutil.copy(copy, restored / "clew.sqlite")
    with open_store(Settings(root=tmp_path, store=restored), now=NOW) as old, old.read() as reader:
        assert reader.count("runs") == 1
        assert f"colour_{STORE_VERSION + 1}" not in reader.find("runs")[0]


def test_a_migration_that_fails_leaves_the_store_as_it_was(any_store: Store, tmp_path: Path) -> None:
    add_run(any_store)
    folder = later_migrations(tmp_path / "migrations", "pass", 'op.execute("SELECT 1 FROM nowhere")')
    with pytest.raises(StoreError, match="nowhere"):
        bring_up_to_date(any_store.database, tmp_path / "backups", NOW, folder, STORE_VERSION + 2)
    assert version_of(any_store.database) == str(STORE_VERSION)
    with any_store.read() as reader:
        assert f"colour_{STORE_VERSION + 1}" not in reader.find("runs")[0]


def test_a_newer_store_is_refused_with_both_versions_and_what_to_do(any_settings: Settings) -> None:
    with open_store(any_settings, now=NOW) as store, store.write() as tx:
        tx.update("meta", {"key": "store_version"}, {"value": str(STORE_VERSION + 1)})
        tx.update("meta", {"key": "written_by"}, {"value": "9.2.1"})
    with pytest.raises(StoreTooNew, match="pip install --upgrade clew") as caught:
        open_store(any_settings, now=NOW)
    message = str(caught.value)
    assert f"store version {STORE_VERSION + 1}, written by Clew 9.2.1" in message
    assert f"this is Clew {__version__}, which knows versions up to {STORE_VERSION}" in message


def test_the_copy_holds_what_is_still_in_the_write_ahead_log(store: Store, tmp_path: Path) -> None:
    add_run(store)
    assert store.database.path is not None
    assert store.database.path.with_suffix(".sqlite-wal").stat().st_size > 0
    folder = later_migrations(tmp_path / "migrations", "pass")
    bring_up_to_date(store.database, tmp_path / "backups", NOW, folder, STORE_VERSION + 1)
    [copy] = (tmp_path / "backups").iterdir()
    with closing(sqlite3.connect(copy)) as raw:
        assert raw.execute("SELECT id FROM runs").fetchall() == [("r",)]
        assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)
