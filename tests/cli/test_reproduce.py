"""``clew reproduce`` on the command line: the level as an exit code, in words and as JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from clew.cli import run
from clew.cli.verbs.reproduce import EXIT_CODES, show_reproduction
from clew.loop.reproduction import MetricCompared, PredictionsCompared, Reproduction
from clew.tracking import EnvironmentChange
from clew.tracking.environment_change import Changed
from clew.workspace import open_records, open_workspace
from tests.loop import streams

NOT_REPEATABLE = """
import os
from sklearn.tree import DecisionTreeClassifier
@clew.model(stream, metric="accuracy", margin={margin})
def learner(train):
    seed = int.from_bytes(os.urandom(4), "big")
    return DecisionTreeClassifier(splitter="random", random_state=seed).fit(train.X, train.y)
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = streams.write_project(tmp_path_factory.mktemp("reproduce"), streams.calm(600))
    with open_workspace(None, folder) as workspace:
        workspace.try_model()
    return folder


@pytest.fixture(scope="module")
def result(project: Path) -> Reproduction:
    with open_records(project) as records:
        return records.reproduce("learner@1")


def test_the_same_bits_end_with_0(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project)
    assert run(["reproduce", "learner@1", "--here", "--json"]) == 0
    said = capsys.readouterr()
    told = json.loads(said.out)
    assert (told["level"], told["version"], told["causes"]) == ("same bits", "learner@1", [])
    assert "reading the recorded rows" in said.err
    assert run(["runs", "list", "--of", "reproduce"]) == 0
    assert told["run"]["id"][:12] in capsys.readouterr().out


@pytest.mark.parametrize(("margin", "code"), [("0.3", 4), ("1e-9", 3)])
def test_less_than_that_ends_with_4_or_3(
    margin: str,
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    streams.write_project(tmp_path, streams.calm(600), model=NOT_REPEATABLE.format(margin=margin))
    with open_workspace(None, tmp_path) as workspace:
        workspace.try_model()
    monkeypatch.chdir(tmp_path)
    assert run(["reproduce", "lerner", "--here"]) == 1
    assert "There is no run 'lerner'" in capsys.readouterr().err
    assert run(["reproduce", "learner", "--here"]) == code
    assert "random and not seeded" in capsys.readouterr().out


def test_every_level_has_an_exit_code() -> None:
    assert EXIT_CODES == {"same bits": 0, "same predictions": 0, "same metrics": 4, "differs": 3}


def test_a_difference_is_told_with_its_numbers_and_its_causes(
    result: Reproduction, capsys: pytest.CaptureFixture[str]
) -> None:
    show_reproduction(
        replace(
            result,
            level="differs",
            is_same_fit=False,
            is_same_package=False,
            predictions=PredictionsCompared(600, 600, 12, 0.25, 1e-6),
            metrics=(MetricCompared("accuracy", "the newest 200 rows", 0.91, 0.85, 0.01),),
            environment=EnvironmentChange((Changed("lightgbm", "4.6.0", "4.7.0"),)),
            causes=("package lightgbm: 4.6.0 then, 4.7.0 now",),
        )
    )
    told = " ".join(capsys.readouterr().out.split())
    assert "✗ learner@1: it differs" in told
    assert (
        "12 of 600 rows and 600 mixed from them are answered otherwise; the largest difference is 0.25"
        in told
    )
    assert "0.91 then, 0.85 now, a difference of -0.06; the same is up to 0.01" in told
    assert "package lightgbm: 4.6.0 then, 4.7.0 now" in told
    assert "1 package of another version: clew runs diff" in told
