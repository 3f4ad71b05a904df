"""Grids of hyperparameters and columns left out, with real fits in real children."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from clew.config import Settings
from clew.errors import TrainingFailed, UsageError
from clew.loop.columns import ARTIFACT, weigh_columns
from clew.loop.grid import best_of, grid_points, grid_variants, measure_grid
from clew.loop.held_out import read_held_out
from clew.loop.variants import Ground, Measured, measure
from clew.stats.paired import paired_comparison
from clew.tracking import get_run, list_runs, read_artifact
from clew.training import Child
from clew.workspace import open_workspace
from tests.loop import streams
from tests.loop.bikes import Bench

CUT, KNOWN, N = 480, 440, 700


def no_progress(_: object) -> None:
    """Nobody watches."""


@pytest.fixture
def ground(shared: Bench, tmp_path: Path) -> Ground:
    path, rows = tmp_path / "rows.arrow", shared.history.table
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, rows.schema) as writer:
        writer.write_table(rows)
    return Ground(
        store=shared.store,
        history=shared.history,
        thread=shared.thread,
        file="bikes.py",
        rows_file=path,
        known=KNOWN,
        cut=CUT,
        n=N,
        clock=lambda: shared.thread.snapshot.taken_at,
    )


@pytest.fixture
def children(shared: Bench, ground: Ground) -> Iterator[list[Child]]:
    """Both children of the bench, which are put back to what the other tests expect of them."""
    yield [shared.child, shared.checker]
    for child in (shared.child, shared.checker):
        child.use(shared.history.table, ground.declaration, ground.file, shared.thread.snapshot.columns)


def test_every_point_is_a_run_that_is_made_once(ground: Ground, children: list[Child], shared: Bench) -> None:
    grid = {"strength": [1e-6, 1.0, 10.0]}
    first = measure_grid(ground, grid, ground.thread.params, children, no_progress)
    n_runs = len(list_runs(shared.store, limit=None))
    again = measure_grid(ground, grid, ground.thread.params, children[:1], no_progress)
    assert len(list_runs(shared.store, limit=None)) == n_runs
    assert ([each.is_new for each in first], [each.is_new for each in again]) == ([True] * 3, [False] * 3)
    for one, other in zip(first, again, strict=True):
        assert one.run is not None
        assert other.run is not None
        assert one.held_out is not None
        assert other.held_out is not None
        assert one.run.id == other.run.id
        assert one.held_out.losses.tolist() == other.held_out.losses.tolist()
        run = get_run(shared.store, one.run.id)
        assert (run.purpose, run.status) == ("grid", "finished")
        assert run.metrics["accuracy"] == pytest.approx(1 - one.held_out.losses.mean())
        lower, upper = run.intervals["accuracy"]
        assert lower < run.metrics["accuracy"] < upper
    strengths = [each.run.params["strength"].value for each in first if each.run]
    assert strengths == [1e-6, 1.0, 10.0]


def test_points_are_held_against_the_best_row_by_row(ground: Ground, children: list[Child]) -> None:
    measured = measure_grid(
        ground, {"strength": [1e-6, 1.0, 1.0001]}, ground.thread.params, children, no_progress
    )
    best, second, worst = grid_points(ground, ["strength"], measured)
    assert (best.standing, second.standing) == ("best", "cannot be told from the best")
    assert second.loss_lower is not None
    assert second.loss_upper is not None
    assert second.loss_lower <= 0 <= second.loss_upper
    assert worst.params == {"strength": 1e-6}
    losses = {each.variant.name: each.held_out.losses for each in measured if each.held_out}
    bound = paired_comparison(losses["strength=1e-06"], best_losses(measured), 0.975)
    assert worst.loss_difference == pytest.approx(bound.mean_difference)
    assert (worst.loss_lower, worst.loss_upper) == (bound.lower, bound.upper)


def best_losses(measured: list[Measured]) -> np.ndarray:
    best = best_of(measured).held_out
    assert best is not None
    return best.losses


def test_a_point_that_fails_stands_last_and_the_others_count(ground: Ground, children: list[Child]) -> None:
    measured = measure_grid(ground, {"strength": [-1.0, 2.0]}, ground.thread.params, children, no_progress)
    points = grid_points(ground, ["strength"], measured)
    assert [point.standing for point in points] == ["best", "failed"]
    assert points[1].error is not None
    assert "C" in points[1].error
    with pytest.raises(TrainingFailed, match=r"Every point of the grid failed\. strength=-2"):
        measure_grid(ground, {"strength": [-2.0]}, ground.thread.params, children, no_progress)


def test_a_grid_is_every_combination_and_has_an_end() -> None:
    variants = grid_variants({"a": [1, 2], "b": ["x", "y", "z"]}, {})
    assert [each.name for each in variants][:3] == ["a=1, b=x", "a=1, b=y", "a=1, b=z"]
    assert len(variants) == 6
    with pytest.raises(UsageError, match="has 10,000 points"):
        grid_variants({"a": list(range(100)), "b": list(range(100))}, {})


def test_ctrl_c_keeps_what_is_finished_and_ends_the_rest(
    ground: Ground, children: list[Child], shared: Bench
) -> None:
    variants = grid_variants({"strength": [3.0 + n for n in range(40)]}, ground.thread.params)
    # The signal goes to this thread as Ctrl-C does, once the first point is there.
    heard = threading.Event()

    def on_measured(_: Measured) -> None:
        if not heard.is_set():
            heard.set()
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        measure(ground, variants, children, on_measured)
    runs = [
        run
        for run in list_runs(shared.store, purpose="grid", limit=None)
        if run.params["strength"].value >= 3.0
    ]
    assert 1 <= sum(run.status == "finished" for run in runs) < 40
    assert {run.status for run in runs} <= {"finished", "failed"}
    assert {run.error for run in runs if run.status == "failed"} <= {"interrupted"}


# -- columns -------------------------------------------------------------------------------------------


def test_a_column_that_carries_everything_is_needed_and_noise_could_go(
    ground: Ground, children: list[Child], shared: Bench
) -> None:
    report = weigh_columns(ground, None, children, no_progress)
    by_column = {each.columns[0]: each for each in report.columns}
    assert set(by_column) == set(shared.history.features)
    assert by_column["warmth"].worth == "needed"
    assert by_column["warmth"].loss_lower is not None
    assert by_column["warmth"].loss_lower > 0.2
    assert report.columns[0].columns == ("warmth",)
    assert "warmth" not in report.could_be_dropped
    assert by_column["wind"].run is not None
    run = get_run(shared.store, by_column["wind"].run)
    assert run.purpose == "without wind"
    assert report.n_held_out == N - CUT


def test_a_level_that_is_known_is_not_measured_again(
    ground: Ground, children: list[Child], shared: Bench
) -> None:
    weigh_columns(ground, None, children, no_progress)
    (base,) = list_runs(shared.store, purpose="all columns")
    n_runs = len(list_runs(shared.store, limit=None))
    whole = read_held_out(shared.store, base)
    report = weigh_columns(ground, whole, children, no_progress)
    assert report.value == pytest.approx(base.metrics["accuracy"])
    assert len(list_runs(shared.store, limit=None)) == n_runs


# -- a project -----------------------------------------------------------------------------------------

LEARNER = """
@clew.model(stream, metric="accuracy", margin=0.05, minimum={"accuracy": 0.5})
def learner(train, strength=1.0):
    return LogisticRegression(C=strength).fit(train.X, train.y)
"""


def test_only_the_best_is_registered_and_its_columns_are_kept_with_its_run(
    tmp_path: Path, settings: Settings
) -> None:
    streams.write_project(tmp_path, streams.calm(900).table(), model=LEARNER)
    with open_workspace(None, tmp_path) as workspace:
        found = workspace.try_grid({"strength": [1e-7, 1.0]}, jobs=2)
        assert found.tried.version.number == 1
        assert found.tried.run.params["strength"].value == found.points[0].params["strength"]
        assert found.tried.version.metrics["accuracy"] == pytest.approx(found.points[0].value)
        again = workspace.try_grid({"strength": [1e-7, 1.0]})
        assert (again.tried.is_new, again.tried.version.number) == (False, 1)
        assert not any(point.is_new for point in again.points)
        report = workspace.weigh_columns(again.tried)
        kept: Any = json.loads(read_artifact(workspace.store, again.tried.run.id, ARTIFACT))
        assert [each["columns"] for each in kept["columns"]] == [list(e.columns) for e in report.columns]
        with pytest.raises(UsageError, match="no hyperparameter 'strengthh'"):
            workspace.try_grid({"strengthh": [1.0]})
