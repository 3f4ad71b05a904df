"""A person is forgotten, and a store copied, beside a running system: worker, loop and all go on."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from clew.datasets import latest_snapshot, list_snapshots, read_rows
from clew.datasets.verify import verify_snapshot
from clew.errors import Erased, StoreBusy
from clew.loop.backing_up import restore_backup, take_backup
from clew.loop.forgetting import Forgetting, Person, forget_person
from clew.loop.live.checkpoints import behind_erasures
from clew.registry.audit_check import verify_audit
from clew.server.clock import wall_clock
from clew.server.presence import held_up
from clew.storage import read_record
from tests.loop import people
from tests.loop.live.life import BEGIN, DATASET, DAY, MODEL, Life, before, living, project
from tests.loop.live.test_living import flipped_at_day

START = BEGIN + 50 * DAY
WHO = "ada-of-the-hill"
WITH_ENTITY = DATASET.replace('label="y"', 'entity="who", label="y"')


def rows() -> pa.Table:
    """Every twentieth row belongs to one person."""
    table = flipped_at_day(200, n_days=70)
    whose = [WHO if place % 20 == 3 else f"person {place % 20}" for place in range(table.num_rows)]
    return table.append_column("who", pa.array(whose))


def up_runs() -> AbstractContextManager[object]:
    raise StoreBusy("clew up runs on this store")


def forgotten(life: Life, **more: Any) -> Forgetting:
    given: dict[str, Any] = {
        "actor": "ana",
        "reason": "asked for it",
        "now": life.now,
        "wall": wall_clock(),
        "alone": up_runs,
        "wait_seconds": 60.0,
    }
    return forget_person(life.store, Person("entity", WHO), **given | more)


@pytest.mark.timeout(600)
def test_a_running_system_lets_go_of_a_person_and_lives_on(tmp_path: Path) -> None:
    table = rows()
    root = project(tmp_path / "project", before(table, START), dataset=WITH_ENTITY)
    with living(root, table, START) as life:
        life.days(4)
        theirs = [row["id"] for row in table.to_pylist() if row["who"] == WHO and row["id"] in life.answers]
        assert theirs
        ids = [life.answers[key]["prediction_id"] for key in theirs]
        stopped = threading.Event()

        def scheduler() -> None:
            while not stopped.wait(0.1):
                if behind_erasures(life.store):
                    life.live.forget(life.now)

        loop = threading.Thread(target=scheduler)
        loop.start()
        try:
            done = forgotten(life)
        finally:
            stopped.set()
            loop.join()
        assert done.status == "done"
        assert done.trained == {f"{MODEL}@1": 98}, "two of its rows had not matured when it learned"
        snapshot = latest_snapshot(life.store, "stream")
        assert snapshot is not None
        assert snapshot.n_erased > 0
        for identity in ids:
            with pytest.raises(Erased):
                read_record(life.store, identity)
        others = [key for key in life.answers if key not in theirs]
        for key in others[:20]:
            assert getattr(read_record(life.store, life.answers[key]["prediction_id"]), "key", None) == key
        life.days(4)
        again = latest_snapshot(life.store, "stream")
        assert again is not None
        kept = set(read_rows(life.store, again)["who"].to_pylist())
        assert WHO not in kept or not set(theirs) & set(read_rows(life.store, again)["id"].to_pylist())
        assert life.status().status == "running"
        before_backup = list(life.answers)
        take_backup(life.store, tmp_path / "backups", actor="ana", now=life.now, wall=wall_clock())
        taken = {key: life.answers[key]["prediction_id"] for key in before_backup}
        assert verify_audit(life.store).faults == ()
    restored = people.settings(tmp_path / "restored")
    (tmp_path / "restored").mkdir()
    restore_backup(
        tmp_path / "backups", None, restored, force=False, actor="ana", clock=lambda: START, alone=held_up
    )
    (root / ".clew").rename(tmp_path / "old")
    (tmp_path / "restored" / ".clew").rename(root / ".clew")
    with living(root, table, START, now=life.now) as after:
        for key, identity in taken.items():
            if key not in theirs:
                assert getattr(read_record(after.store, identity), "key", None) == key
        for each in list_snapshots(after.store):
            assert verify_snapshot(after.store, each).is_whole
        after.days(2)
        assert after.status().status == "running"
