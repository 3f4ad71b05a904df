"""A deployment's life through real workers: what is learned, released, rolled back, and obeyed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import binom

from clew.entities import AuditEntry
from clew.errors import StoreError
from clew.loop.cleaning import clean
from clew.loop.commands import Command, ask, execute_here, preview
from clew.loop.trace import touched, trace
from clew.loop.why import why
from clew.monitoring import list_findings
from clew.registry import aliases, audit_log, list_versions
from clew.registry.audit_check import verify_audit
from clew.registry.routes import get_route
from clew.server.clock import wall_clock
from clew.storage import LOG_FOLDER, scan
from clew.storage.log_reading import read_since
from clew.storage.records import Failure, Prediction
from clew.tracking import get_run
from clew.workspace import open_records
from tests.loop import streams
from tests.loop.live.life import BEGIN, DAY, LEARNER, MODEL, Life, before, living, project

START = BEGIN + 50 * DAY


def flipped_at_day(day: int, n_days: int = 110, seed: int = 3) -> pa.Table:
    """Forty rows a day whose truth turns round after so many days."""
    stream = streams.calm(n_days * streams.ROWS_A_DAY, seed)
    turned = np.arange(len(stream)) >= day * streams.ROWS_A_DAY
    return replace(stream, y=np.where(turned, 1 - stream.y, stream.y)).table()


# ---------------------------------------------------------------- one life, looked at from many sides


@pytest.fixture(scope="module")
def flipping(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    """Fifty days of life; after the twentieth every label is its opposite."""
    table = flipped_at_day(70)
    root = project(tmp_path_factory.mktemp("flipping"), before(table, START))
    with living(root, table, START) as life:
        life.days(50)
        yield life


def test_harm_is_paged_and_repaired(flipping: Life) -> None:
    [page] = flipping.of_kind("page")
    assert START + 20 * DAY < page.time < START + 28 * DAY
    assert flipping.accuracy(START + 42 * DAY) > 0.8
    assert flipping.of_kind("promoted")


def test_each_step_of_a_release_is_told_in_order(flipping: Life) -> None:
    kinds = [kind for kind in flipping.kinds() if kind in ("release", "gate passed", "rollout", "promoted")]
    assert kinds[:4] == ["release", "gate passed", "rollout", "promoted"]


def test_the_champion_is_where_alias_and_route_point(flipping: Life) -> None:
    with flipping.store.read() as reader:
        route = get_route(reader, MODEL)
    assert route is not None
    assert route.stage == "full"
    assert route.champion == aliases(flipping.store, MODEL)["champion"] == flipping.status().version


def test_shadow_and_canary_are_logged_beside_the_champion(flipping: Life) -> None:
    answers = [record for record in flipping.logged() if isinstance(record, Prediction)]
    assert {record.role for record in answers} == {"champion", "canary", "shadow"}
    by_row: dict[tuple[str, object], list[Prediction]] = {}
    for record in answers:
        by_row.setdefault((record.request, record.key), []).append(record)
    pairs = [records for records in by_row.values() if len(records) > 1]
    assert pairs
    assert all({record.role for record in pair} & {"champion", "canary"} for pair in pairs)
    assert all(len({record.version for record in pair}) == 2 for pair in pairs)


def test_each_stage_of_a_rollout_says_how_many_requests_both_answered(flipping: Life) -> None:
    steps = flipping.of_kind("rollout", "promoted")
    assert steps
    for step in steps:
        assert step.evidence["paired"] > 0
        assert 0 <= step.evidence["otherwise"] < step.evidence["paired"]
    assert "requests answered otherwise: " in flipping.of_kind("rollout")[0].sentence


def test_why_tells_of_one_answer_who_gave_it_and_why_there_is_that_version(flipping: Life) -> None:
    records, _ = read_since(flipping.store.folder / LOG_FOLDER, {})
    for role in ("champion", "canary", "shadow"):
        identity, record = next(
            (identity, record)
            for identity, record in records
            if isinstance(record, Prediction) and record.role == role and record.version > 1
        )
        first, *others = why(flipping.store, identity)
        assert (first.decision, first.kind) == (identity, "answer")
        assert f"as {role} answered {record.predicted} for {record.key}" in first.sentence
        assert others == why(flipping.store, f"{MODEL}@{record.version}")
        assert {reason.kind for reason in others} >= {"version", "promoted"} or record.version > 2


def test_the_thread_forward_leads_from_a_snapshot_to_every_answer(flipping: Life) -> None:
    first = list_versions(flipping.store, MODEL)[0]
    snapshot = get_run(flipping.store, first.run).snapshot
    told = touched(flipping.store, snapshot)
    assert (told.kind, told.id) == ("snapshot", snapshot)
    runs = {run.id: run for run in told.effects}
    assert first.run in runs
    [version] = [each for each in runs[first.run].effects if each.kind == "version"]
    [who] = [each for each in version.effects if each.kind == "deployment"]
    assert who.id == MODEL
    assert who.sentence.startswith("answers callers with version ")
    [answers] = [each for each in version.effects if each.kind == "predictions"]
    n_given = sum(
        record.version == 1 and record.role in ("champion", "canary")
        for record in flipping.logged()
        if isinstance(record, Prediction)
    )
    assert answers.sentence.startswith(f"{n_given:,} answers to callers about 2024-02-20")
    # Whatever leads back to it is met on the way forward.
    newest = list_versions(flipping.store, MODEL)[-1]
    kinds = {each.kind for each in touched(flipping.store, get_run(flipping.store, newest.run).code).effects}
    assert kinds == {"run", "snapshot"}


def test_a_canary_answers_its_share_of_the_keys(flipping: Life) -> None:
    asked_in_canary = {record.request for record in flipping.logged() if record.role == "canary"}
    rows = [r for r in flipping.logged() if r.request in asked_in_canary and r.role in ("canary", "champion")]
    n_canary = sum(record.role == "canary" for record in rows)
    assert len(rows) >= 80
    fewest, most = binom.interval(0.999, len(rows), 0.2)
    assert fewest <= n_canary <= most


def test_rows_that_the_table_never_had_are_learned_from_the_log(flipping: Life) -> None:
    newest = list_versions(flipping.store, MODEL)[-1]
    run = get_run(flipping.store, newest.run)
    thread = trace(flipping.store, newest.name)
    assert sum(map(len, run.rows)) > 0
    assert run.snapshot in str(thread)


def test_every_move_of_the_champion_stands_in_the_audit_log(flipping: Life) -> None:
    moves = [entry for entry in audit_log(flipping.store, MODEL) if entry.action == "move champion"]
    assert len(moves) == len(flipping.of_kind("promoted")) + 1
    assert {entry.actor for entry in moves} == {"loop"}


def test_every_stage_of_a_rollout_stands_in_the_audit_log(flipping: Life) -> None:
    moves = [entry for entry in audit_log(flipping.store, MODEL) if entry.action == "move route"]
    stages = [entry.evidence["to"]["stage"] for entry in reversed(moves)]
    assert stages[0] == "full"
    assert {"shadow", "canary"} <= set(stages)
    assert verify_audit(flipping.store).faults == ()


def test_the_limits_of_the_loop_stand_in_the_audit_log_once(flipping: Life) -> None:
    [entry] = audit_log(flipping.store, "clew.toml", limit=None)
    assert entry.evidence["to"]["false_pages_per_quarter"] == 1.0


# ---------------------------------------------------------------- life beyond a process


def test_what_it_lived_through_is_what_its_callers_saw(flipping: Life) -> None:
    with open_records(flipping.root) as records:
        result = records.lived(MODEL, now=flipping.now)
    known = before(flipping.table, flipping.now - DAY).num_rows - before(flipping.table, START).num_rows
    assert sum(window.n for window in result.windows) == known
    right = [
        flipping.answers[row["id"]]["prediction"] == row["y"]
        for row in before(flipping.table, flipping.now - DAY).to_pylist()
        if row["id"] in flipping.answers
    ]
    assert result.summary.clew == pytest.approx(np.mean(right), abs=1e-6)
    assert result.summary.frozen is not None
    assert result.summary.clew > result.summary.frozen
    answered = Counter(str(answer["version"]) for answer in flipping.answers.values())
    assert result.counts == answered
    told = [(event.time, event.kind, event.sentence) for event in flipping.events]
    assert [(event.time, event.kind, event.sentence) for event in result.events] == told
    promoted = [event.evidence["version"] for event in result.events if event.kind == "promoted"]
    assert [span.number for span in result.versions] == [1, *promoted]
    assert len(result.gates) == 1 + flipping.kinds().count("release")
    assert {gate.report.outcome for gate in result.gates[1:]} >= {"pass"}


def test_a_life_in_three_processes_is_the_same_as_in_one(flipping: Life, tmp_path: Path) -> None:
    table = flipped_at_day(70)
    root = project(tmp_path / "project", before(table, START))
    events, now = [], None
    # Broken off in the calm, in a release, and in the episode after the page.
    page = next(event.time for event in flipping.events if event.kind == "page")
    stops = [START + 9 * DAY, page + DAY, START + 50 * DAY]
    answers: dict[str, Any] = {}
    for stop in stops:
        with living(root, table, START, now) as life:
            life.answers = answers
            life.days((stop - life.now) // DAY)
            events += life.events
            now = life.now
    assert [(e.time, e.kind, e.sentence) for e in events] == [
        (e.time, e.kind, e.sentence) for e in flipping.events
    ]


def test_a_life_goes_on_the_same_while_its_store_is_cleaned(flipping: Life, tmp_path: Path) -> None:
    table = flipped_at_day(70)
    root = project(tmp_path / "project", before(table, START))
    n_removed, wall = 0, wall_clock()
    with living(root, table, START) as life:
        for n in range(40):
            life.days(1)
            # Each comes two days after the one before, so that all that it set aside is gone for good.
            done = clean(life.store, actor="ana", now=life.now, wall=wall + 2 * n * DAY)
            n_removed += sum(len(each.things) for each in done)
        told = [(e.time, e.kind, e.sentence) for e in life.events]
        number = life.status().version
        assert number is not None
        assert trace(life.store, f"{MODEL}@{number}").causes
    known = [(e.time, e.kind, e.sentence) for e in flipping.events if e.time <= told[-1][0]]
    assert told == known
    assert n_removed > 0


def test_what_comes_after_a_moment_changes_nothing_before_it(flipping: Life, tmp_path: Path) -> None:
    stream = streams.calm(110 * streams.ROWS_A_DAY, 3)
    turned = np.arange(len(stream)) >= 70 * streams.ROWS_A_DAY
    stream = replace(stream, y=np.where(turned, 1 - stream.y, stream.y))
    moment = START + 27 * DAY
    table = streams.scrambled(stream, stream.row_at(moment), seed=9).table()
    root = project(tmp_path / "project", before(table, START))
    with living(root, table, START) as life:
        life.days(28)
        told = [(e.time, e.sentence) for e in life.events if e.time <= moment]
    assert told == [(e.time, e.sentence) for e in flipping.events if e.time <= moment]


def test_a_tick_that_breaks_off_is_lived_again_from_where_the_last_one_ended(tmp_path: Path) -> None:
    table = flipped_at_day(200, n_days=80)
    root = project(tmp_path / "project", before(table, START))
    with living(root, table, START) as life:
        life.days(5)
        # A checkpoint that cannot be written: everything of the tick is done, and none of it is kept.
        folder, aside = life.store.folder / "loop" / MODEL, tmp_path / "aside"
        folder.rename(aside)
        folder.touch()
        with pytest.raises(StoreError, match="cannot be kept"):
            life.live.advance(life.now + DAY)
        folder.unlink()
        aside.rename(folder)
        assert life.tell("pause").status == "done", "people are obeyed all the same"
        assert life.tell("resume").status == "done"
        life.days(10)
        with life.store.read() as reader:
            decisions = reader.find("decisions", {"deployment": MODEL}, ["sequence"])
        assert [row["sequence"] for row in decisions] == list(range(1, len(decisions) + 1))
        steps = [(row["kind"], row["at"], row["sentence"]) for row in decisions]
        assert len(set(steps)) == len(steps)
        assert life.status().n > 0


# ---------------------------------------------------------------- people


def test_people_steer_a_running_model(tmp_path: Path) -> None:
    table = flipped_at_day(200, n_days=80)
    root = project(tmp_path / "project", before(table, START))
    with living(root, table, START) as life:
        life.days(2)
        assert life.tell("rollback").status == "refused"  # there was no other champion
        assert life.tell("promote", version=7).result["code"] == "RESOURCE_DOES_NOT_EXIST"
        assert life.tell("retrain", reason="new stations").status == "done"
        life.days(1)
        [order] = life.of_kind("order")
        assert "ana asked: new stations" in order.sentence
        assert life.tell("pause").status == "done"
        n_events = len(life.events)
        life.days(4)
        assert len(life.events) == n_events
        assert life.tell("resume").status == "done"
        life.days(12)
        promoted = life.of_kind("promoted")
        assert promoted, life.kinds()
        before_rollback = life.status().version
        back = life.tell("rollback", reason="complaints")
        assert (back.status, back.result["version"]) == ("done", 1)
        assert {answer["version"] for answer in life.ask(life.rows_of(life.now - DAY))} == {1}
        again = life.tell("rollback", reason="once more")
        assert again.status == "refused", "what was rolled back does not come back by a second rollback"
        assert "no other champion to go back to" in again.result["message"]
        life.days(6)
        assert life.status().version != before_rollback
        assert life.tell("retire", reason="replaced").status == "done"
        assert life.client.post(f"/predict/{MODEL}", json=life.rows_of(life.now)[:1]).status_code == 410
        life.live.advance(life.now + 30 * DAY)
        assert life.client.post(f"/predict/{MODEL}", json=life.rows_of(life.now)[:1]).status_code == 410
        for verb in ("pause", "resume", "retrain", "rollback"):
            assert "'learner' is retired" in life.tell(verb).result["message"]
        assert life.status().status == "retired"
        assert life.tell("promote", version=1, reason="back").status == "done"
        assert life.status().status == "running"
        assert {answer["version"] for answer in life.ask(life.rows_of(life.now - DAY))} == {1}
        people = [entry for entry in audit_log(life.store, MODEL) if entry.actor == "ana"]
        assert {entry.reason for entry in people} >= {"new stations", "complaints", "replaced", "back"}


def test_what_people_say_while_nothing_runs_is_what_the_loop_goes_on_with(tmp_path: Path) -> None:
    table = flipped_at_day(200, n_days=80)
    root = project(tmp_path / "project", before(table, START), LEARNER)

    def tell_records(verb: str, now: datetime, **arguments: int) -> Command:
        with open_records(root) as records:
            return execute_here(
                records.store, ask(records.store, verb, MODEL, arguments, "ana", "so", now), now
            )

    with living(root, table, START) as life:
        while not life.of_kind("promoted"):
            life.days(1)
        now, second = life.now, life.status().version
    assert tell_records("rollback", now).result["version"] == 1
    with living(root, table, START, now=now) as life:
        assert (life.status().version, life.status().status) == (1, "running")
        life.days(6)
        assert life.status().version != second, "what was rolled back came back by itself"
        now = life.now
    assert tell_records("retire", now).status == "done"
    assert tell_records("promote", now, version=1).status == "done"
    with living(root, table, START, now=now) as life:
        assert life.status().status == "running"
        assert {answer["version"] for answer in life.ask(life.rows_of(life.now - DAY))} == {1}


def test_a_first_version_that_fails_the_gate_waits_for_a_person(tmp_path: Path) -> None:
    table = flipped_at_day(200, n_days=80)
    model = LEARNER.replace("rollout=", 'minimum={"accuracy": 0.999}, rollout=')
    root = project(tmp_path / "project", before(table, START), model)
    with living(root, table, START) as life:
        assert life.kinds() == ["not live"]
        asked = life.client.post(f"/predict/{MODEL}", json=life.rows_of(START)[:1])
        assert (asked.status_code, asked.json()["error"]["code"]) == (503, "MODEL_NOT_READY")
        assert "its first version failed the gate" in asked.json()["error"]["message"]
        with life.store.read() as reader:
            [told] = reader.find("decisions", {"deployment": MODEL})
        assert told["kind"] == "not live"
        assert "clew promote learner 1 --reason" in told["sentence"]
        assert life.status().sentence
        assert life.tell("promote", version=1).status == "done"
        assert not life.status().sentence
        assert {answer["version"] for answer in life.ask(life.rows_of(START - DAY))} == {1}


def test_a_rollout_stands_still_while_the_loop_is_paused(tmp_path: Path) -> None:
    model = LEARNER.replace("rollout=", 'retrain="rows 200", rollout=')
    root = project(tmp_path / "project", before(flipped_at_day(200, n_days=80), START), model)
    with living(root, flipped_at_day(200, n_days=80), START) as life:
        while not life.of_kind("gate passed"):
            life.days(1)
        assert life.tell("pause").status == "done"
        n_events = len(life.events)
        life.days(6)
        assert len(life.events) == n_events
        assert life.status().stage == "shadow"
        assert life.tell("resume").status == "done"
        life.days(3)
        assert life.of_kind("promoted"), life.kinds()


def test_rollback_while_a_version_is_rolled_out_ends_that_and_keeps_the_champion(tmp_path: Path) -> None:
    table = flipped_at_day(200, n_days=80)
    model = LEARNER.replace("rollout=", 'retrain="rows 200", rollout=')
    root = project(tmp_path / "project", before(table, START), model)
    with living(root, table, START) as life:
        while not life.of_kind("gate passed"):
            life.days(1)
        refused = life.tell("retrain")
        assert (refused.status, refused.result["code"]) == ("refused", "RESOURCE_CONFLICT")
        assert "is under way" in refused.result["message"]
        assert "would end" in preview(life.store, "rollback", MODEL, {})
        told = life.tell("rollback", reason="not on a Friday")
        assert (told.status, told.result["ended"], told.result["version"]) == ("done", 2, 1)
        assert life.status().stage == "full"
        [back] = life.of_kind("rolled back")
        assert back.sentence == "ana says: no further with version 2: not on a Friday"
        newest = audit_log(life.store, MODEL)[:2]
        assert [entry.action for entry in newest] == ["move route", "end rollout"]
        assert {(entry.actor, entry.reason) for entry in newest} == {("ana", "not on a Friday")}
        life.days(3)
        assert {answer["version"] for answer in life.ask(life.rows_of(life.now - DAY))} == {1}


def test_an_order_of_a_person_waits_for_nobody_and_not_for_the_end_of_a_pause(tmp_path: Path) -> None:
    table = flipped_at_day(200, n_days=80)
    root = project(tmp_path / "project", before(table, START), LEARNER)
    with living(root, table, START) as life:
        life.days(1)
        assert life.tell("retrain", reason="first").status == "done"
        life.days(1)
        assert life.tell("pause").status == "done"
        assert life.tell("retrain", reason="second").status == "done"
        life.days(2)
        assert len(life.of_kind("order")) == 1
        assert life.tell("resume").status == "done"
        life.days(1)
        assert [order.sentence.rpartition(": ")[2] for order in life.of_kind("order")] == ["first", "second"]
        assert "gives way to a newer one" in life.of_kind("refused")[-1].sentence


# ---------------------------------------------------------------- candidates that go wrong

FORGETFUL = """
class Sleepy(LogisticRegression):
    def predict_proba(self, X):
        time.sleep(0.2)
        return super().predict_proba(X)

@clew.model(stream, metric="accuracy", margin=0.02, rollout="shadow 6d, canary 20% 1d", retrain="rows 200",
            allow_code=True)
def learner(train):
    if len(train.y) <= {n_first}:
        return LGBMClassifier(n_estimators=30, num_leaves=7, verbose=-1).fit(train.X, train.y)
    {later}
"""
N_FIRST = 49 * streams.ROWS_A_DAY + 1
"""Labels that have matured when life begins."""


def lived_with_candidate(
    tmp_path: Path, later: str, table: pa.Table, n_days: int, *, each_alone: bool = False
) -> tuple[list[str], list[str], Life]:
    root = project(tmp_path / "project", before(table, START), FORGETFUL.format(n_first=N_FIRST, later=later))
    with living(root, table, START) as life:
        life.days(n_days, each_alone=each_alone)
        findings = list_findings(life.store, MODEL)
        back = [event.sentence for event in life.of_kind("rolled back")]
        return back, [finding.monitor for finding in findings], life


def with_city(table: pa.Table, new_city_from: int) -> pa.Table:
    cities = ["Bonn" if row % 2 else "Kiel" for row in range(new_city_from * streams.ROWS_A_DAY)]
    cities += ["Ulm"] * (table.num_rows - len(cities))
    return table.append_column("city", pa.array(cities))


def test_a_candidate_that_fails_on_requests_is_rolled_back(tmp_path: Path) -> None:
    """Its encoder knows no city but those it saw; the champion takes an unknown one for missing."""
    later = """columns = (OneHotEncoder(handle_unknown="error"), ["city"])
    encoder = make_column_transformer(columns, remainder="passthrough")
    return make_pipeline(encoder, LogisticRegression()).fit(train.X, train.y)"""
    table = with_city(flipped_at_day(200, n_days=80), new_city_from=68)
    back, monitors, life = lived_with_candidate(tmp_path, later, table, 26)
    assert back, [event.sentence for event in life.events]
    assert "failed in" in back[0]
    assert "rollout errors" in monitors
    assert any(isinstance(record, Failure) for record in life.logged())
    assert {answer["version"] for answer in life.answers.values()} == {1}


def test_a_candidate_that_is_slow_is_rolled_back(tmp_path: Path) -> None:
    """It has a class of the project's own, and so a process of its own beside the worker."""
    later = "return Sleepy().fit(train.X, train.y)"
    back, monitors, life = lived_with_candidate(
        tmp_path, later, flipped_at_day(200, n_days=80), 16, each_alone=True
    )
    assert back, [event.sentence for event in life.events]
    assert "ms an answer where the champion takes" in back[0]
    assert "rollout latency" in monitors


def test_a_candidate_whose_answers_turn_wrong_is_rolled_back(tmp_path: Path) -> None:
    """It leans on a column that follows the label closely, and from one day on says the opposite."""
    table = flipped_at_day(200, n_days=80)
    rng = np.random.default_rng(0)
    y = table.column("y").to_numpy()
    hint = y + rng.normal(0, 0.35, len(y))
    row = 61 * streams.ROWS_A_DAY
    hint[: 50 * streams.ROWS_A_DAY] = rng.normal(size=50 * streams.ROWS_A_DAY)
    hint[row:] = 1 - hint[row:]
    table = table.append_column("hint", pa.array(hint))
    later = "return LogisticRegression().fit(train.X.tail(200), train.y[-200:])"
    back, monitors, life = lived_with_candidate(tmp_path, later, table, 20)
    assert back, [event.sentence for event in life.events]
    assert "rollout risk" in monitors


# ---------------------------------------------------------------- the log is moved out of the way


def test_a_compacted_log_changes_nothing_of_a_life(tmp_path: Path) -> None:
    table = flipped_at_day(200, n_days=80)
    root = project(tmp_path / "project", before(table, START))
    with living(root, table, START) as life:
        life.days(3)
        answers = life.answers
    with living(root, table, START, START + 3 * DAY) as life:
        life.answers = answers
        life.days(1)  # a worker of its own writes another segment; the first one is left
        moved = life.live.compact(life.now)
        assert moved.n_records > 0
        n_rows = scan(life.store, MODEL).num_rows
        with open_records(root) as records:
            assert records.lived(MODEL, now=life.now).n_answered == n_rows
        life.days(2)
        # Four days of labels that were sent, and the last day that only the table knew.
        assert life.status().n == 5 * streams.ROWS_A_DAY - 1
        assert scan(life.store, MODEL).num_rows == n_rows + 2 * streams.ROWS_A_DAY


# ---------------------------------------------------------------- a decision threshold


def test_a_threshold_is_followed_and_is_no_harm_to_page_for(tmp_path: Path) -> None:
    table = streams.calm(90 * streams.ROWS_A_DAY, 5).table()
    root = project(tmp_path, before(table, START))
    with living(root, table, START) as life:
        life.days(6)
        told = life.tell("threshold", reason="a missed one is dear", threshold=0.02)
        assert (
            told.result["sentence"] == "learner answers its positive class from a probability of 0.02 on now"
        )
        assert life.tell("threshold", threshold=0.02).status == "refused"
        assert life.tell("threshold", threshold=1.5).status == "refused"
        level = life.status().value
        life.days(12)
        assert not life.of_kind("page"), "answering otherwise is what the person asked for"
        records = [each for each in life.logged() if isinstance(each, Prediction)]
        assert {each.threshold for each in records} == {None, 0.02}
        for each in records:
            if each.threshold is not None and each.probabilities is not None:
                assert each.predicted == int(each.probabilities[1] >= 0.02)
        now, value = life.now, life.status().value
    assert level is not None
    assert value is not None
    assert abs(value - level) < 0.1, "what was seen before is judged by it, too"
    [entry] = _changes(root)
    assert (entry.actor, entry.reason, entry.evidence["to"]) == ("ana", "a missed one is dear", 0.02)
    with living(root, table, START, now=now) as life:
        life.days(1)
        newest = life.logged()[-1]
        assert isinstance(newest, Prediction)
        assert newest.threshold == 0.02
        assert life.tell("threshold", threshold=None).result["before"] == 0.02


def _changes(root: Path) -> list[AuditEntry]:
    with open_records(root) as records:
        return audit_log(records.store, MODEL, action="change threshold")
