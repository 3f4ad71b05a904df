"""Models made elsewhere: version 1 and champion, answering as they did where they came from."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import skops.io
from lightgbm import LGBMClassifier, LGBMRegressor
from skl2onnx import to_onnx
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from xgboost import XGBClassifier

import clew
from clew.errors import PackageError, TrainingFailed, UsageError
from clew.loop.adoption import Adoption
from clew.registry import aliases, audit_log, get_profile, list_versions
from clew.registry.routes import get_route
from clew.tracking import get_run
from clew.workspace import open_records, open_workspace
from tests.loop import streams

FEATURES = [f"x{n}" for n in range(5)]


def rows() -> pa.Table:
    return streams.calm(300).table()


def fitted(kind: Any = LogisticRegression, **settings: Any) -> Any:
    table = rows()
    return kind(**settings).fit(table.select(FEATURES).to_pandas(), table["y"].to_numpy())


def boosted() -> Any:
    return fitted(LGBMClassifier, n_estimators=5, n_jobs=1, verbose=-1)


def _lightgbm(path: Path) -> Any:
    model = boosted()
    model.booster_.save_model(path)
    return model


def _xgboost(path: Path) -> Any:
    model = fitted(XGBClassifier, n_estimators=5, n_jobs=1)
    model.get_booster().save_model(path)
    return model


def _skops(path: Path) -> Any:
    model = fitted()
    skops.io.dump(model, path)
    return model


def _onnx(path: Path) -> Any:
    frame = rows().select(FEATURES).to_pandas()
    model = make_pipeline(ColumnTransformer([("all", "passthrough", FEATURES)]), LogisticRegression())
    model.fit(frame, rows()["y"].to_numpy())
    path.write_bytes(to_onnx(model, frame[:1], name="m", options={"zipmap": False}).SerializeToString())
    return model


def _pickle(path: Path) -> Any:
    model = boosted()
    path.write_bytes(pickle.dumps(model))
    return model


def _joblib(path: Path) -> Any:
    model = fitted()
    joblib.dump(model, path)
    return model


FILES: dict[str, tuple[Callable[[Path], Any], str, str]] = {
    "churn.lgb": (_lightgbm, "LightGBM text", "lightgbm"),
    "churn.json": (_xgboost, "XGBoost", "xgboost"),
    "churn.ubj": (_xgboost, "XGBoost", "xgboost"),
    "churn.skops": (_skops, "skops", "skops"),
    "churn.onnx": (_onnx, "ONNX", "onnx"),
    "churn.pkl": (_pickle, "pickle", "lightgbm"),
    "churn.joblib": (_joblib, "pickle", "skops"),
}


def imported(folder: Path, name: str, source: str, **more: Any) -> Adoption:
    """As at the command line: the project if there is one, else its records alone."""
    about: dict[str, Any] = {"where": folder, "actor": "ada", "reason": "made last year"} | more
    if (folder / "clew.toml").exists() and "models" in (folder / "clew.toml").read_text():
        with open_workspace(None, folder) as workspace:
            return workspace.import_model(name, source, **about)
    with open_records(folder) as records:
        return records.import_model(name, source, **about)


@pytest.mark.parametrize("file", list(FILES))
def test_a_file_answers_as_it_did_where_it_came_from(file: str, tmp_path: Path) -> None:
    write, kind, flavor = FILES[file]
    model = write(tmp_path / file)
    (tmp_path / "clew.toml").write_text("allow_pickle = true\n")
    pq.write_table(rows().select(FEATURES), tmp_path / "rows.parquet")
    adopted = imported(tmp_path, "churn", file, example="rows.parquet")
    assert (adopted.kind, adopted.version.flavor, adopted.version.name) == (kind, flavor, "churn@1")
    assert (adopted.is_declared, adopted.n_profile_rows) == (False, 300)
    loaded = clew.load("churn", project=tmp_path)
    given = loaded.predict_proba(rows())
    expected = model.predict_proba(rows().select(FEATURES).to_pandas())
    np.testing.assert_allclose(given, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("file", ["churn.lgb", "churn.ubj", "churn.skops", "churn.onnx"])
def test_a_file_that_knows_its_columns_needs_no_rows(file: str, tmp_path: Path) -> None:
    model = FILES[file][0](tmp_path / file)
    adopted = imported(tmp_path, "churn", file)
    assert adopted.columns == tuple(FEATURES)
    assert adopted.n_profile_rows == 0
    loaded = clew.load("churn", project=tmp_path)
    expected = model.predict_proba(rows().select(FEATURES).to_pandas())
    np.testing.assert_allclose(loaded.predict_proba(rows()), expected, rtol=0, atol=1e-6)


def test_the_record_says_what_is_not_known(tmp_path: Path) -> None:
    _lightgbm(tmp_path / "churn.lgb")
    pq.write_table(rows().select([*FEATURES, "y"]), tmp_path / "rows.parquet")
    adopted = imported(tmp_path, "churn", "churn.lgb", data="rows.parquet", label="y")
    with open_records(tmp_path) as records:
        store = records.store
        told = records.trace("churn@1").causes[0]
        assert told.sentence == (
            f"training unknown: imported from churn.lgb (sha256 {adopted.digest[:12]}…) by ada"
        )
        assert aliases(store, "churn") == {"champion": 1, "anchor": 1}
        moves = [entry for entry in audit_log(store, "churn") if entry.action == "move champion"]
        assert [(e.actor, e.reason, e.evidence["sha256"]) for e in moves] == [
            ("ada", "made last year", adopted.digest)
        ]
        profile = get_profile(store, "churn", 1)
        assert profile is not None
        assert (profile["n_rows"], profile["labels"] is not None) == (300, True)
        with store.read() as reader:
            route = get_route(reader, "churn")
        assert route is not None
        assert route.champion == 1
        run = get_run(store, adopted.version.run)
        assert (run.snapshot, run.code, bool(run.environment)) == ("", "", True)
        with pytest.raises(
            UsageError, match=r"churn@1 was imported from churn\.lgb by ada: how it was trained is not"
        ):
            records.reproduce("churn@1")
        with pytest.raises(UsageError, match="nothing to compare"):
            records.difference("churn@1", "churn@1")


def test_a_batch_is_answered_by_it(tmp_path: Path) -> None:
    model = _lightgbm(tmp_path / "churn.lgb")
    imported(tmp_path, "churn", "churn.lgb")
    pq.write_table(rows(), tmp_path / "rows.parquet")
    with open_records(tmp_path) as records:
        records.predict_batch("churn", "rows.parquet", tmp_path / "out.parquet", where=tmp_path, actor="ada")
    answers = pq.read_table(tmp_path / "out.parquet")["prediction"].to_numpy()
    np.testing.assert_array_equal(answers, model.predict(rows().select(FEATURES).to_pandas()))


def test_repeating_it_is_harmless_and_another_file_is_refused(tmp_path: Path) -> None:
    _lightgbm(tmp_path / "churn.lgb")
    first, again = (imported(tmp_path, "churn", "churn.lgb") for _ in range(2))
    assert (first.is_new, again.is_new, again.version) == (True, False, first.version)
    _skops(tmp_path / "churn.skops")
    with pytest.raises(UsageError, match="'churn' has 1 versions already; an imported model is the first"):
        imported(tmp_path, "churn", "churn.skops")
    with open_records(tmp_path) as records:
        assert len(list_versions(records.store, "churn")) == 1


def test_a_declared_model_shows_its_columns_and_classes(tmp_path: Path) -> None:
    streams.write_project(tmp_path, streams.calm(300))
    model = fitted(LogisticRegression, C=0.01)
    skops.io.dump(model, tmp_path / "old.skops")
    adopted = imported(tmp_path, "learner", "old.skops")
    assert adopted.is_declared
    assert adopted.n_profile_rows == 300
    with open_workspace(None, tmp_path) as workspace:
        tried = workspace.try_model()
        assert tried.version.name == "learner@2"
        assert aliases(workspace.store, "learner")["champion"] == 1


def test_a_model_that_is_not_declared_may_answer_numbers(tmp_path: Path) -> None:
    table = rows()
    model = LGBMRegressor(n_estimators=5, n_jobs=1, verbose=-1)
    model.fit(table.select(FEATURES).to_pandas(), table["x0"].to_numpy())
    model.booster_.save_model(tmp_path / "level.txt")
    imported(tmp_path, "level", "level.txt")
    loaded = clew.load("level", project=tmp_path)
    np.testing.assert_array_equal(loaded.predict(table), model.predict(table.select(FEATURES).to_pandas()))


# -- pickles ---------------------------------------------------------------------------------------------


def test_a_pickle_is_not_read_unless_the_project_says_so(tmp_path: Path) -> None:
    _pickle(tmp_path / "churn.pkl")
    with pytest.raises(
        PackageError, match=r"runs whatever code is in it.*or ONNX.*allow_pickle = true"
    ) as caught:
        imported(tmp_path, "churn", "churn.pkl")
    assert "kept in a native format" in str(caught.value)


def test_a_skops_file_of_strange_types_is_not_brought_to_life(tmp_path: Path) -> None:
    from tests.loop.strange import Strange

    skops.io.dump(Strange(), tmp_path / "strange.skops")
    with pytest.raises(PackageError, match=r"brings tests\.loop\.strange\.Strange to life"):
        imported(tmp_path, "churn", "strange.skops")


def test_what_a_pickle_does_when_it_is_read_is_told_as_its_fault(tmp_path: Path) -> None:
    (tmp_path / "clew.toml").write_text("allow_pickle = true\n")
    (tmp_path / "churn.pkl").write_bytes(b"cbuiltins\nint\n(S'no number'\ntR.")
    with pytest.raises((TrainingFailed, PackageError), match="no number"):
        imported(tmp_path, "churn", "churn.pkl")
    with open_records(tmp_path) as records, records.store.read() as reader:
        assert [row["status"] for row in reader.find("runs")] == ["failed"]


# -- folders that MLflow wrote ------------------------------------------------------------------------------

MLMODEL = """\
artifact_path: model
flavors:
  {flavor}:
    {entry}: {file}
    code: null
    model_class: {flavor}.Booster
  python_function:
    data: {file}
    env:
      conda: conda.yaml
      virtualenv: python_env.yaml
    loader_module: mlflow.{flavor}
    python_version: 3.11.7
mlflow_version: 3.1.0
model_size_bytes: 4711
model_uuid: 5a1c3f0e9b0c4f1c8f4e0c9a7d1e2b3c
prompts: null
run_id: 0b1d2e3f4a5b6c7d8e9f0a1b2c3d4e5f
saved_input_example_info:
  artifact_path: input_example.json
  pandas_orient: split
  serving_input_path: serving_input_example.json
  type: dataframe
signature:
  inputs: '{inputs}'
  outputs: '[{{"type": "long", "required": true}}]'
  params: null
utc_time_created: '2026-01-15 09:30:00.000000'
"""


def mlflow_folder(folder: Path, flavor: str, entry: str, file: str) -> None:
    """As ``mlflow.*.save_model`` lays one out, with signature and example."""
    folder.mkdir()
    inputs = json.dumps([{"type": "double", "name": name, "required": True} for name in FEATURES])
    (folder / "MLmodel").write_text(MLMODEL.format(flavor=flavor, entry=entry, file=file, inputs=inputs))
    few = rows().select(FEATURES).slice(0, 5)
    example = {"columns": FEATURES, "data": [list(row.values()) for row in few.to_pylist()]}
    (folder / "input_example.json").write_text(json.dumps(example))


@pytest.mark.parametrize(
    ("flavor", "entry", "file", "write"),
    [
        ("lightgbm", "data", "model.lgb", _lightgbm),
        ("xgboost", "data", "model.ubj", _xgboost),
        ("onnx", "data", "model.onnx", _onnx),
        ("sklearn", "pickled_model", "model.skops", _skops),
    ],
)
def test_a_folder_of_mlflow_is_read_without_mlflow(
    flavor: str, entry: str, file: str, write: Callable[[Path], Any], tmp_path: Path
) -> None:
    mlflow_folder(tmp_path / "model", flavor, entry, file)
    model = write(tmp_path / "model" / file)
    adopted = imported(tmp_path, "churn", "mlflow:model")
    assert adopted.columns == tuple(FEATURES)
    expected = model.predict_proba(rows().select(FEATURES).to_pandas())
    loaded = clew.load("churn", project=tmp_path)
    np.testing.assert_allclose(loaded.predict_proba(rows()), expected, rtol=0, atol=1e-6)


def test_a_version_of_clews_own_is_such_a_folder_too(tmp_path: Path) -> None:
    _lightgbm(tmp_path / "churn.lgb")
    package = imported(tmp_path, "churn", "churn.lgb").version.package
    clew.load("churn", project=tmp_path)
    (tmp_path / "other").mkdir()
    adopted = imported(tmp_path / "other", "churn", f"../.clew/packages/{package}")
    assert adopted.columns == tuple(FEATURES)


def test_a_pickled_flavor_needs_the_projects_word(tmp_path: Path) -> None:
    mlflow_folder(tmp_path / "model", "sklearn", "pickled_model", "model.pkl")
    _pickle(tmp_path / "model" / "model.pkl")
    with pytest.raises(PackageError, match=r"model\.pkl is a pickle"):
        imported(tmp_path, "churn", "mlflow:model")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nothing.lgb", r"There is no .*nothing\.lgb"),
        ("mlflow:models:/churn/7", r"needs MLflow, which is not installed.*mlflow artifacts download"),
        ("words.txt", r"words\.txt is no model that Clew can read"),
        ("strange", r"has the flavors torch; Clew reads"),
        ("cut.lgb", r"LightGBM \S+ cannot read the model"),
        ("nameless.onnx", r"does not say which columns the model takes\. Show them: --example"),
    ],
)
def test_what_cannot_be_read_is_told(source: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("words")
    (tmp_path / "cut.lgb").write_text("tree\nversion=v4\n")
    (tmp_path / "strange").mkdir()
    (tmp_path / "strange" / "MLmodel").write_text("flavors:\n  torch:\n    data: x\n")
    matrix = rows().select(FEATURES).to_pandas().to_numpy(np.float32)
    model = LogisticRegression().fit(matrix, rows()["y"].to_numpy())
    (tmp_path / "nameless.onnx").write_bytes(to_onnx(model, matrix[:1]).SerializeToString())
    with pytest.raises((PackageError, UsageError), match=message):
        imported(tmp_path, "churn", source)


def test_a_label_that_is_not_there_is_named(tmp_path: Path) -> None:
    _lightgbm(tmp_path / "churn.lgb")
    pq.write_table(rows(), tmp_path / "rows.parquet")
    with pytest.raises(UsageError, match=r"have no column 'z'\. Known: at, id, "):
        imported(tmp_path, "churn", "churn.lgb", data="rows.parquet", label="z")
