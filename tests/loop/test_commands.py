"""What becomes of a command that cannot be done as it was meant."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from clew.config import load_settings
from clew.entities import Json
from clew.errors import StoreBusy, UsageError
from clew.loop.commands import (
    VERBS,
    Command,
    LiveStage,
    ask,
    carry_out,
    execute_here,
    is_paused,
    outcome,
    preview,
    status_after,
    status_of,
    waiting,
)
from clew.loop.why import why
from clew.registry import audit_log
from clew.storage import Store, open_store
from tests.server.small_live import make_dice

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(load_settings(tmp_path, {}), now=NOW) as store:
        make_dice(store, NOW)
        yield store


def pause(store: Store) -> Command:
    return outcome(store, ask(store, "pause", "dice", {}, "ana", "moving", NOW))


def test_one_that_fails_in_an_unforeseen_way_is_refused_and_not_tried_for_ever(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: Command) -> Json:
        raise ZeroDivisionError("of somebody's income")

    done = carry_out(store, pause(store), fail, NOW)
    assert (done.status, done.result["status"], done.result["exit_code"]) == ("refused", 500, 1)
    assert done.result["message"] == "pause failed inside Clew: ZeroDivisionError. Its log says where."
    assert waiting(store) == []
    [record] = caplog.records
    assert record.exc_info is not None


def test_one_that_finds_the_store_held_by_another_program_goes_on_waiting(store: Store) -> None:
    def wait(_: Command) -> Json:
        raise StoreBusy("another program writes")

    command = pause(store)
    with pytest.raises(StoreBusy):
        carry_out(store, command, wait, NOW)
    assert waiting(store) == [command]


def test_commands_of_one_moment_are_carried_out_in_the_order_they_were_given(store: Store) -> None:
    verbs = ["pause", "resume", "pause", "resume", "pause", "resume"]
    given = [ask(store, verb, "dice", {}, "ana", "a replay stands", NOW) for verb in verbs]
    assert [command.id for command in waiting(store)] == given
    for command in given:
        assert execute_here(store, command, NOW).status == "done"
    with store.read() as reader:
        assert not is_paused(reader, "dice")
    execute_here(store, ask(store, "pause", "dice", {}, "ana", "once more", NOW), NOW)
    with store.read() as reader:
        assert is_paused(reader, "dice")


def tell(store: Store, verb: str, **arguments: int) -> Command:
    return execute_here(store, ask(store, verb, "dice", arguments, "ana", "said so", NOW), NOW)


def status(store: Store) -> LiveStage:
    with store.read() as reader:
        return status_of(reader, "dice")


def test_only_promote_brings_a_retired_model_back(store: Store) -> None:
    assert tell(store, "pause").status == "done"
    assert tell(store, "retire").result == {"sentence": "dice is retired"}
    for verb in VERBS:
        if verb == "promote":
            continue
        with pytest.raises(UsageError, match="'dice' is retired"):
            preview(store, verb, "dice", {})
        assert tell(store, verb).status == "refused"
    assert "clew promote dice VERSION" in tell(store, "resume").result["message"]
    assert "already" in tell(store, "retire").result["message"]
    assert status(store) == "retired"
    assert tell(store, "promote", version=1).result["sentence"] == "version 1 answers for dice again"
    assert status(store) == "running"
    assert tell(store, "retrain").status == "waiting"


@pytest.mark.parametrize("before", ["running", "paused"])
def test_who_answers_and_whether_it_is_looked_after_are_two_things(before: LiveStage) -> None:
    for verb in ("promote", "rollback", "retrain"):
        assert status_after(verb, "dice", before) == before


def test_a_command_that_was_done_and_not_noted_is_noted_and_not_refused(store: Store) -> None:
    command = ask(store, "retire", "dice", {}, "ana", "said so", NOW)
    assert execute_here(store, command, NOW).status == "done"
    n_before = len(audit_log(store, "dice", None))
    with store.write() as tx:  # as after a crash between the deed and the note
        tx.update("commands", {"id": command}, {"status": "waiting", "done_at": None})
    assert execute_here(store, command, NOW).result == {"sentence": "dice is retired"}
    assert len(audit_log(store, "dice", None)) == n_before


def test_why_tells_what_people_did_while_nothing_ran(store: Store) -> None:
    for verb, arguments in (("promote", {"version": 3}), ("pause", {}), ("rollback", {"to": 1})):
        order = ask(store, verb, "dice", arguments, "ana", f"to {verb}", NOW)
        assert execute_here(store, order, NOW).status == "done"
    told = [(each.kind, each.sentence) for each in why(store, "dice") if each.kind != "version"]
    assert told == [
        ("promoted", "ana says: promote to version 3: to promote"),
        ("pause", "ana says: pause: to pause"),
        ("rolled back", "ana says: rollback to version 1: to rollback"),
    ]
    assert [each.sentence for each in why(store, "dice@3") if each.kind != "version"] == [told[0][1]]


def test_why_tells_what_a_decision_tells_once(store: Store) -> None:
    order = ask(store, "promote", "dice", {"version": 2}, "ana", "better", NOW)
    execute_here(store, order, NOW)
    decision = {"id": "dice/1", "deployment": "dice", "kind": "promoted", "at": NOW, "sequence": 1}
    with store.write() as tx:
        tx.insert(
            "decisions", decision | {"sentence": "ana says", "evidence": {"command": order}, "findings": []}
        )
    assert [each.decision for each in why(store, "dice") if each.kind != "version"] == ["dice/1"]


def test_whoever_saw_another_champion_is_refused_and_told_who_moved_it(store: Store) -> None:
    orders = [
        ask(store, "promote", "dice", {"version": version, "expected": 1}, actor, f"{version} is right", NOW)
        for actor, version in (("ana", 3), ("ben", 2))
    ]
    first, second = (execute_here(store, order, NOW) for order in orders)
    assert (first.status, second.status) == ("done", "refused")
    assert (
        "it was moved in the meantime, by ana at 2026-03-01 12:00 UTC (3 is right)"
        in second.result["message"]
    )
