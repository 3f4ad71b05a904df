"""What becomes of a command that cannot be done as it was meant."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from clew.config import load_settings
from clew.entities import Json
from clew.errors import StoreBusy
from clew.loop.commands import Command, ask, carry_out, execute_here, is_paused, outcome, waiting
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
    verbs = ["pause", "retire", "resume", "pause", "resume", "pause", "resume"]
    given = [ask(store, verb, "dice", {}, "ana", "a replay stands", NOW) for verb in verbs]
    assert [command.id for command in waiting(store)] == given
    for command in given:
        assert execute_here(store, command, NOW).status == "done"
    with store.read() as reader:
        assert not is_paused(reader, "dice")
    execute_here(store, ask(store, "pause", "dice", {}, "ana", "once more", NOW), NOW)
    with store.read() as reader:
        assert is_paused(reader, "dice")
