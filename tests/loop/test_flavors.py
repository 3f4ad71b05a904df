"""Projects whose models are XGBoost's and ONNX's: try, gate, batch, load, reproduce."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import clew
from clew.workspace import Workspace, open_records, open_workspace
from tests.loop import streams

MODELS = {
    "xgboost": """
from xgboost import XGBClassifier
@clew.model(stream, metric="accuracy", margin=0.01)
def learner(train, seed=0):
    return XGBClassifier(n_estimators=10, max_depth=3, n_jobs=1, random_state=seed).fit(train.X, train.y)
""",
    "onnx": """
from skl2onnx import to_onnx
@clew.model(stream, metric="accuracy", margin=0.01)
def learner(train):
    X = train.X.to_numpy(np.float32)
    model = LogisticRegression().fit(X, train.y)
    return to_onnx(model, X[:1], name="learner", options={"zipmap": False})
""",
}


@pytest.fixture(scope="module", params=list(MODELS))
def project(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp(request.param)
    streams.write_project(folder, streams.calm(600), model=MODELS[request.param])
    with open_workspace(None, folder) as workspace:
        assert workspace.try_model(seed=3).version.name == "learner@1"
    return request.param, folder


@pytest.fixture
def records(project: tuple[str, Path]) -> Iterator[Workspace]:
    with open_records(project[1]) as records:
        yield records


def test_the_gate_asked_it_in_the_real_server(project: tuple[str, Path], records: Workspace) -> None:
    from clew.registry import get_gate, get_version

    gate = get_gate(records.store, "learner", 1)
    assert gate is not None
    assert {check.name: check.outcome for check in gate.checks}["loads and answers"] == "pass"
    assert get_version(records.store, "learner", 1).flavor == project[0]


def test_a_batch_gets_the_answers_of_the_loaded_version(
    project: tuple[str, Path], records: Workspace, tmp_path: Path
) -> None:
    folder = project[1]
    model = clew.load("learner@1", project=folder)
    table = pq.read_table(folder / "stream.parquet")
    result = records.predict_batch(
        "learner@1", "stream.parquet", tmp_path / "answers.parquet", where=folder, actor="tests"
    )
    answers = pq.read_table(tmp_path / "answers.parquet")
    assert result.n_rows == table.num_rows
    np.testing.assert_array_equal(answers["prediction"].to_numpy(), model.predict(table))
    kept = [name for name in answers.column_names if name.startswith("probability")]
    own = np.column_stack([answers[name].to_numpy() for name in kept])
    np.testing.assert_array_equal(own, model.predict_proba(table))


def test_it_comes_out_the_same_again(records: Workspace) -> None:
    assert records.reproduce("learner@1", is_here=True).level == "same bits"
