"""``clew status MODEL`` at the command line: what it needs, and what it says when it cannot tell."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from clew.cli import run
from clew.registry import move_alias
from clew.storage import LOG_FOLDER, LogWriter
from clew.storage.records import Label, Prediction
from clew.workspace import open_records
from tests.cli.test_report import Page, squeezed
from tests.loop import streams

Saying = pytest.CaptureFixture[str]
WENT_LIVE = datetime(2025, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with one version of its model."""
    folder = streams.write_project(tmp_path_factory.mktemp("status") / "project", streams.calm(2_000))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run(["try"]) == 0
    return folder


@pytest.fixture(scope="module")
def lived(tried: Path) -> Path:
    """The same, after two hundred answers of which three in four were right; nothing runs any more."""
    with open_records(tried) as records:
        store, reason = records.store, "tried"
        move_alias(store, "learner", "champion", 1, expected=None, actor="ana", reason=reason, now=WENT_LIVE)
        writer = LogWriter(store.folder / LOG_FOLDER, 1)
        for n in range(200):
            at = int((WENT_LIVE + timedelta(hours=n)).timestamp() * 1e6)
            answer = Prediction("learner", 1, "champion", at, at, f"n{n}", None, (), (), 1, None, f"r{n}", 30)
            truth = Label("learner", at + 90_000_000_000, f"n{n}", int(n % 4 > 0), "http", "ana")
            writer.append([answer, truth])
        writer.close()
    return tried


@pytest.mark.parametrize("words", [["--window", "1w"], ["--since", "2026-01-01"], ["--report", "x.html"]])
def test_what_is_about_one_model_needs_its_name(words: list[str], capsys: Saying) -> None:
    assert run(["status", *words]) == 2
    assert f"{words[0]} is about one model: name it" in capsys.readouterr().err


def test_a_model_that_never_went_live_has_nothing_to_tell(
    tried: Path, monkeypatch: pytest.MonkeyPatch, capsys: Saying
) -> None:
    monkeypatch.chdir(tried)
    assert run(["status", "lerner"]) == 1
    assert "Did you mean 'learner'?" in capsys.readouterr().err


def test_a_page_that_cannot_be_written_is_refused_before_anything_is_read(
    tried: Path, monkeypatch: pytest.MonkeyPatch, capsys: Saying
) -> None:
    monkeypatch.chdir(tried)
    assert run(["status", "learner", "--report", "nowhere/x.html"]) == 2
    assert run(["status", "learner", "--report", "x.txt"]) == 2
    assert not Path("x.txt").exists()
    assert "mkdir -p" in capsys.readouterr().err


def test_table_page_and_document_tell_the_same(
    lived: Path, monkeypatch: pytest.MonkeyPatch, capsys: Saying
) -> None:
    monkeypatch.chdir(lived)
    assert run(["status", "learner", "--until", "2025-01-10", "--report", "learner.html"]) == 0
    said = capsys.readouterr().out
    assert "With Clew 0.750; frozen 0.750." in said
    assert re.search(r"^2025-01-02 +24 +0\.750 +0\.750 +1$", said, re.MULTILINE)
    page = squeezed(Page((lived / "learner.html").read_text(encoding="utf-8")).text)
    assert "With Clew 0.750; frozen 0.750" in page
    assert "200 rows: 200 by version 1" in page
    assert run(["status", "learner", "--until", "2025-01-10", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["summary"]["clew"], told["summary"]["blind"], told["counts"]) == (0.75, None, {"1": 200})
    assert told["versions"][0]["recipe"] == "chosen by ana: tried"
    assert told["report"] is None
