from __future__ import annotations

import os
import resource
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from clew.config import ObjectSettings, Settings
from clew.errors import StoreBusy, StoreError
from clew.storage import Store, open_store
from clew.storage.tables import STORE_VERSION
from tests.storage import processes
from tests.storage.conftest import NOW
from tests.storage.processes import StartChild

SCRATCH = """
store = open_store(settings, now=now)
with store.scratch("fit") as folder:
    (folder / "rows").write_text("half")
    say(folder); wait()
"""


def test_a_new_store_belongs_to_its_user_alone(settings: Settings, store: Store) -> None:
    assert settings.store.stat().st_mode & 0o777 == 0o700
    assert store.folder == settings.store
    with store.read() as reader:
        assert reader.get("meta", key="store_version") == {
            "key": "store_version",
            "value": str(STORE_VERSION),
        }


def test_a_store_is_still_there_when_it_is_opened_again(any_settings: Settings, any_store: Store) -> None:
    digest = any_store.objects.put(b"weights")
    with any_store.write() as tx:
        tx.insert("meta", {"key": "a", "value": digest})
    any_store.close()
    with open_store(any_settings, now=NOW) as reopened, reopened.read() as reader:
        row = reader.get("meta", key="a")
        assert row is not None
        assert reopened.objects.get(row["value"]) == b"weights"


def test_opening_an_up_to_date_store_imports_no_alembic(
    settings: Settings, store: Store, start: StartChild
) -> None:
    child = start(settings, "open_store(settings, now=now).close(); say('alembic' in sys.modules)")
    assert processes.finish(child) == "False"


def test_scratch_is_a_fresh_folder_and_gone_afterwards(store: Store) -> None:
    with store.scratch("fit") as first, store.scratch("fit") as second:
        assert first != second
        assert first.parent == store.folder / "tmp"
        (first / "inner").mkdir()
        (first / "inner" / "file").write_text("x")
    assert list((store.folder / "tmp").iterdir()) == []


def test_scratch_of_a_dead_process_is_swept_and_that_of_a_living_one_is_kept(
    settings: Settings, start: StartChild
) -> None:
    living, dead = start(settings, SCRATCH), start(settings, SCRATCH)
    folders = [Path(processes.hear(child)) for child in (living, dead)]
    processes.kill(dead)
    with open_store(settings, now=NOW):
        assert [folder.exists() for folder in folders] == [True, False]
    processes.tell(living)
    processes.finish(living)
    assert not folders[0].exists()


def test_a_file_that_is_no_database_is_refused(settings: Settings) -> None:
    settings.store.mkdir()
    (settings.store / "clew.sqlite").write_text("dear diary, " * 100)
    with pytest.raises(StoreError, match="not a SQLite database"):
        open_store(settings, now=NOW)


def test_a_database_of_another_program_is_refused(settings: Settings) -> None:
    settings.store.mkdir()
    with closing(sqlite3.connect(settings.store / "clew.sqlite")) as raw:
        raw.execute("CREATE TABLE invoices (id)")
    with pytest.raises(StoreError, match=r"another program \(invoices\)"):
        open_store(settings, now=NOW)


def test_a_fresh_database_that_another_program_holds_is_busy(settings: Settings) -> None:
    settings.store.mkdir()
    with closing(sqlite3.connect(settings.store / "clew.sqlite", isolation_level=None)) as raw:
        raw.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreBusy, match=r"locked by another program for 0\.1 s"):
            open_store(settings, now=NOW, busy_timeout_seconds=0.1)
        raw.execute("ROLLBACK")
        raw.execute("BEGIN IMMEDIATE")  # it may be read now, but its journal not changed
        with pytest.raises(StoreBusy, match=r"locked by another program for 0\.1 s"):
            open_store(settings, now=NOW, busy_timeout_seconds=0.1)
    open_store(settings, now=NOW).close()


def test_a_store_path_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("")
    with pytest.raises(StoreError, match="cannot be written: File exists"):
        open_store(Settings(root=tmp_path, store=tmp_path / "store"), now=NOW)


def as_nobody(settings: Settings) -> str:
    def write() -> None:
        if os.getuid() == 0:  # root may write everywhere
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        with open_store(settings, now=NOW) as store, store.write() as tx:
            tx.insert("meta", {"key": "a", "value": "b"})

    return processes.refusal_in_a_fork(write)


@pytest.fixture
def open_tmp_path(tmp_path: Path) -> Path:
    """A temporary folder that other users may reach."""
    for folder in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        folder.chmod(0o755)
    return tmp_path


def test_a_folder_that_cannot_be_written_is_refused_with_what_to_do(open_tmp_path: Path) -> None:
    open_tmp_path.chmod(0o555)
    said = as_nobody(Settings(root=open_tmp_path, store=open_tmp_path / ".clew"))
    assert "cannot be written: Permission denied" in said
    assert "CLEW_STORE" in said


def test_a_store_of_another_user_is_refused(open_tmp_path: Path) -> None:
    settings = Settings(root=open_tmp_path, store=open_tmp_path / ".clew")
    open_store(settings, now=NOW).close()
    settings.store.chmod(0o555)
    assert "cannot be written: Permission denied" in as_nobody(settings)


def test_a_database_file_that_cannot_be_written_is_refused(open_tmp_path: Path) -> None:
    settings = Settings(root=open_tmp_path, store=open_tmp_path / ".clew")
    open_store(settings, now=NOW).close()
    for folder in (settings.store, settings.store / "tmp", settings.store / "objects" / "tmp"):
        folder.chmod(0o777)
    (settings.store / "objects").chmod(0o777)
    (settings.store / "clew.sqlite").chmod(0o444)
    said = as_nobody(settings)
    assert "cannot be written" in said
    assert str(settings.store) in said


def test_a_full_disk_is_said_so_and_nothing_is_lost(settings: Settings) -> None:
    def write_rows() -> None:
        with open_store(settings, now=NOW) as store, store.write() as tx:
            limit_file_size()
            tx.insert("meta", {"key": "big", "value": "x" * 1_000_000})

    def write_object() -> None:
        with open_store(settings, now=NOW) as store:
            limit_file_size()
            store.objects.put(b"x" * 1_000_000)

    def limit_file_size() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    assert str(settings.store / "clew.sqlite") in processes.refusal_in_a_fork(write_rows)
    assert "File too large" in processes.refusal_in_a_fork(write_object)
    with open_store(settings, now=NOW) as store, store.read() as reader:
        assert reader.get("meta", key="big") is None
        assert list((settings.store / "objects" / "tmp").iterdir()) == []


def test_a_folder_of_objects_is_found_from_the_projects_root(tmp_path: Path) -> None:
    settings = Settings(root=tmp_path, store=tmp_path / ".clew", objects=ObjectSettings(url="bytes"))
    with open_store(settings, now=NOW) as store:
        digest = store.objects.put(b"x")
        assert store.objects.path(digest).is_relative_to(tmp_path / "bytes")


def test_importing_clew_loads_no_storage() -> None:
    code = "import clew, sys; print([m for m in sys.modules if m.startswith(('sqlalchemy', 'clew.storage'))])"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    said = subprocess.check_output([sys.executable, "-c", code], env=environment, text=True)
    assert said.strip() == "[]"
