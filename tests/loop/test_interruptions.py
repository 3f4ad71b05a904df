"""Killed, stopped or started twice at any moment: what is on record holds, repeating finishes the work."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from clew.workspace import open_records
from tests.loop import streams
from tests.loop.processes import Command, count, orphans

# Without pandas and scikit-learn a process starts in half the time, and most of its life is work.
DATASET = """
import time
import clew
import numpy as np

@clew.dataset("stream.parquet", time="at", key="id", label="y", label_delay="2d", frame="pyarrow")
def stream(table):
    return table

class Line:
    def __init__(self, weights):
        self.weights = weights

    def predict(self, X):
        return (matrix(X) @ self.weights > 0.5).astype(int)

def matrix(X):
    return np.column_stack([*(X[f"x{place}"].to_numpy() for place in range(5)), np.ones(len(X))])
"""
MODEL = """
@clew.model(stream, metric="accuracy", margin=0.01, allow_code=True)
def learner(train):
    return Line(np.linalg.lstsq(matrix(train.X), train.y, rcond=None)[0])
"""
SLOW_MODEL = MODEL.replace("    return", "    time.sleep(1.5)\n    return")

TRY = ("try", "--json")
BACKTEST = ("backtest", "--start", "2024-04-10", "--json")

N_KILLS = 8


def project(folder: Path, model: str = MODEL) -> Path:
    """Four and a half months; the labels turn into their opposite in the middle of life."""
    stream = streams.calm(5_400)
    stream.y[4_600:] = 1 - stream.y[4_600:]
    return streams.write_project(folder, stream, model, DATASET)


def undisturbed(folder: Path, words: tuple[str, ...]) -> tuple[Any, float]:
    """What a command answers that nobody disturbs, and how many seconds it takes."""
    command = Command(project(folder), *words)
    return command.answer(), time.monotonic() - command.began


def check_nothing_is_left(folder: Path) -> None:
    """After a process ended, however it ended: no other works on, and the store opens and is whole."""
    assert orphans(folder) == []
    with open_records(folder) as workspace, workspace.store.read() as reader:
        assert len([job for job in reader.find("jobs") if job["kind"] != "release"]) <= 1
    assert count(folder, "pragma_integrity_check WHERE integrity_check = 'ok'") == 1


def check_work_is_done(folder: Path) -> None:
    assert orphans(folder) == []
    assert count(folder, "runs WHERE status = 'running'") == 0
    assert count(folder, "jobs WHERE status = 'running' AND kind <> 'release'") == 0
    assert count(folder, "snapshot_log") == 1
    assert list((folder / ".clew" / "tmp").iterdir()) == []


@pytest.mark.parametrize("words", [TRY, BACKTEST], ids=lambda words: words[0])
def test_a_command_killed_every_so_often_finishes_when_it_is_repeated(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    expected, seconds = undisturbed(tmp_path / "undisturbed", words)
    folder = project(tmp_path / "killed")
    n_killed = 0
    for place in range(N_KILLS):
        command = Command(folder, *words)
        if not command.is_over_after(seconds * (place + 0.5) / N_KILLS):
            command.kill()
            n_killed += 1
        check_nothing_is_left(folder)
    assert n_killed >= N_KILLS / 2
    assert Command(folder, *words).answer() == expected
    check_work_is_done(folder)
    assert count(folder, "versions WHERE deployment = 'learner'") == (words == TRY)


RECORDS = {
    TRY: [
        ("code_trees", 1),
        ("snapshots", 1),
        ("jobs", 1),
        ("runs WHERE status = 'running'", 1),
        ("runs WHERE status = 'finished'", 1),
        ("jobs WHERE step = 'register'", 1),
        ("versions", 1),
        ("jobs WHERE status = 'done'", 1),
    ],
    BACKTEST: [
        ("runs WHERE status = 'finished'", 1),
        ("versions", 1),
        ("jobs WHERE kind = 'release' AND step = 'gate'", 1),
        ("jobs WHERE kind = 'release' AND step = 'roll out'", 1),
        ("versions", 2),
        ("decisions WHERE kind = 'promoted'", 2),
    ],
}
"""What a process is killed after: rows of the store, in the order in which they come."""


@pytest.mark.parametrize("words", RECORDS, ids=lambda words: words[0])
def test_a_command_killed_right_after_it_wrote_something_finishes_when_it_is_repeated(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    expected, _ = undisturbed(tmp_path / "undisturbed", words)
    folder = project(tmp_path / "killed")
    n_killed = 0
    for question, n_rows in RECORDS[words]:
        command = Command(folder, *words)
        n_killed += not command.is_over_before(question, n_rows)
        command.kill()
        check_nothing_is_left(folder)
    assert n_killed >= len(RECORDS[words]) - 1  # a step may be over before anybody sees that it began
    assert Command(folder, *words).answer() == expected
    check_work_is_done(folder)
    assert count(folder, "versions WHERE deployment = 'learner'") == (words == TRY)


# ---------------------------------------------------------------- Ctrl-C


@pytest.mark.parametrize(
    "moment",
    ["code_trees", "runs WHERE status = 'running'", "decisions"],
    ids=lambda moment: moment.split()[0],
)
def test_ctrl_c_ends_everything_within_seconds_and_repeating_finishes(moment: str, tmp_path: Path) -> None:
    folder = project(tmp_path / "project", SLOW_MODEL.replace("1.5", "0.3"))
    command = Command(folder, *BACKTEST)
    assert not command.is_over_before(moment, 1)
    command.interrupt()
    assert command.finished(timeout_seconds=10).process.returncode == 130
    assert "Traceback" not in command.stderr
    assert "run again: clew backtest --start 2024-04-10" in command.stdout
    check_nothing_is_left(folder)
    assert Command(folder, *BACKTEST).answer()["summary"]["fits"] >= 1
    check_work_is_done(folder)


# ---------------------------------------------------------------- two at once


def test_two_tries_at_once_make_one_version_between_them(tmp_path: Path) -> None:
    folder, other = project(tmp_path / "project"), tmp_path / "other"
    other.symlink_to(folder)
    both = [Command(folder, *TRY), Command(other, *TRY)]
    codes = sorted(command.finished().process.returncode for command in both)
    assert codes in ([0, 0], [0, 1])
    for command in both:
        assert command.process.returncode == 0 or names_the_other(command, both)
    assert Command(folder, *TRY).answer()["version"]["number"] == 1
    assert count(folder, "versions") == 1
    check_work_is_done(folder)


def names_the_other(command: Command, both: list[Command]) -> bool:
    (other,) = (each for each in both if each is not command)
    return "is being run by process" in command.stdout and f":{other.process.pid}:" in command.stdout


def test_a_try_beside_one_that_trains_is_told_whom_to_wait_for(tmp_path: Path) -> None:
    folder, other = project(tmp_path / "project", SLOW_MODEL.replace("1.5", "8")), tmp_path / "other"
    other.symlink_to(folder)
    first = Command(folder, *TRY)
    assert not first.is_over_before("runs WHERE status = 'running'", 1)
    second = Command(other, *TRY).finished()
    assert second.process.returncode == 1
    assert names_the_other(second, [first, second])
    assert first.answer()["version"]["number"] == 1
    check_work_is_done(folder)
