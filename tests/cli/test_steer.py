"""``clew promote``, ``pause`` and their like at the command line, where nothing runs."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from clew.cli import run
from clew.cli.verbs import steer
from clew.loop.commands import Command
from clew.registry import aliases
from clew.storage import Store
from clew.workspace import open_records
from tests.server.small_live import make_dice

Saying = pytest.CaptureFixture[str]
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    with open_records(tmp_path) as records:
        make_dice(records.store, NOW)
    return tmp_path


def champion(folder: Path) -> int:
    with open_records(folder) as records:
        return aliases(records.store, "dice")["champion"]


def test_names_stay_as_they_are_where_a_sentence_begins_with_one(folder: Path, capsys: Saying) -> None:
    assert run(["pause", "dice", "--reason", "moving"]) == 0
    assert capsys.readouterr().out == "dice is paused.\n"
    assert run(["promote", "dice", "2", "--reason", "reviewed"]) == 0
    assert capsys.readouterr().out == "The champion of dice is version 2 now, after version 1.\n"


def test_a_champion_that_is_not_the_one_seen_refuses_the_promotion(folder: Path, capsys: Saying) -> None:
    assert run(["promote", "dice", "2", "--reason", "reviewed"]) == 0
    assert run(["promote", "dice", "3", "--expected", "1", "--reason", "as well"]) == 1
    assert "is version 2, not version 1 as expected" in capsys.readouterr().err
    assert champion(folder) == 2


def test_of_two_who_promote_at_once_the_second_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Saying
) -> None:
    saw = steer._champion_here

    def overtaken(store: Store, verb: str, model: str) -> dict[str, object]:
        """Somebody else promotes between the look and the order."""
        seen = saw(store, verb, model)
        monkeypatch.setattr(steer, "_champion_here", saw)
        assert run(["promote", "dice", "3", "--reason", "was faster"]) == 0
        return seen

    monkeypatch.setattr(steer, "_champion_here", overtaken)
    assert run(["promote", "dice", "2", "--reason", "too late", "--json"]) == 1
    said = capsys.readouterr().out
    assert "(was faster)" in said
    assert champion(folder) == 3


def test_an_order_to_retrain_says_when_the_next_look_is() -> None:
    result = {"sentence": "a candidate is ordered at the next look", "next_tick": "2026-03-02 00:00:00+00:00"}
    done = Command("1", "dice", "retrain", {}, "ana", "new", "done", NOW, result, NOW)
    told = "A candidate is ordered at the next look, which is due at 2026-03-02 00:00 UTC."
    assert steer._sentence(done) == told


def test_documents_hold_the_champion_that_was_seen(folder: Path, capsys: Saying) -> None:
    assert run(["promote", "dice", "2", "--reason", "reviewed", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["arguments"] == {"version": 2, "expected": 1}
