"""``clew gc``: what it takes, what it leaves, beside others and killed anywhere."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from clew.config import ObjectSettings, Settings
from clew.datasets import get_snapshot, read_rows, take_snapshot
from clew.errors import NotFound, ObjectDamaged, StoreBusy, StoreError
from clew.loop.cleaning import KEPT_ASIDE, clean, find_garbage
from clew.loop.live.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from clew.registry import audit_log, ensure_deployment, fetch_package, store_package
from clew.registry.audit_check import verify_audit
from clew.server.clock import wall_clock
from clew.storage import Store, open_store
from clew.storage.objects import object_name
from clew.tracking import capture_code, close_run, get_environment, get_run, materialise_code, open_run
from tests.loop import threads
from tests.loop.made import DAY, NOW, RIDES, hours, table
from tests.servers import S3Server

PACKAGE = {"model.txt": b"tree", "MLmodel": b"flavors: {}\n", "nested/profile.json": b"{}"}


def wall(later: timedelta = timedelta(0)) -> datetime:
    return wall_clock() + later


TOMORROW = KEPT_ASIDE + timedelta(minutes=5)


def found(store: Store, **more: Any) -> dict[str, list[str]]:
    given = {"wall": wall()} | more
    return {each.kind: sorted(each.things) for each in find_garbage(store, **given)}


def swept(store: Store, later: timedelta = timedelta(0), **more: Any) -> dict[str, list[str]]:
    done = clean(store, actor="ana", now=NOW, wall=wall(later), **more)
    return {each.kind: sorted(each.things) for each in done}


@dataclass(frozen=True, slots=True)
class Needed:
    """What must outlive every cleaning."""

    laid: threads.Laid
    package: str
    unregistered: str
    result: str
    part: str
    run: str

    def is_whole(self, store: Store, folder: Path) -> None:
        """Everything that it names can be read."""
        materialise_code(store, self.laid.code, folder / "code")
        get_environment(store, self.laid.environment)
        assert read_rows(store, get_snapshot(store, self.laid.snapshot)).num_rows == 2400
        for number, package in enumerate((self.package, self.unregistered)):
            fetch_package(store, package, folder / f"package{number}")
        for digest in (self.result, self.part, get_run(store, self.run).output):
            assert digest is not None
            store.objects.get(digest)
        assert load_checkpoint(store, "busy_hour") is not None
        assert verify_audit(store).faults == ()


def package(store: Store, folder: Path, word: bytes) -> str:
    for name, content in PACKAGE.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content + word)
    return store_package(store, folder)


def furnish(store: Store, folder: Path) -> Needed:
    """A store with one thing of each kind that is needed."""
    (folder / "project").mkdir()
    laid = threads.lay(store, folder / "project")
    registered = package(store, folder / "registered", b"1")
    causes = (laid.snapshot, laid.code, laid.environment)
    run, _ = open_run(
        store, key="talks", model="busy_hour", purpose="try", params={}, seed=0, dataset="rides",
        snapshot=causes[0], rows=[], code=causes[1], environment=causes[2], now=NOW,
    )  # fmt: skip
    close_run(
        store, run.id, metrics={}, model_digest=None, output=b"it said this", seconds=1.0,
        peak_memory_bytes=1, now=NOW,
    )  # fmt: skip
    threads.version(store, run.id, package=registered)
    result, part = store.objects.put(b'{"a": "result"}'), store.objects.put(b"PAR1 a part of the log")
    with store.write() as tx:
        job = {
            "id": "j",
            "key": "k",
            "kind": "backtest",
            "status": "done",
            "created_at": NOW,
            "updated_at": NOW,
        }
        tx.insert("jobs", job | {"result": result})
        of_log = {"deployment": "busy_hour", "kind": "p", "day": "2026-03-01", "n_rows": 1, "n_bytes": 22}
        tx.insert("log_parts", of_log | {"object_digest": part})
    unregistered = package(store, folder / "unregistered", b"2")
    state = {"candidate": {"digest": unregistered}}
    save_checkpoint(store, Checkpoint("busy_hour", 3, NOW, NOW, "running", state), {})
    return Needed(laid, registered, unregistered, result, part, run.id)


def litter(store: Store, word: bytes = b"") -> set[str]:
    """Objects that nothing names: what a process leaves that is killed between storing and naming."""
    return {store.objects.put(word + content) for content in (b"PAR1 rows", b"text", b"")}


def options_of(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    place = Settings(root=tmp_path, store=tmp_path / ".clew")
    if request.param == "folder":
        return place
    server: S3Server = request.getfixturevalue("s3")
    objects = ObjectSettings(request.getfixturevalue("s3_url"), server.options)
    return Settings(root=tmp_path, store=tmp_path / ".clew", objects=objects)


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A store of each kind of objects."""
    with open_store(options_of(request, tmp_path), now=NOW) as store:
        yield store


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Store]:
    with open_store(Settings(root=tmp_path, store=tmp_path / ".clew"), now=NOW) as store:
        yield store


# -- what is needed stays ------------------------------------------------------------------------------


def test_what_anything_needs_outlives_every_cleaning(store: Store, tmp_path: Path) -> None:
    needed = furnish(store, tmp_path)
    assert found(store) == {}
    for number, later in enumerate((timedelta(0), TOMORROW, 400 * DAY)):
        assert swept(store, later) == {}
        needed.is_whole(store, tmp_path / f"read{number}")


def test_objects_that_nothing_names_are_set_aside_and_removed_a_day_later(
    store: Store, tmp_path: Path
) -> None:
    needed = furnish(store, tmp_path)
    lost = litter(store)
    told = found(store)
    assert set(told) == {"part", "file"}
    assert {digest for digests in told.values() for digest in digests} == lost
    assert found(store) == told, "a dry run does nothing"
    assert swept(store) == told
    assert found(store) == {}
    assert {each.digest for each in store.objects.listing(aside=True)} == lost
    assert found(store, wall=wall(TOMORROW)) == {"object set aside": sorted(lost)}
    assert swept(store, TOMORROW) == {"object set aside": sorted(lost)}
    assert list(store.objects.listing(aside=True)) == []
    for digest in lost:
        with pytest.raises(NotFound):
            store.objects.get(digest)
    needed.is_whole(store, tmp_path / "read")


def test_at_once_nothing_is_kept_aside(store: Store, tmp_path: Path) -> None:
    needed = furnish(store, tmp_path)
    lost = litter(store)
    assert {digest for each in swept(store, kept_aside=timedelta(0)).values() for digest in each} == lost
    assert list(store.objects.listing(aside=True)) == []
    assert lost.isdisjoint(each.digest for each in store.objects.listing())
    needed.is_whole(store, tmp_path / "read")


def test_the_files_of_a_package_that_nothing_names_go_with_it(store: Store, tmp_path: Path) -> None:
    needed = furnish(store, tmp_path)
    lost = package(store, tmp_path / "lost", b"3")
    told = found(store)
    assert told["list of files"] == [lost]
    assert len(told["file"]) == len(PACKAGE)
    swept(store)
    needed.is_whole(store, tmp_path / "read")


# -- beside others -------------------------------------------------------------------------------------


def test_an_object_that_is_stored_and_named_around_a_cleaning_survives(store: Store, tmp_path: Path) -> None:
    # Stored before the cleaning, named after it, as by a process that is in the middle of it.
    stored = package(store, tmp_path / "mine", b"4")
    ensure_deployment(store, "busy_hour", "live", "busy_hour", None, NOW)
    assert stored in swept(store)["list of files"]
    threads.version(store, "run", package=stored)
    fetch_package(store, stored, tmp_path / "read1")
    swept(store, TOMORROW)
    swept(store, 2 * TOMORROW)
    fetch_package(store, stored, tmp_path / "read2")
    assert found(store, wall=wall(3 * TOMORROW)) == {}


def test_what_is_named_while_it_lies_aside_is_brought_back_whole_by_the_next_cleaning(
    store: Store, tmp_path: Path
) -> None:
    stored = package(store, tmp_path / "mine", b"5")
    ensure_deployment(store, "busy_hour", "live", "busy_hour", None, NOW)
    swept(store)
    threads.version(store, "run", package=stored)
    swept(store, TOMORROW)
    assert not {each.digest for each in store.objects.listing(aside=True)}
    assert len(list(store.objects.listing())) == 1 + len(PACKAGE)
    fetch_package(store, stored, tmp_path / "read")


def test_bytes_that_lie_aside_are_stored_anew(store: Store) -> None:
    digest = store.objects.put(b"again")
    swept(store)
    assert not store.objects.exists(digest)
    assert store.objects.put(b"again") == digest
    assert store.objects.exists(digest)
    store.objects.drop(digest)
    assert store.objects.get(digest) == b"again"


def test_one_cleaning_at_a_time(local: Store) -> None:
    child = """
import os, sys, time
from clew.tracking import this_owner
print(this_owner(), flush=True)
sys.stdin.readline()
"""
    with subprocess.Popen([sys.executable, "-c", child], stdin=-1, stdout=-1, text=True) as other:
        assert other.stdout is not None
        owner = other.stdout.readline().strip()
        with local.write() as tx:
            tx.insert("meta", {"key": "cleaning", "value": f"{owner} {wall().isoformat()}"})
        with pytest.raises(StoreBusy, match="has been cleaning"):
            swept(local)
        other.kill()
    assert swept(local) == {}
    with local.read() as reader:
        assert reader.get("meta", key="cleaning") is None


WRITER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from clew.config import Settings
from clew.registry import store_package
from clew.storage import open_store
from tests.loop import threads
from tests.loop.made import NOW
root = Path(sys.argv[1])
with open_store(Settings(root=root, store=root / ".clew"), now=NOW) as store:
    print("ready", flush=True)
    for n in range(60):
        folder = root / "packages" / str(n % 7)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.txt").write_text(f"tree {n % 7}")
        (folder / "own.txt").write_text(f"own {n}")
        threads.version(store, f"run {n}", package=store_package(store, folder))
"""


def test_cleanings_beside_a_process_that_stores_and_names_lose_it_nothing(
    local: Store, tmp_path: Path
) -> None:
    ensure_deployment(local, "busy_hour", "live", "busy_hour", None, NOW)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, env=environment
    )
    assert writer.stdout is not None
    writer.stdout.readline()
    n_set_aside = 0
    while writer.poll() is None:
        n_set_aside += sum(map(len, swept(local).values()))
    writer.stdout.close()
    assert writer.returncode == 0
    swept(local)
    with local.read() as reader:
        packages = {row["package"] for row in reader.find("versions")}
    assert len(packages) == 60
    for number, digest in enumerate(packages):
        fetch_package(local, digest, tmp_path / "read" / str(number))


# -- snapshots, states, scratch ------------------------------------------------------------------------


def test_a_snapshot_goes_that_nothing_used_once_there_is_a_newer_one(store: Store, tmp_path: Path) -> None:
    needed = furnish(store, tmp_path)
    unused = take_snapshot(store, RIDES, table(hours(1000)), source="s", code=None, now=NOW)
    newest = take_snapshot(store, RIDES, table(hours(1200)), source="s", code=None, now=NOW + DAY)
    real = {"wall": NOW + 10 * DAY}
    assert found(store, **real)["snapshot"] == [f"rides/{unused.id}"]
    assert "snapshot" not in found(store, wall=NOW + timedelta(hours=1)), "just taken: a run may begin on it"
    done = {each.kind: each for each in clean(store, actor="ana", now=NOW, wall=real["wall"])}
    only_its = {part.object_digest for part in unused.parts} - {part.object_digest for part in newest.parts}
    assert only_its <= set(done["part"].things)
    with pytest.raises(NotFound):
        get_snapshot(store, unused.id)
    assert read_rows(store, get_snapshot(store, newest.id)).num_rows == 1200
    needed.is_whole(store, tmp_path / "read")
    again = take_snapshot(store, RIDES, table(hours(1000)), source="s", code=None, now=NOW + 2 * DAY)
    assert read_rows(store, get_snapshot(store, again.id)).num_rows == 1000


def test_a_snapshot_that_the_state_of_a_loop_names_stays(local: Store, tmp_path: Path) -> None:
    unused = take_snapshot(local, RIDES, table(hours(1000)), source="s", code=None, now=NOW)
    take_snapshot(local, RIDES, table(hours(1200)), source="s", code=None, now=NOW + DAY)
    state = {"snapshot": unused.id}
    save_checkpoint(local, Checkpoint("busy_hour", 1, NOW, NOW, "running", state), {})
    assert found(local, wall=NOW + 10 * DAY) == {}


def test_superseded_states_and_the_scratch_of_dead_processes_go(local: Store) -> None:
    save_checkpoint(local, Checkpoint("busy_hour", 7, NOW, NOW, "running", {}), {})
    folder = local.folder / "loop" / "busy_hour"
    [state] = folder.iterdir()
    old, unfinished, coming = (
        folder / name for name in ("00000006-a.state", "00000008-b.part", "00000008-c.state")
    )
    for path, age in ((old, 60), (unfinished, 60), (coming, -60)):
        path.write_bytes(b"state")
        os.utime(path, (state.stat().st_mtime - age,) * 2)
    (local.folder / "tmp" / "worker-dead").mkdir()
    (local.folder / "tmp" / "worker-dead" / "model").write_bytes(b"x" * 100)
    with local.scratch("living") as living:
        assert found(local) == {
            "state of a loop": ["loop/busy_hour/00000006-a.state"],
            "scratch": ["tmp/worker-dead"],
        }
        [_, scratch] = find_garbage(local, wall=wall())
        assert scratch.n_bytes == 100
        swept(local)
        assert living.is_dir()
    assert sorted(folder.iterdir()) == sorted([state, unfinished, coming])
    assert found(local, wall=wall(2 * DAY))["state of a loop"] == sorted(
        f"loop/busy_hour/{path.name}" for path in (unfinished, coming)
    )


def test_nothing_is_cleaned_where_the_state_of_a_loop_lies_elsewhere(local: Store) -> None:
    save_checkpoint(local, Checkpoint("busy_hour", 7, NOW, NOW, "running", {}), {})
    [state] = (local.folder / "loop" / "busy_hour").iterdir()
    state.unlink()
    litter(local)
    with pytest.raises(StoreError, match="cannot be read"):
        swept(local)
    assert len(list(local.objects.listing())) == 3


def test_nothing_is_cleaned_while_a_list_of_files_cannot_be_read(local: Store, tmp_path: Path) -> None:
    needed = furnish(local, tmp_path)
    place = Path(local.objects.name) / object_name(needed.package)
    place.chmod(0o600)
    place.write_bytes(place.read_bytes()[:-1] + b" ")
    with pytest.raises(ObjectDamaged):
        swept(local)


# -- what it says --------------------------------------------------------------------------------------


def test_the_audit_log_says_what_was_removed_and_by_whom(store: Store) -> None:
    lost = litter(store)
    swept(store)
    swept(store, TOMORROW)
    entries = [entry for entry in audit_log(store, "store") if entry.actor == "ana"]
    assert [entry.action for entry in entries] == ["remove garbage", "set aside garbage", "set aside garbage"]
    assert set(entries[0].evidence["names"]) == lost
    assert entries[0].evidence["n_bytes"] == 13
    assert verify_audit(store).faults == ()


def test_many_objects_are_told_in_rows_that_a_database_can_hold(local: Store) -> None:
    for n in range(1200):
        local.objects.put(b"%d" % n)
    [garbage] = clean(local, actor="ana", now=NOW, wall=wall())
    assert len(garbage.things) == 1200
    assert [entry.evidence["n"] for entry in audit_log(local, "store")] == [200, 500, 500]


# -- killed anywhere -----------------------------------------------------------------------------------

CLEANER = """
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from clew.config import Settings
from clew.loop.cleaning import clean
from clew.storage import open_store
from tests.loop.made import NOW
root = Path(sys.argv[1])
with open_store(Settings(root=root, store=root / ".clew"), now=NOW) as store:
    print("ready", flush=True)
    for n in range(10**6):
        for content in range(40):
            store.objects.put(b"%d" % content)
        wall = datetime.now(UTC) + timedelta(days=n % 3)
        clean(store, actor="ana", now=NOW, wall=wall, kept_aside=timedelta(hours=n % 2))
"""


def test_a_cleaning_that_is_killed_anywhere_leaves_a_whole_store(local: Store, tmp_path: Path) -> None:
    needed = furnish(local, tmp_path)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    draw = random.Random(11)
    for n in range(50):
        child = subprocess.Popen(
            [sys.executable, "-c", CLEANER, str(tmp_path)], stdout=subprocess.PIPE, env=environment
        )
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(draw.uniform(0, 0.3))
        child.kill()
        child.wait()
        child.stdout.close()
        if n % 10 == 9:
            needed.is_whole(local, tmp_path / f"read{n}")
    swept(local, kept_aside=timedelta(0))
    swept(local, 2 * TOMORROW)
    assert found(local, wall=wall(5 * DAY)) == {}
    needed.is_whole(local, tmp_path / "read")
    code = capture_code(local, tmp_path / "project", now=NOW)
    assert code.id == needed.laid.code
