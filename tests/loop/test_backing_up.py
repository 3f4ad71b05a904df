"""``clew backup`` and ``clew restore``: what comes back is what was there, whatever goes on meanwhile."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from clew.config import ObjectSettings, Settings
from clew.datasets import list_snapshots, read_rows
from clew.datasets.verify import verify_snapshot
from clew.errors import NotFound, StoreBusy, StoreError, StoreTooNew
from clew.loop.backing_up import Restored, restore_backup, take_backup
from clew.loop.live.checkpoints import load_checkpoint
from clew.registry import audit_log
from clew.registry.audit_check import verify_audit
from clew.server.clock import wall_clock
from clew.server.presence import held_up
from clew.storage import Store, compact, open_store, read_record, scan
from clew.storage.backups import BackupFolder, Generation
from clew.storage.tables import STORE_VERSION, metadata
from tests.loop import killed, people
from tests.loop.made import NOW
from tests.loop.people import THEIRS, WHO
from tests.loop.test_forgetting import forgotten
from tests.servers import PostgresServer, S3Server

Places = Callable[[str], Settings]


@pytest.fixture(params=["folder", "bucket", "postgresql"])
def places(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Places]:
    """Settings of stores of one kind, each with a root of its own."""
    with_databases = []

    def place(name: str) -> Settings:
        root = tmp_path / name
        root.mkdir(exist_ok=True)
        objects, database = ObjectSettings(), None
        if request.param == "bucket":
            server: S3Server = request.getfixturevalue("s3")
            objects = ObjectSettings(server.fresh_url(), server.options)
        elif request.param == "postgresql":
            postgres: PostgresServer = request.getfixturevalue("postgres")
            fresh = postgres.fresh_database()
            database = fresh.__enter__()
            with_databases.append(fresh)
        return Settings(root=root, store=root / ".clew", objects=objects, database=database)

    yield place
    for each in with_databases:
        each.__exit__(None, None, None)


def settings_at(root: Path) -> Settings:
    root.mkdir(exist_ok=True)
    return people.settings(root)


def taken(store: Store, folder: Path, at: datetime | None = None) -> Generation:
    wall = at or wall_clock()
    return take_backup(store, folder, actor="ana", now=NOW, wall=wall)


def restored(folder: Path, settings: Settings, name: str | None = None, **more: Any) -> Restored:
    given: dict[str, Any] = {"force": False, "actor": "ana", "clock": lambda: NOW, "alone": held_up}
    return restore_backup(folder, name, settings, **given | more)


def rows_of(store: Store) -> dict[str, list[dict[str, Any]]]:
    """All rows but those that a backup and a restore themselves leave."""
    with store.read() as reader:
        found = {name: reader.find(name) for name in metadata.tables if name not in ("audit", "meta")}
        told = [row for row in reader.find("audit") if row["action"] not in ("backup", "restore")]
        return found | {"audit": told}


def is_whole(store: Store) -> None:
    for snapshot in list_snapshots(store):
        assert verify_snapshot(store, snapshot).is_whole
    assert verify_audit(store).faults == ()
    assert load_checkpoint(store, "busy_hour") is not None


def test_what_comes_back_is_what_was_there(places: Places, tmp_path: Path) -> None:
    backups, there, here = tmp_path / "backups", places("there"), places("here")
    with open_store(there, now=NOW) as store:
        _, second, ids = people.furnish(store, tmp_path)
        rows, log, table = rows_of(store), scan(store, "busy_hour"), read_rows(store, second)
        state = load_checkpoint(store, "busy_hour")
        generation = taken(store, backups)
    folder = BackupFolder(backups)
    assert [each.name for each in folder.generations()] == [generation.name]
    assert list(folder.faults(generation)) == []
    done = restored(backups, here)
    assert (done.before, done.forgotten) == (None, 0)
    with open_store(here, now=NOW) as store:
        assert rows_of(store) == rows
        assert scan(store, "busy_hour").equals(log)
        assert read_rows(store, second).equals(table)
        assert read_record(store, ids[3]) == people.asked(3)
        after = load_checkpoint(store, "busy_hour")
        assert state is not None
        assert after is not None
        assert (after.tick, after.state["snapshot"]) == (state.tick, state.state["snapshot"])
        is_whole(store)
        assert audit_log(store, "store", 1)[0].action == "restore"
        compact(store, consumed=[], now=NOW)
        assert scan(store, "busy_hour").num_rows == log.num_rows


def test_a_store_moves_from_files_to_servers(places: Places, tmp_path: Path) -> None:
    with people.opened(tmp_path) as store:
        people.furnish(store, tmp_path)
        rows = rows_of(store)
        taken(store, tmp_path / "backups")
    here = places("here")
    restored(tmp_path / "backups", here)
    with open_store(here, now=NOW) as store:
        assert rows_of(store) == rows
        is_whole(store)


def test_what_is_there_already_is_not_copied_again(tmp_path: Path) -> None:
    backups = tmp_path / "backups"
    with people.opened(tmp_path) as store:
        people.furnish(store, tmp_path)
        first = taken(store, backups)
        people.taken(store, people.rows(2200))
        second = taken(store, backups, wall_clock() + timedelta(hours=1))
        third = taken(store, backups, wall_clock() + timedelta(hours=2))
    assert first.n_new_bytes > first.n_bytes / 2
    assert second.n_objects > first.n_objects
    database = (backups / "objects" / third.database[:2] / third.database[2:]).stat().st_size
    assert third.n_new_bytes == database, "of what did not change only the rows are kept again"
    names = [each.name for each in BackupFolder(backups).generations()]
    assert names == [third.name, second.name, first.name]
    restored(backups, settings_at(tmp_path / "here"), first.name)
    with people.opened(tmp_path / "here") as store:
        assert len(list_snapshots(store)) == 2


WRITES = 40


def test_backups_beside_those_who_write_are_of_one_moment(tmp_path: Path) -> None:
    backups = tmp_path / "backups"
    with people.opened(tmp_path) as store:
        first, _, _ = people.furnish(store, tmp_path)
        answered: list[str] = []
        stopped = threading.Event()

        def write() -> None:
            for n in range(WRITES):
                if stopped.is_set():
                    return
                answered.extend(people.logged(store, 100 + n, range(10)))
                people.taken(store, people.rows(2000 + 10 * n))
                people.checkpoint(store, first)
                compact(store, consumed=[], now=NOW)

        writer = threading.Thread(target=write)
        writer.start()
        known: list[list[str]] = []
        taken_: list[Generation] = []
        try:
            while writer.is_alive() and len(taken_) < 4:
                known.append(list(answered))
                taken_.append(taken(store, backups, wall_clock() + timedelta(seconds=len(taken_))))
        finally:
            stopped.set()
            writer.join()
    for number, (generation, before) in enumerate(zip(taken_, known, strict=True)):
        root = tmp_path / f"here{number}"
        restored(backups, settings_at(root), generation.name)
        with people.opened(root) as store:
            is_whole(store)
            for identity in before:
                read_record(store, identity)
            assert set(before) <= set(scan(store, "busy_hour")["id"].to_pylist())


def test_a_flipped_bit_is_found_and_named(tmp_path: Path) -> None:
    backups = tmp_path / "backups"
    with people.opened(tmp_path) as store:
        first, _, _ = people.furnish(store, tmp_path)
        generation = taken(store, backups)
    digest = first.parts[0].object_digest
    place = backups / "objects" / digest[:2] / digest[2:]
    content = bytearray(place.read_bytes())
    content[len(content) // 2] ^= 1
    place.chmod(0o600)
    place.write_bytes(content)
    folder = BackupFolder(backups)
    [fault] = folder.faults(generation)
    assert digest in fault
    with pytest.raises(StoreError, match=digest):
        restored(backups, settings_at(tmp_path / "here"))
    assert not (tmp_path / "here" / ".clew").exists(), "nothing half is left in the place"


def test_a_store_that_is_there_is_moved_aside_only_when_that_is_said(tmp_path: Path) -> None:
    backups = tmp_path / "backups"
    with people.opened(tmp_path) as store:
        people.furnish(store, tmp_path)
        taken(store, backups)
        people.taken(store, people.rows(2100))
    with pytest.raises(StoreError, match="There is a store in"):
        restored(backups, people.settings(tmp_path))
    with held_up(tmp_path / ".clew"), pytest.raises(StoreBusy):
        restored(backups, people.settings(tmp_path), force=True)
    done = restored(backups, people.settings(tmp_path), force=True)
    assert done.before is not None
    with people.opened(tmp_path) as store:
        assert len(list_snapshots(store)) == 2
    shutil.rmtree(tmp_path / ".clew")
    done.before.rename(tmp_path / ".clew")
    with people.opened(tmp_path) as store:
        assert len(list_snapshots(store)) == 3


def test_who_was_forgotten_since_is_forgotten_again(tmp_path: Path) -> None:
    backups = tmp_path / "backups"
    with people.opened(tmp_path) as store:
        _, second, ids = people.furnish(store, tmp_path)
        (tmp_path / "answers.parquet").unlink()
        first = taken(store, backups)
        forgotten(store)
        taken(store, backups, wall_clock() + timedelta(hours=1))
    for number, told_by in enumerate(("a later backup", "the store that was there")):
        root = tmp_path / f"here{number}"
        if told_by == "the store that was there":
            newest = BackupFolder(backups).generations()[0]
            (backups / "generations" / f"{newest.name}.json").unlink()
            shutil.copytree(tmp_path / ".clew", root / ".clew")
        done = restored(backups, settings_at(root), first.name, force=True)
        assert done.forgotten == 1, told_by
        with people.opened(root) as store:
            assert people.traces_of(store, WHO, THEIRS[0]) == []
            with pytest.raises(NotFound, match="again, after a restore"):
                read_record(store, ids[7])
            assert read_record(store, ids[8]) == people.asked(8)
            is_whole(store)
            assert second.id in {each.id for each in list_snapshots(store)}


def test_a_backup_of_a_newer_clew_is_refused(tmp_path: Path) -> None:
    from clew.storage.backups import _publish

    backups = tmp_path / "backups"
    with people.opened(tmp_path) as store:
        generation = taken(store, backups)
    newer = replace(generation, name="3000", store_version=STORE_VERSION + 1)
    _publish(backups / "generations" / "3000.json", newer)
    with pytest.raises(StoreTooNew, match=f"has store version {STORE_VERSION + 1}"):
        restored(backups, settings_at(tmp_path / "here"))
    restored(backups, settings_at(tmp_path / "here"), generation.name)


def test_a_name_that_there_is_not_names_those_that_there_are(tmp_path: Path) -> None:
    with people.opened(tmp_path) as store:
        generation = taken(store, tmp_path / "backups")
    with pytest.raises(NotFound, match=generation.name):
        BackupFolder(tmp_path / "backups").generation("1999")


# -- killed anywhere -----------------------------------------------------------------------------------

TAKES = """
from tests.loop.test_backing_up import taken
with people.opened(root) as store:
    print("ready", flush=True)
    taken(store, root / "backups")
"""

RESTORES = """
from tests.loop.test_backing_up import restored
print("ready", flush=True)
restored(root / "backups", people.settings(root))
"""


@pytest.mark.timeout(60 + 20 * killed.N_KILLS)
def test_a_backup_that_is_killed_is_none_and_the_next_one_is_whole(tmp_path: Path) -> None:
    template = tmp_path / "template"
    template.mkdir()
    with people.opened(template) as store:
        people.furnish(store, template)
        taken(store, template / "backups")
        people.taken(store, people.rows(4000))
    for root in killed.killed_copies(template, tmp_path, TAKES):
        folder = BackupFolder(root / "backups")
        for generation in folder.generations():
            assert list(folder.faults(generation)) == []
        with people.opened(root) as store:
            rows = rows_of(store)
            newest = taken(store, root / "backups", wall_clock() + timedelta(hours=1))
        restored(root / "backups", settings_at(root / "here"), newest.name)
        with people.opened(root / "here") as store:
            is_whole(store)
            assert rows_of(store) == rows


@pytest.mark.timeout(60 + 20 * killed.N_KILLS)
def test_a_restore_that_is_killed_leaves_the_place_empty_or_whole(tmp_path: Path) -> None:
    template = tmp_path / "template"
    template.mkdir()
    with people.opened(template) as store:
        people.furnish(store, template)
        rows = rows_of(store)
        taken(store, template / "backups")
    shutil.rmtree(template / ".clew")
    for root in killed.killed_copies(template, tmp_path, RESTORES):
        if not (root / ".clew").exists():
            restored(root / "backups", people.settings(root))
        with people.opened(root) as store:
            is_whole(store)
            assert rows_of(store) == rows
