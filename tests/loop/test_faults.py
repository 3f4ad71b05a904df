"""What a store bears: full disks, flipped bits, and processes that are killed at any moment."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from clew.datasets import get_snapshot, list_snapshots, read_rows
from clew.datasets.verify import verify_snapshot
from clew.errors import ClewError, StoreError
from clew.loop.cleaning import clean
from clew.registry.audit_check import verify_audit
from clew.server.clock import wall_clock
from clew.storage import Store, scan
from clew.storage.backups import BackupFolder
from clew.storage.database import Database
from clew.storage.objects import object_name
from clew.storage.store import DATABASE_FILE
from clew.storage.tables import STORE_VERSION, metadata
from clew.storage.versions import MIGRATIONS, run_migrations
from tests.disks import full, small_disk
from tests.loop import killed, people
from tests.loop.made import NOW
from tests.loop.people import WHO
from tests.loop.test_backing_up import taken
from tests.loop.test_forgetting import forgotten


def opened(root: Path) -> Store:
    return people.opened(root)


# -- killed anywhere -----------------------------------------------------------------------------------

TAKES_SNAPSHOTS = """
from tests.loop.test_faults import N_SNAPSHOTS
with people.opened(root) as store:
    tables = [people.rows(30_000 + 3_000 * n) for n in range(N_SNAPSHOTS)]
    print("ready", flush=True)
    for table in tables:
        people.taken(store, table)
"""
N_SNAPSHOTS = 4


@pytest.mark.timeout(60 + 20 * killed.N_KILLS)
def test_a_snapshot_that_is_killed_is_invisible_and_the_repeat_finishes_it(tmp_path: Path) -> None:
    template = tmp_path / "template"
    template.mkdir()
    with opened(template) as store:
        first = people.taken(store, people.rows(20_000))
    wanted = people.rows(30_000 + 3_000 * (N_SNAPSHOTS - 1))
    for root in killed.killed_copies(template, tmp_path, TAKES_SNAPSHOTS):
        with opened(root) as store:
            there = list_snapshots(store)
            assert first.id in {each.id for each in there}
            for snapshot in there:
                assert verify_snapshot(store, snapshot).is_whole, "what is visible is whole"
            again = people.taken(store, wanted)
            assert read_rows(store, again).num_rows == wanted.num_rows
            assert verify_snapshot(store, again).is_whole
            clean(store, actor="ana", now=NOW, wall=wall_clock())
            assert verify_snapshot(store, get_snapshot(store, again.id)).is_whole


MIGRATES = """
print("ready", flush=True)
people.opened(root).close()
"""


def as_of_version_1(root: Path) -> None:
    """A store as the first Clew left it, with a few rows."""
    folder = root / ".clew"
    folder.mkdir(parents=True)
    with closing(Database(folder / DATABASE_FILE)) as database:
        with database.connection("write") as connection:
            run_migrations(connection, MIGRATIONS, 0, 1)
        with closing(sqlite3.connect(folder / DATABASE_FILE)) as rows:
            rows.execute("PRAGMA journal_mode = WAL")
            rows.execute("INSERT INTO meta VALUES ('store_version', '1'), ('written_by', '0.1')")
            rows.executemany(
                "INSERT INTO audit (at, actor, action, subject, reason) VALUES (?, 'ana', 'a', 's', 'r')",
                [(f"2026-01-01T00:00:00.{n:06}Z",) for n in range(2000)],
            )
            rows.commit()


@pytest.mark.timeout(60 + 20 * killed.N_KILLS)
def test_a_migration_that_is_killed_is_done_whole_or_not_at_all(tmp_path: Path) -> None:
    template = tmp_path / "template"
    as_of_version_1(template)
    for root in killed.killed_copies(template, tmp_path, MIGRATES):
        with closing(sqlite3.connect(root / ".clew" / DATABASE_FILE)) as rows:
            [[version]] = rows.execute("SELECT value FROM meta WHERE key = 'store_version'").fetchall()
            assert int(version) in (1, STORE_VERSION), "no step of it stands alone"
        with opened(root) as store:
            assert verify_audit(store).faults == ()
            with store.read() as reader:
                assert reader.count("audit") == 2000
                assert all(reader.count(name) >= 0 for name in metadata.tables)


# -- damage --------------------------------------------------------------------------------------------


def test_a_flipped_bit_in_a_part_is_found_on_read_and_named(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        snapshot = people.taken(store, people.rows(30_000))
    assert len(snapshot.parts) > 1
    part = snapshot.parts[1]
    place = tmp_path / ".clew" / "objects" / object_name(part.object_digest)
    content = bytearray(place.read_bytes())
    content[len(content) // 3] ^= 4
    place.chmod(0o600)
    place.write_bytes(content)
    with opened(tmp_path) as store:
        with pytest.raises(StoreError, match=part.object_digest):
            read_rows(store, snapshot)
        [fault] = verify_snapshot(store, snapshot).damaged
        assert (fault.part, fault.first_row, fault.n_rows) == (2, snapshot.parts[0].n_rows, part.n_rows)
        people.taken(store, people.rows(30_000))
        assert store.objects.put(_whole(tmp_path, part.object_digest)) == part.object_digest
        assert verify_snapshot(store, snapshot).is_whole, "storing the same content mends it"


def _whole(tmp_path: Path, digest: str) -> bytes:
    """The object's bytes as another store made them of the same rows."""
    (tmp_path / "other").mkdir()
    with opened(tmp_path / "other") as other:
        people.taken(other, people.rows(30_000))
        return other.objects.get(digest)


# -- full disks ----------------------------------------------------------------------------------------


def test_on_a_full_disk_an_erasure_says_so_and_goes_on_once_there_is_room(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "48m") as disk, opened(disk) as store:
        _, second, _ = people.furnish(store, tmp_path)
        with full(disk), pytest.raises(ClewError, match=r"full|space|No space"):
            forgotten(store)
        assert verify_snapshot(store, get_snapshot(store, second.id)).is_whole
        n_logged = scan(store, "busy_hour").num_rows
        assert n_logged
        assert forgotten(store).status == "done"
        assert people.traces_of(store, WHO) == []
        assert verify_audit(store).faults == ()


def test_on_a_full_disk_a_backup_says_so_and_none_is_listed(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "4m") as disk, opened(tmp_path) as store:
        people.furnish(store, tmp_path)
        store.objects.put(bytes(range(256)) * 30_000)
        with store.write() as tx:
            digest = store.objects.put(bytes(range(256)) * 30_000)
            tx.insert("meta", {"key": "kept for the test", "value": digest})
        with pytest.raises(StoreError, match="is full"):
            taken(store, disk / "backups")
        assert BackupFolder(disk / "backups").generations() == []
        generation = taken(store, tmp_path / "elsewhere")
        assert list(BackupFolder(tmp_path / "elsewhere").faults(generation)) == []
