"""``clew runs`` and what ``clew try`` compares, on a real project with real children and records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_projects import answered, clew
from tests.loop import streams

LEARNER = """
@clew.model(stream, metric="accuracy", margin=0.05, minimum={"accuracy": 0.5})
def learner(train, strength=1.0, kind="l2"):
    for step in range(300):
        train.log(loss=300.0 - step, step=step)
    train.log(rate=float("nan"))
    train.artifact("plots/words.txt", b"words")
    return LogisticRegression(C=strength).fit(train.X, train.y)
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    streams.write_project(folder, streams.calm(900).table(), model=LEARNER)
    assert clew(folder, "try").returncode == 0
    return folder


@pytest.fixture(scope="module")
def run_id(project: Path) -> str:
    return str(answered(project, "runs", "list", "--purpose", "try")["runs"][-1]["id"])


def test_a_run_shows_its_series_as_a_line_and_to_programs_as_a_whole(project: Path, run_id: str) -> None:
    shown = clew(project, "runs", "show", run_id).stdout
    assert "loss 1.000 at step 299  █" in shown
    assert "300 values, first 300.0" in shown
    assert "plots/words.txt  5 B" in shown
    assert "accuracy 0." in shown
    assert "(95 %: " in shown
    told = answered(project, "runs", "show", run_id)
    assert [row["step"] for row in told["logged"][:300]] == list(range(300))
    assert told["logged"][300]["value"] is None


def test_tags_and_notes_are_set_shown_found_and_removed(project: Path, run_id: str) -> None:
    told = answered(project, "runs", "tag", run_id[:8], "team=pricing", "stage=draft", "--reason", "sorted")
    assert told["tags"] == {"stage": "draft", "team": "pricing"}
    found = answered(project, "runs", "list", "--where", "tag.team = 'pricing' and metric.accuracy > 0.1")
    assert [run["id"] for run in found["runs"]] == [run_id]
    assert found["tags"] == {run_id: told["tags"]}
    assert "stage=draft, team=pricing" in clew(project, "runs", "list").stdout
    assert answered(project, "runs", "tag", run_id, "--remove", "team")["tags"] == {"stage": "draft"}
    note = answered(project, "runs", "note", run_id, "came out well")["notes"][0]
    assert note["text"] == "came out well"
    assert "1. came out well" in clew(project, "runs", "show", run_id).stdout
    assert answered(project, "runs", "note", run_id, "--remove", "1")["notes"] == []
    everything = answered(project, "audit", "list")["entries"]
    entries = [entry for entry in everything if entry["subject"] == f"run {run_id}"]
    actions = [entry["action"] for entry in entries]
    assert actions == ["remove note", "note run", "untag run", "tag run"]
    assert entries[-1]["reason"] == "sorted"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tag", "ID", "team"], "not of the form NAME=VALUE"),
        (["tag", "ID", "team=x", "--remove", "team"], "both set and removed"),
        (["tag", "ID", "team="], "is empty"),
        (["note", "ID", " "], "is empty"),
        (["list", "--where", "metric.accuracy >> 1"], "at character 18, where a number is expected"),
        (["list", "--sort", "metric.accuracy up"], "asc, desc or the end is expected"),
    ],
)
def test_wrong_usage_is_told(words: list[str], said: str, project: Path, run_id: str) -> None:
    done = clew(project, "runs", *(run_id if word == "ID" else word for word in words))
    assert done.returncode == 2
    assert said in done.stderr


def test_a_name_that_no_run_has_is_told_instead_of_an_empty_list(project: Path) -> None:
    assert "Did you mean 'strength'" in clew(project, "runs", "list", "--where", "param.strengthh = 1").stdout


def test_artifacts_are_listed_and_written(project: Path, run_id: str, tmp_path: Path) -> None:
    listed = clew(project, "runs", "artifacts", run_id).stdout
    assert "plots/words.txt" in listed
    told = answered(project, "runs", "artifacts", run_id, "--out", str(tmp_path / "out"))
    assert (tmp_path / "out/plots/words.txt").read_bytes() == b"words"
    assert {each["name"] for each in told["artifacts"]} >= {"plots/words.txt"}
    (tmp_path / "out/plots/words.txt").write_bytes(b"mine")
    done = clew(project, "runs", "artifacts", run_id, "--out", str(tmp_path / "out"))
    assert (done.returncode, "holds something else" in done.stderr) == (2, True)


def test_a_grid_is_one_table_and_registers_its_best(project: Path) -> None:
    told: Any = answered(project, "try", "--grid", "strength=0.0000001,1.0,2", "--jobs", "2")
    points = told["grid"]["points"]
    assert points[0]["standing"] == "best"
    assert points[-1]["params"] == {"strength": 1e-7}
    assert points[-1]["standing"] == "worse"
    assert told["run"]["params"]["strength"]["value"] == points[0]["params"]["strength"]
    again = clew(project, "try", "--grid", "strength=0.0000001,1.0,2")
    assert again.returncode == 0
    assert again.stdout.count("(was there)") == 3
    assert "3 points, the best by accuracy first" in again.stdout
    assert "It alone is registered" in again.stdout
    by_metric = answered(project, "runs", "list", "--purpose", "grid", "--sort", "metric.accuracy")["runs"]
    levels = [run["metrics"]["accuracy"] for run in by_metric]
    assert levels == sorted(levels, reverse=True)
    assert "strength 2" in clew(project, "runs", "list", "--where", "param.strength = 2").stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--grid", "strength=1,"], "has an empty value"),
        (["--grid", "strength"], "not of the form NAME=VALUE"),
        (["--grid", "strength=1", "--grid", "strength=2"], "given twice"),
        (["--grid", "strength=1,2", "--set", "strength=3"], "to --grid and to --set"),
        (["--grid", "strengthh=1,2"], "no hyperparameter 'strengthh'"),
    ],
)
def test_a_grid_that_cannot_be_is_refused(words: list[str], said: str, project: Path) -> None:
    done = clew(project, "try", *words)
    assert done.returncode == 2
    assert said in done.stderr


def test_columns_are_told_by_what_they_are_worth(project: Path) -> None:
    told: Any = answered(project, "try", "--columns")["columns"]
    assert told["columns"][0]["worth"] == "needed"
    names = sorted(name for each in told["columns"] for name in each["columns"])
    said = clew(project, "try", "--columns")
    assert said.returncode == 0
    assert "What each column is worth" in said.stdout
    assert all(name in said.stdout for name in names)
    assert all(name in said.stdout for name in told["could_be_dropped"])
    run_id = answered(project, "try")["run"]["id"]
    listed = answered(project, "runs", "artifacts", run_id)["artifacts"]
    assert "clew/columns.json" in [each["name"] for each in listed]


def test_a_difference_has_intervals_and_is_taken_row_by_row(project: Path) -> None:
    clew(project, "try", "--set", "strength=0.0000001")
    change = answered(project, "runs", "diff", "learner@1", "learner")["change"]
    (metric,) = [each for each in change["metrics"] if each["name"] == "accuracy"]
    for when in ("then", "now"):
        lower, upper = metric[f"{when}_interval"]
        assert lower <= metric[when] <= upper
    value, lower, upper = metric["more_loss"]
    assert value == pytest.approx(-metric["difference"])
    assert 0 < lower < value < upper
    assert "more loss on the same rows" in clew(project, "runs", "diff", "learner@1", "learner").stdout


def test_help_says_how(project: Path) -> None:
    said = clew(project, "try", "--help").stdout
    assert "--grid learning_rate=0.01,0.1 --grid num_leaves=31,63 --jobs 2" in said
