"""Versions whose libraries are installed in other releases: checked first, then served as before."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import clew
from clew.entities import Json
from clew.errors import PackageError
from clew.registry import audit_log, fetch_package, package_digest, store_package
from clew.registry.package_files import ANSWERS_FILE
from clew.registry.recorded_answers import read_recorded_answers
from clew.serving.upgrades import ACTION, newest_check
from clew.storage import Store
from clew.tracking import get_environment, keep_environment, list_runs
from clew.workspace import Workspace, open_records, open_workspace
from tests.loop import streams
from tests.loop.made import NOW
from tests.loop.test_reproduce import NOT_NEEDED
from tests.registry.elsewhere import change_own

Change = Callable[[Json], None]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with one version, made with what is installed."""
    streams.write_project(tmp_path, streams.calm(400))
    with open_workspace(None, tmp_path) as workspace:
        workspace.try_model(seed=3)
    return tmp_path


def made_with(store: Store, scratch: Path, *, answers: Change | None = None, **releases: str) -> None:
    """Let version 1 have been made with other releases, and perhaps have answered otherwise then."""
    with store.read() as reader:
        (row,) = reader.find("versions")
    fetch_package(store, row["package"], scratch / "package")
    own = json.loads((scratch / "package" / "MLmodel").read_text())["clew"]
    named = {name.replace("_", "-"): release for name, release in releases.items()}
    change_own(scratch / "package", {"requirements": own["requirements"] | named})
    if answers is not None:
        told = json.loads((scratch / "package" / ANSWERS_FILE).read_bytes())
        answers(told)
        (scratch / "package" / ANSWERS_FILE).write_text(json.dumps(told))
    digest = store_package(store, scratch / "package")
    assert digest == package_digest(scratch / "package")
    with store.write() as tx:
        tx.update("versions", {"deployment": "learner", "number": 1}, {"package": digest})


def answered_otherwise(told: Json) -> None:
    told["probabilities"] = [[1 - p for p in row] for row in told["probabilities"]]


def in_small_environment(store: Store, **releases: str) -> None:
    """Record that the run had these releases, and no package that it did not need."""
    (run,) = list_runs(store, limit=1)
    detail = get_environment(store, run.environment)
    detail["packages"] = [each for each in detail["packages"] if each["name"] not in NOT_NEEDED]
    for each in detail["packages"]:
        each["version"] = releases.get(each["name"].replace("-", "_"), each["version"])
    changed = keep_environment(store, json.dumps(detail).encode(), now=NOW)
    with store.write() as tx:
        tx.update("runs", {"id": run.id}, {"environment": changed})


def predicted(workspace: Workspace, folder: Path) -> np.ndarray:
    workspace.predict_batch("learner@1", "stream.parquet", folder / "out.parquet", where=folder, actor="ada")
    answers: np.ndarray = pq.read_table(folder / "out.parquet")["prediction"].to_numpy()
    (folder / "out.parquet").unlink()
    return answers


def test_a_package_holds_rows_that_nobody_has_and_what_was_answered(project: Path) -> None:
    with open_records(project) as records:
        with records.store.read() as reader:
            (row,) = reader.find("versions")
        fetch_package(records.store, row["package"], project / "package")
        recorded = read_recorded_answers(project / "package")
        assert recorded is not None
        assert len(recorded.rows) == 100
        table = pq.read_table(project / "stream.parquet").drop_columns(["at", "id", "y"])
        real = {tuple(row.values()) for row in table.to_pylist()}
        assert not real & {tuple(row.values()) for row in recorded.rows}
        model = records.load_model("learner@1")

        def answer(rows: Any) -> Any:
            import pyarrow as pa

            answers = model.predict(pa.Table.from_pylist(list(rows)))
            assert answers.probabilities is not None
            return answers.predicted.tolist(), answers.probabilities.tolist()

        assert recorded.difference(answer) is None


def test_a_version_that_answers_as_ever_is_served_here_and_that_is_recorded(project: Path) -> None:
    with open_records(project) as records:
        before = predicted(records, project)
        assert audit_log(records.store, "learner", action=ACTION) == []
        made_with(records.store, project, scikit_learn="1.0.1")
        for _ in range(2):
            np.testing.assert_array_equal(predicted(records, project), before)
        (entry,) = audit_log(records.store, "learner", action=ACTION)
        assert entry.evidence["verdict"] == "here"
        assert entry.evidence["releases"]["scikit-learn"][0] == "1.0.1"
        assert "learner@1 answers as it did (scikit-learn 1.0.1 then," in entry.reason
        assert not (records.store.folder / "environments").exists()


def test_one_that_cannot_be_served_is_told_with_both_reasons(project: Path) -> None:
    with open_records(project) as records:
        in_small_environment(records.store, scikit_learn="0.0.987")
        made_with(records.store, project, answers=answered_otherwise, scikit_learn="0.0.987")
        message = (
            r"learner@1 is not served: with what is installed here 100 of 100 recorded answers differ, by up"
            r" to .*scikit-learn 0\.0\.987 then.*its own environment cannot be made: .*987 cannot be had"
        )
        with pytest.raises(PackageError, match=message):
            predicted(records, project)
        assert audit_log(records.store, "learner", action=ACTION) == []


@pytest.mark.timeout(600)
def test_one_that_answers_otherwise_is_served_from_its_recorded_environment(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The present environment is made to answer otherwise; the recorded one is really made, by uv."""
    with open_records(project) as records:
        before = predicted(records, project)
        in_small_environment(records.store)
        made_with(records.store, project, scikit_learn="1.0.1")
        # A release of today that answers otherwise: read by every process of the present environment alone.
        # Beside the project, whose own search paths are kept from children.
        today = project.parent / "today"
        today.mkdir()
        (today / "sitecustomize.py").write_text(OF_TODAY)
        monkeypatch.setenv("PYTHONPATH", str(today))
        np.testing.assert_array_equal(predicted(records, project), before)
        (entry,) = audit_log(records.store, "learner", action=ACTION)
        assert entry.evidence["verdict"] == "recorded"
        assert entry.reason.startswith("learner@1 is served from its recorded environment: with what is in")
        assert len(list((records.store.folder / "environments").iterdir())) == 1
        with records.store.read() as reader:
            check = newest_check(reader, "learner", 1)
        assert check is not None
        assert check.sentence == entry.reason
    loaded = clew.load("learner@1", project=project)
    np.testing.assert_array_equal(loaded.predict(pq.read_table(project / "stream.parquet")), before)


OF_TODAY = """
import sys

if "environments" not in sys.prefix:
    from sklearn.linear_model import LogisticRegression
    kept = LogisticRegression.predict_proba
    LogisticRegression.predict_proba = lambda self, X: kept(self, X)[:, ::-1]
"""
