from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from clew.config import Settings
from clew.errors import SettingsError, StoreBusy, StoreError
from clew.storage import Database, Store, open_store
from tests.storage import processes
from tests.storage.conftest import NOW
from tests.storage.processes import StartChild

INCREMENTS = """
say("ready"); wait()
with open_store(settings, now=now) as store:
    for _ in range(40):
        with store.write() as tx:
            tx.insert_if_absent("meta", {"key": "n", "value": "0"})
            n = int(tx.get("meta", key="n")["value"])
            tx.update("meta", {"key": "n"}, {"value": str(n + 1)})
"""

HALF_A_WRITE = """
store = open_store(settings, now=now)
with store.write() as tx:
    tx.update("meta", {"key": "n"}, {"value": "half"})
    tx.insert_many("meta", [{"key": f"k{i}", "value": "x" * 1000} for i in range(2000)])
    say("inside"); wait()
"""


def value_of(store: Store, key: str) -> str | None:
    with store.read() as reader:
        row = reader.get("meta", key=key)
    return row["value"] if row else None


def put_meta(store: Store, key: str, value: str) -> None:
    with store.write() as tx:
        tx.insert("meta", {"key": key, "value": value})


def test_four_processes_open_a_fresh_store_at_once_and_lose_no_update(
    any_settings: Settings, start: StartChild
) -> None:
    children = [start(any_settings, INCREMENTS) for _ in range(4)]
    for child in children:
        assert processes.hear(child) == "ready"
    for child in children:
        processes.tell(child)
    for child in children:
        processes.finish(child)
    with open_store(any_settings, now=NOW) as store:
        assert value_of(store, "n") == "160"


def test_threads_of_one_process_lose_no_update_either(any_store: Store) -> None:
    put_meta(any_store, "n", "0")

    def add() -> None:
        for _ in range(20):
            with any_store.write() as tx:
                row = tx.get("meta", key="n")
                assert row is not None
                tx.update("meta", {"key": "n"}, {"value": str(int(row["value"]) + 1)})

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert value_of(any_store, "n") == "80"


def test_a_process_killed_inside_a_write_leaves_nothing_of_it(
    any_settings: Settings, any_store: Store, start: StartChild
) -> None:
    put_meta(any_store, "n", "whole")
    child = start(any_settings, HALF_A_WRITE)
    assert processes.hear(child) == "inside"
    processes.kill(child)
    assert value_of(any_store, "n") == "whole"
    put_meta(any_store, "k1", "repeated")
    with open_store(any_settings, now=NOW) as reopened, reopened.read() as reader:
        assert reader.count("meta") == 5


def test_a_block_that_raises_changes_nothing(any_store: Store) -> None:
    def fail() -> None:
        with any_store.write() as tx:
            tx.insert("meta", {"key": "a", "value": "b"})
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert value_of(any_store, "a") is None


def test_a_reader_sees_one_moment_while_others_write(any_store: Store) -> None:
    put_meta(any_store, "n", "old")
    with any_store.read() as reader:
        assert reader.get("meta", key="n") == {"key": "n", "value": "old"}
        with any_store.write() as tx:
            tx.update("meta", {"key": "n"}, {"value": "new"})
        assert reader.get("meta", key="n") == {"key": "n", "value": "old"}
    assert value_of(any_store, "n") == "new"


def test_a_write_inside_a_write_is_refused_and_the_door_stays_usable(any_store: Store) -> None:
    with pytest.raises(StoreError, match="inside another write"), any_store.write(), any_store.write():
        pass
    put_meta(any_store, "a", "b")
    assert value_of(any_store, "a") == "b"


def test_a_database_locked_by_another_program_is_named_with_the_program(
    store: Store, connect: Callable[..., Database]
) -> None:
    path = store.database.path
    assert path is not None
    hold = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "c.execute('BEGIN IMMEDIATE'); print('held', flush=True); sys.stdin.readline(); c.execute('ROLLBACK')"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        processes.hear(child)
        database = connect(path, busy_timeout_seconds=0.2)
        held_by = rf"for 0.2 s; it is open in process {child.pid} "
        with pytest.raises(StoreBusy, match=held_by) as caught, database.write():
            pass
        assert str(path) in str(caught.value)
        with database.read() as reader:
            assert reader.count("meta") == 3
        processes.tell(child)
    with database.write() as tx:
        assert tx.count("meta") == 3


def test_a_postgresql_that_another_process_writes_is_busy_in_the_end(
    postgres_url: str, connect: Callable[..., Database], tmp_path: Path
) -> None:
    settings = Settings(root=tmp_path, store=tmp_path / ".clew", database=postgres_url)
    impatient = connect(postgres_url, busy_timeout_seconds=0.2)
    busy = pytest.raises(StoreBusy, match=r"another process for 0\.2 s")
    with open_store(settings, now=NOW) as store, store.write(), busy, impatient.write():
        pass


def test_a_forked_child_uses_connections_of_its_own(any_store: Store) -> None:
    with any_store.read() as reader:
        reader.count("meta")
        assert processes.works_in_a_fork(lambda: put_meta(any_store, "n", "child"))
        assert reader.count("meta") == 3
    assert value_of(any_store, "n") == "child"


def test_a_fork_waits_until_another_thread_has_written(any_store: Store) -> None:
    inside, may_end = threading.Event(), threading.Event()

    def write() -> None:
        with any_store.write() as tx:
            tx.insert("meta", {"key": "thread", "value": ""})
            inside.set()
            may_end.wait(0.2)

    thread = threading.Thread(target=write)
    thread.start()
    inside.wait()
    assert processes.works_in_a_fork(lambda: put_meta(any_store, "child", ""))
    thread.join()
    assert (value_of(any_store, "thread"), value_of(any_store, "child")) == ("", "")


def test_a_child_forked_inside_a_write_is_told_so(store: Store) -> None:
    def write() -> None:
        with pytest.raises(StoreError, match="forked inside a write"), store.write():
            pass

    with store.write() as tx:
        tx.insert("meta", {"key": "parent", "value": ""})
        assert processes.works_in_a_fork(write)
    assert value_of(store, "parent") == ""


def test_sqlite_survives_a_power_cut_after_each_commit(store: Store) -> None:
    with store.database.connection("read") as connection:
        assert connection.execute(text("PRAGMA synchronous")).scalar_one() == 2
        assert connection.execute(text("PRAGMA journal_mode")).scalar_one() == "wal"


def test_a_database_that_cannot_be_reached_is_said_so_without_its_password(
    connect: Callable[..., Database],
) -> None:
    database = connect("postgresql://clew:secret@127.0.0.1:1/clew")
    with pytest.raises(StoreError, match="cannot be reached") as caught, database.read():
        pass
    assert "secret" not in str(caught.value)
    assert "127.0.0.1" in str(caught.value)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("clew.db", "is no URL"),
        ("mysql://host/clew", "'mysql'"),
        ("sqlite:///x.db", "SQLite when no database"),
    ],
)
def test_a_wrong_database_url_is_refused(url: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        Database(url)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_every_spelling_of_a_postgresql_url_is_understood(
    postgres_url: str, scheme: str, connect: Callable[..., Database]
) -> None:
    database = connect(postgres_url.replace("postgresql+psycopg", scheme))
    with database.connection("read") as connection:
        assert connection.execute(text("SELECT 1")).scalar_one() == 1


def test_a_torn_database_file_is_named_with_where_the_copies_are(settings: Settings, store: Store) -> None:
    put_meta(store, "a", "b")
    store.close()
    path = settings.store / "clew.sqlite"
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = path.read_bytes()
    path.write_bytes(b"\xff" * 100 + content[100:])
    with pytest.raises(StoreError, match="not a SQLite database, or it is damaged") as caught:
        open_store(settings, now=NOW)
    assert "backups" in str(caught.value)
