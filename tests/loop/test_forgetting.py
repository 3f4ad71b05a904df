"""``clew forget``: nothing of the person is left, everything of everybody else is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from clew.config import ObjectSettings, Settings
from clew.datasets import get_snapshot, latest_snapshot, read_rows
from clew.datasets.verify import verify_snapshot
from clew.entities import RowRange
from clew.errors import Erased, NotFound, UsageError
from clew.loop.forgetting import Forgetting, Person, find_person, forget_person
from clew.loop.live.checkpoints import load_checkpoint
from clew.loop.live.rows import LiveRows
from clew.loop.reproduce import n_erased_of, recorded_rows
from clew.loop.trace import trace
from clew.loop.why import why
from clew.registry import audit_log
from clew.registry.audit_check import verify_audit
from clew.server.clock import wall_clock
from clew.storage import LOG_FOLDER, LogWriter, Store, compact, open_store, read_record, scan
from clew.storage.log_reading import read_since
from tests.loop import killed, people
from tests.loop.made import NOW
from tests.loop.people import N_ROWS, THEIRS, WHO
from tests.servers import S3Server


@pytest.fixture(params=["folder", "bucket", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    objects, database = ObjectSettings(), None
    if request.param == "bucket":
        server: S3Server = request.getfixturevalue("s3")
        objects = ObjectSettings(request.getfixturevalue("s3_url"), server.options)
    elif request.param == "postgresql":
        database = request.getfixturevalue("postgres_url")
    settings = Settings(root=tmp_path, store=tmp_path / ".clew", objects=objects, database=database)
    with open_store(settings, now=NOW) as store:
        yield store


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Store]:
    with people.opened(tmp_path) as store:
        yield store


def nobody_runs() -> AbstractContextManager[object]:
    return nullcontext()


def forgotten(store: Store, person: Person | None = None, **more: Any) -> Forgetting:
    given: dict[str, Any] = {
        "actor": "ana",
        "reason": "asked for it",
        "now": NOW,
        "wall": wall_clock(),
        "alone": nobody_runs,
        "wait_seconds": 0.0,
    }
    return forget_person(store, person or Person("entity", WHO), **given | more)


def n_by_kind(found: Forgetting) -> dict[str, int]:
    counts: dict[str, int] = {}
    for each in found.held:
        counts[each.kind] = counts.get(each.kind, 0) + each.n_rows
    return counts


def test_a_dry_run_says_what_holds_the_person_and_changes_nothing(store: Store, tmp_path: Path) -> None:
    first, second, _ = people.furnish(store, tmp_path)
    before = {place for place in people.traces_of(store, WHO) if "/cache/" not in place}
    found = find_person(store, Person("entity", WHO))
    assert (found.status, found.number) == ("found", None)
    assert found.snapshots == {f"rides/{first.id}": 50, f"rides/{second.id}": 63}
    assert found.trained == {"busy_hour@1": 25}
    counts = n_by_kind(found)
    assert counts["log day"] == 2 + 1 + 2, "answers, a failure, a label by key and one by the answer's id"
    assert counts["log segment"] == 2 + 1 + 2
    assert counts["state of a loop"] == 50 + 2
    told = "\n".join(found.beyond)
    assert "rides.parquet" in told
    assert "answers.parquet, to which clew predict wrote 3 answers" in told
    assert {place for place in people.traces_of(store, WHO) if "/cache/" not in place} == before
    with store.read() as reader:
        assert reader.find("erasures") == []


def test_nothing_is_left_of_the_person_and_everything_of_the_others(store: Store, tmp_path: Path) -> None:
    first, second, ids = people.furnish(store, tmp_path)
    (tmp_path / "answers.parquet").unlink()
    table, log = read_rows(store, second), scan(store, "busy_hour")
    done = forgotten(store)
    assert (done.status, done.number) == ("done", 1)
    assert people.traces_of(store, WHO, THEIRS[0], THEIRS[1]) == []
    now = get_snapshot(store, second.id)
    others = pc.not_equal(table["rider"], WHO)
    assert read_rows(store, now).equals(table.filter(others))
    assert (now.n_rows, now.n_erased) == (N_ROWS + 500 - 63, 63)
    left = scan(store, "busy_hour")
    assert left.equals(log.filter(pc.not_equal(log["entity"], WHO)))
    assert read_record(store, ids[8]) == people.asked(8)
    for theirs in (ids[7], ids[80 + 7], ids[80 + 47]):
        with pytest.raises(Erased, match=r"was erased on 2026-03-01 12:00 UTC by ana: asked for it"):
            read_record(store, theirs)
    assert find_person(store, Person("entity", WHO)).held == ()
    assert forgotten(store).status == "found", "a second time there is nothing to do"
    assert find_person(store, Person("entity", WHO)).before[0].startswith(f"entity {WHO} was erased")
    assert verify_audit(store).faults == ()
    assert verify_snapshot(store, now).is_whole
    assert verify_snapshot(store, get_snapshot(store, first.id)).is_whole


def test_the_tombstone_says_what_was_replaced_and_not_whom(local: Store, tmp_path: Path) -> None:
    first, _, _ = people.furnish(local, tmp_path)
    forgotten(local)
    end, begin = audit_log(local, "erasure 1")
    assert (begin.action, end.action, end.actor, end.reason) == (
        "begin forget",
        "forget",
        "ana",
        "asked for it",
    )
    assert begin.evidence["rows"]["snapshot part"] >= 50
    changes = end.evidence["changes"]
    old = {part.object_digest for part in first.parts}
    replaced = [each for each in changes if each.get("old") in old]
    assert replaced
    assert all(len(each["new"]) == 64 for each in replaced)
    assert {"what": "busy_hour@1", "learned from": 25} in changes
    assert WHO not in str((begin, end))
    objects = {each.digest for aside in (False, True) for each in local.objects.listing(aside=aside)}
    assert not {each["old"] for each in changes if "old" in each} & objects


def test_the_loop_goes_on_without_the_person_where_it_was(local: Store, tmp_path: Path) -> None:
    people.furnish(local, tmp_path)
    before = load_checkpoint(local, "busy_hour")
    forgotten(local)
    after = load_checkpoint(local, "busy_hour")
    assert before is not None
    assert after is not None
    assert (after.tick, after.next_tick, after.status) == (before.tick, before.next_tick, before.status)
    old, new = LiveRows.restored(before.state["rows"]), LiveRows.restored(after.state["rows"])
    assert len(old) == len(new), "no other row got another ordinal"
    for place in (0, 6, 8, 500):
        assert old.history.table.slice(place, 1).equals(new.history.table.slice(place, 1))
        assert new.has(f"h{place:05d}")
    assert not new.has(THEIRS[0])
    assert (new.history.times[1:] >= new.history.times[:-1]).all()
    assert (new.history.matured_at[1:] >= new.history.matured_at[:-1]).all()
    assert set(old.waiting) - set(new.waiting) == {f"h{N_ROWS + place:05d}" for place in (7, 47)}
    assert new.labels == {}
    assert len(after.state["world"]["asked"]) == 58
    completed = new.completed(people.rows().slice(0, 500))
    assert WHO not in completed["rider"].slice(500).to_pylist()
    assert not any(str(key).startswith("erased") for key in completed["hour_id"].to_pylist())


def test_erased_rows_stay_out_of_later_snapshots_and_new_ones_come_in(local: Store, tmp_path: Path) -> None:
    people.furnish(local, tmp_path)
    forgotten(local)
    again = people.taken(local, people.rows(N_ROWS + 500))
    assert again.n_rows == N_ROWS + 500 - 63
    assert again.n_erased == 0, "it is taken without them, and named so"
    longer = people.taken(local, people.rows(N_ROWS + 600))
    theirs = read_rows(local, longer).filter(pc.equal(read_rows(local, longer)["rider"], WHO))
    assert theirs["hour_id"].to_pylist() == ["h02527", "h02567"], "rows that came after it are new ones"
    assert verify_snapshot(local, longer).is_whole


def test_rows_of_a_run_are_found_by_the_places_they_had(local: Store, tmp_path: Path) -> None:
    first, _, _ = people.furnish(local, tmp_path)
    ranges = [RowRange(0, 8), RowRange(100, 330)]
    before = recorded_rows(local, first, ranges)
    forgotten(local)
    now = get_snapshot(local, first.id)
    after = recorded_rows(local, now, ranges)
    assert after.equals(before.filter(pc.not_equal(before["rider"], WHO)))
    assert n_erased_of(now, ranges) == before.num_rows - after.num_rows == 7


def test_two_people_one_after_the_other(local: Store, tmp_path: Path) -> None:
    first, _, _ = people.furnish(local, tmp_path)
    before = read_rows(local, first)
    forgotten(local)
    forgotten(local, Person("entity", "rider 8"))
    now = get_snapshot(local, first.id)
    gone = pc.is_in(before["rider"], value_set=pa.array([WHO, "rider 8"]))
    assert read_rows(local, now).equals(before.filter(pc.invert(gone)))
    assert now.erased[0] == RowRange(7, 9)
    assert now.remaining(RowRange(0, 50)) == RowRange(0, 46)


def test_a_key_is_forgotten_where_nobody_declares_entities(local: Store, tmp_path: Path) -> None:
    first, _, ids = people.furnish(local, tmp_path)
    forgotten(local, Person("key", "h00008"))
    assert people.traces_of(local, "h00008") == []
    assert get_snapshot(local, first.id).erased == (RowRange(8, 9),)
    with pytest.raises(Erased):
        read_record(local, ids[8])
    assert read_record(local, ids[7]) == people.asked(7)


def test_trace_and_why_say_of_an_answer_that_it_was_erased(local: Store, tmp_path: Path) -> None:
    first, _, ids = people.furnish(local, tmp_path)
    forgotten(local)
    node = trace(local, ids[7])
    assert (node.kind, node.causes) == ("prediction", ())
    assert node.sentence == f"Prediction {ids[7]} was erased on 2026-03-01 12:00 UTC by ana: asked for it"
    [reason] = why(local, ids[7])
    assert (reason.kind, reason.at) == ("erased", NOW)
    assert "50 more erased since" in trace(local, first.id).sentence


def test_a_segment_that_a_worker_writes_is_left_for_it(local: Store, tmp_path: Path) -> None:
    people.furnish(local, tmp_path)
    writer = LogWriter(local.folder / LOG_FOLDER, 7)
    [theirs, other] = writer.append([people.asked(7), people.asked(8)])
    positions = read_since(local.folder / LOG_FOLDER, {})[1]

    import threading

    stopped = threading.Event()

    def follow() -> None:
        while not stopped.wait(0.02):
            writer.leave_if_asked()

    worker = threading.Thread(target=follow)
    worker.start()
    try:
        forgotten(local)
    finally:
        stopped.set()
        worker.join()
    [after] = writer.append([people.asked(9)])
    writer.close()
    with pytest.raises(Erased):
        read_record(local, theirs)
    assert read_record(local, other) == people.asked(8)
    new, reached = read_since(local.folder / LOG_FOLDER, positions)
    assert new == [(after, people.asked(9))]
    compact(local, consumed=[reached], now=NOW)
    assert read_record(local, after) == people.asked(9)
    with pytest.raises(Erased):
        read_record(local, theirs)


def test_only_one_model_or_one_dataset(local: Store, tmp_path: Path) -> None:
    first, _, ids = people.furnish(local, tmp_path)
    forgotten(local, Person("entity", WHO, model="busy_hour"))
    with pytest.raises(Erased):
        read_record(local, ids[7])
    assert get_snapshot(local, first.id).n_erased == 0
    forgotten(local, Person("entity", WHO, dataset="rides"))
    assert get_snapshot(local, first.id).n_erased == 50
    with pytest.raises(NotFound, match="no dataset 'ride'"):
        find_person(local, Person("entity", WHO, dataset="ride"))
    with pytest.raises(NotFound, match="no live model 'x'"):
        find_person(local, Person("entity", WHO, model="x"))


def test_a_loop_that_runs_lets_go_by_itself_and_the_command_waits(local: Store, tmp_path: Path) -> None:
    from clew.errors import StoreBusy

    people.furnish(local, tmp_path)

    def somebody_runs() -> AbstractContextManager[object]:
        raise StoreBusy("clew up runs")

    waiting = forgotten(local, alone=somebody_runs)
    assert (waiting.status, waiting.number) == ("waiting", 1)
    assert len(audit_log(local, "erasure 1")) == 1
    done = forgotten(local)
    assert (done.status, done.number) == ("done", 1)
    assert people.traces_of(local, WHO) == []
    assert len(audit_log(local, "erasure 1")) == 2


def test_a_dataset_without_entities_says_by_what_its_rows_are_known(local: Store) -> None:
    from tests.loop.made import RIDES, hours, table

    people.taken(local, table(hours(100)), RIDES)
    with pytest.raises(UsageError, match="Name keys instead: --key KEY"):
        find_person(local, Person("entity", WHO))
    assert latest_snapshot(local, "rides") is not None


def test_verify_takes_what_was_erased_for_granted_and_nothing_else(local: Store, tmp_path: Path) -> None:
    first, _, _ = people.furnish(local, tmp_path)
    forgotten(local)
    now = get_snapshot(local, first.id)
    assert verify_snapshot(local, now).is_whole
    with local.write() as tx:
        row = tx.get("snapshots", dataset="rides", id=first.id)
        assert row is not None
        taken = row["erased"][1:]
        tx.update("snapshots", {"dataset": "rides", "id": first.id}, {"erased": taken})
    [fault] = verify_snapshot(local, get_snapshot(local, first.id)).unlike
    assert fault == "49 rows are gone, but the audit log tells of 50 that were erased"
    other = people.taken(local, people.rows(300))
    with local.write() as tx:
        row = tx.get("snapshots", dataset="rides", id=other.id)
        assert row is not None
        tx.update(
            "snapshots", {"dataset": "rides", "id": first.id}, {"erased": [{"start": 0, "end": 50}]} | {
                name: row[name] for name in ("parts", "n_rows")
            },
        )  # fmt: skip
    [fault] = verify_snapshot(local, get_snapshot(local, first.id)).unlike
    assert fault == "other parts are named than those that the erasures of 50 rows left"


# -- killed anywhere -----------------------------------------------------------------------------------

FORGETS = """
from tests.loop.test_forgetting import forgotten
with people.opened(root) as store:
    print("ready", flush=True)
    assert forgotten(store).status == "done"
"""


@pytest.mark.timeout(60 + 20 * killed.N_KILLS)
def test_killed_anywhere_the_same_command_goes_on_and_the_store_is_readable_meanwhile(tmp_path: Path) -> None:
    template = tmp_path / "template"
    template.mkdir()
    with people.opened(template) as store:
        _, second, ids = people.furnish(store, template)
        table, log = read_rows(store, second), scan(store, "busy_hour")
    (template / "answers.parquet").unlink()
    others = table.filter(pc.not_equal(table["rider"], WHO))
    answers = log.filter(pc.not_equal(log["entity"], WHO))
    for root in killed.killed_copies(template, tmp_path, FORGETS):
        with people.opened(root) as store:
            with store.read() as reader:
                was_done = any(row["status"] == "done" for row in reader.find("erasures"))
            now = get_snapshot(store, second.id)
            rows = read_rows(store, now)
            assert rows.filter(pc.not_equal(rows["rider"], WHO)).equals(others)
            assert verify_snapshot(store, now).is_whole
            left = scan(store, "busy_hour")
            assert left.filter(pc.not_equal(left["entity"], WHO)).equals(answers)
            assert load_checkpoint(store, "busy_hour") is not None
            assert forgotten(store).status == ("found" if was_done else "done")
            assert people.traces_of(store, WHO, THEIRS[0]) == []
            assert read_rows(store, get_snapshot(store, second.id)).equals(others)
            assert scan(store, "busy_hour").equals(answers)
            assert [entry.action for entry in audit_log(store, "erasure 1")] == ["forget", "begin forget"]
            assert verify_audit(store).faults == ()
            with pytest.raises(Erased):
                read_record(store, ids[7])
