"""XGBoost models: which the file can keep, which columns they use, what is refused and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import xgboost
from xgboost import XGBClassifier, XGBRegressor, XGBRFClassifier

from clew.errors import MissingExtra, PackageError
from clew.registry import Signature, load_package, open_row_model, package_digest, save_package, wrap_model
from tests.registry.elsewhere import run_python
from tests.registry.models import XGB
from tests.registry.rides import busy, pipeline, rides, signature_of
from tests.registry.test_row_models import assert_same


def booster(table: pa.Table, labels: np.ndarray, **params: Any) -> xgboost.Booster:
    X = signature_of(table).to_frame(table)
    return xgboost.train(params, xgboost.DMatrix(X, labels, enable_categorical=True), num_boost_round=5)


@pytest.mark.parametrize("frame", ["pandas", "polars", "pyarrow"])
def test_answers_are_those_of_the_wrapper_on_its_own_frame(frame: Any, tmp_path: Path) -> None:
    table = rides(has_gaps=True)
    signature = signature_of(table, (0, 1), frame)
    X = signature.to_frame(table)
    model = XGBClassifier(**XGB).fit(X, busy(table))
    info = save_package(model, tmp_path, signature=signature, example=table)
    answers = load_package(tmp_path, expected_digest=info.digest).predict(table)
    assert answers.probabilities is not None
    np.testing.assert_allclose(answers.probabilities, model.predict_proba(X), rtol=0, atol=1e-7)
    assert answers.predicted.tolist() == model.predict(X).tolist()


def test_the_trees_that_early_stopping_chose_are_the_ones_that_answer(tmp_path: Path) -> None:
    table = rides()
    signature = signature_of(table)
    X = signature.to_frame(table)
    noise = np.random.default_rng(0).integers(0, 2, 100)
    model = XGBClassifier(**XGB | {"n_estimators": 60}, early_stopping_rounds=3, learning_rate=0.8)
    model.fit(X, busy(table), eval_set=[(X[:100], noise)], verbose=False)
    assert model.best_iteration + 1 < model.get_booster().num_boosted_rounds()
    info = save_package(model, tmp_path, signature=signature, example=table)
    answers = load_package(tmp_path, expected_digest=info.digest).predict(table)
    assert answers.probabilities is not None
    np.testing.assert_allclose(answers.probabilities, model.predict_proba(X), rtol=0, atol=1e-7)


def test_a_forest_and_a_dart_are_trees_too() -> None:
    table = rides()
    signature = signature_of(table)
    X = signature.to_frame(table)
    for model in (XGBRFClassifier(**XGB), XGBClassifier(**XGB, booster="dart", rate_drop=0.5)):
        answers = wrap_model(model.fit(X, busy(table)), signature).predict(table)
        assert answers.probabilities is not None
        np.testing.assert_allclose(answers.probabilities, model.predict_proba(X), rtol=0, atol=1e-6)


def test_the_level_that_a_regression_begins_at_is_kept(tmp_path: Path) -> None:
    table = rides()
    signature = signature_of(table, None)
    labels = 5000 + table["warmth"].to_numpy()
    model = XGBRegressor(**XGB).fit(signature.to_frame(table), labels)
    info = save_package(model, tmp_path, signature=signature, example=table)
    answers = load_package(tmp_path, expected_digest=info.digest).predict(table).predicted
    assert np.abs(answers - labels).max() < 5
    np.testing.assert_array_equal(answers, model.predict(signature.to_frame(table)))


def test_a_base_margin_of_the_table_is_not_of_the_model() -> None:
    table = rides()
    signature = signature_of(table, None)
    X, labels = signature.to_frame(table), table["warmth"].to_numpy()
    margin = np.full(len(labels), 3.0)
    model = XGBRegressor(**XGB, base_score=0.0).fit(X, labels, base_margin=margin)
    np.testing.assert_array_equal(wrap_model(model, signature).predict(table).predicted, model.predict(X))


def test_a_model_may_use_some_of_the_columns_in_another_order(tmp_path: Path) -> None:
    table = rides(has_gaps=True)
    signature = signature_of(table)
    model = XGBClassifier(**XGB).fit(signature.to_frame(table)[["city", "warmth"]], busy(table))
    info = save_package(model, tmp_path, signature=signature, example=table)
    loaded = load_package(tmp_path, expected_digest=info.digest)
    assert loaded.signature.names == ("city", "warmth")
    importance = loaded.importance
    assert importance is not None
    assert sum(importance.values()) == pytest.approx(1)
    assert_same(table.slice(0, 30).to_pylist(), open_row_model(tmp_path, expected_digest=info.digest), loaded)


def test_numbers_beyond_32_bits_are_answered_alike_by_rows_and_tables(tmp_path: Path) -> None:
    table = rides()
    signature = signature_of(table)
    model = XGBClassifier(**XGB).fit(signature.to_frame(table), busy(table))
    info = save_package(model, tmp_path, signature=signature, example=table)
    row: dict[str, Any] = {"warmth": 1e300, "hour": 2**62, "holiday": True, "city": None}
    rows = [row, row | {"warmth": -1e300, "hour": -(2**63)}, row | {"warmth": 1e-320, "hour": None}]
    loaded = load_package(tmp_path, expected_digest=info.digest)
    assert_same(rows, open_row_model(tmp_path, expected_digest=info.digest), loaded)


@pytest.mark.parametrize(
    ("classes", "params"),
    [
        ((0, 1), {"objective": "binary:logistic"}),
        ((False, True), {"objective": "reg:logistic"}),
        ((0, 1, 2), {"objective": "multi:softprob", "num_class": 3}),
    ],
)
def test_a_booster_answers_for_classes_that_its_codes_are(classes: Any, params: Any) -> None:
    table = rides()
    model = booster(table, busy(table, range(len(classes))), **params)
    answers = wrap_model(model, signature_of(table, classes)).predict(table)
    X = xgboost.DMatrix(signature_of(table).to_frame(table), enable_categorical=True)
    own = model.predict(X).astype(np.float64)
    assert answers.probabilities is not None
    np.testing.assert_array_equal(answers.probabilities if own.ndim > 1 else answers.probabilities[:, 1], own)
    assert answers.classes == classes


@pytest.mark.parametrize(
    ("classes", "params", "message"),
    [
        (("no", "yes"), {"objective": "binary:logistic"}, r"classes 0, 1.*labels 'no', 'yes'.*such a number"),
        ((0, 1), {"objective": "binary:hinge"}, "'binary:hinge', whose answers are no probabilities"),
        ((0, 1, 2), {"objective": "multi:softmax", "num_class": 3}, "'multi:softmax'"),
        (None, {"objective": "multi:softprob", "num_class": 2}, "answers 2 numbers a row"),
        ((0, 1), {"objective": "binary:logistic", "booster": "gblinear"}, r"is linear \(gblinear\)"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_a_booster_that_cannot_be_kept_is_told_why(classes: Any, params: Any, message: str) -> None:
    table = rides()
    if params.get("booster") == "gblinear":
        X = signature_of(table).to_frame(table).drop(columns="city")
        model = xgboost.train(params, xgboost.DMatrix(X, busy(table)), num_boost_round=2)
    else:
        model = booster(table, busy(table, range(len(classes or (0, 1)))), **params)
    with pytest.raises(PackageError, match=message):
        wrap_model(model, signature_of(table, classes))


def test_a_wrapper_that_cannot_be_kept_is_told_why() -> None:
    table = rides()
    signature = signature_of(table)
    X, y = signature.to_frame(table), busy(table)
    with pytest.raises(PackageError, match="The XGBClassifier is not fitted"):
        wrap_model(XGBClassifier(), signature)
    with pytest.raises(PackageError, match=r"takes -1 for a missing value.*write nulls"):
        wrap_model(XGBClassifier(**XGB, missing=-1).fit(X, y), signature)
    with pytest.raises(PackageError, match="but the metric measures numbers"):
        wrap_model(XGBClassifier(**XGB).fit(X, y), signature_of(table, None))
    with pytest.raises(
        PackageError, match=r"fitted on 'warmth', 'tide', but the features are 'warmth', 'hour'"
    ):
        wrap_model(XGBClassifier(**XGB).fit(X[["warmth"]].assign(tide=1.0), y), signature)
    with pytest.raises(PackageError, match=r"categorical columns none, but those of the features are 'city'"):
        wrap_model(XGBClassifier(**XGB).fit(X.assign(city=X["city"].cat.codes), y), signature)
    words = XGBClassifier(**XGB).fit(X, y)
    with pytest.raises(PackageError, match="labels 'no', 'yes'"):
        wrap_model(words, signature_of(table, ("no", "yes")))


def test_levels_are_those_of_the_fit(tmp_path: Path) -> None:
    table = rides()
    signature = signature_of(table)
    X = signature.to_frame(table)
    X["city"] = X["city"].cat.reorder_categories(["Ulm", "Bonn", "Kiel"])
    model = XGBClassifier(**XGB).fit(X, busy(table))
    assert wrap_model(model, signature).signature.columns[3].levels == ("Ulm", "Bonn", "Kiel")
    answers = wrap_model(model, signature).predict(table).probabilities
    assert answers is not None
    np.testing.assert_allclose(answers, model.predict_proba(X), rtol=0, atol=1e-7)


def test_in_a_pipeline_it_is_kept_by_skops(tmp_path: Path) -> None:
    table = rides()
    signature = signature_of(table, (0, 1))
    model = pipeline(XGBClassifier(n_estimators=5, n_jobs=1)).fit(signature.to_frame(table), busy(table))
    info = save_package(model, tmp_path, signature=signature, example=table)
    assert info.flavor == "skops"
    answers = load_package(tmp_path, expected_digest=info.digest).predict(table)
    assert answers.is_same(wrap_model(model, signature).predict(table))


OPEN = """
import sys
from pathlib import Path
from clew.registry.row_models import open_row_model
model = open_row_model(Path(sys.argv[1]), expected_digest=sys.argv[2])
model.warm()
print(*sorted({"xgboost", "numpy", "pandas", "pyarrow", "scipy", "sklearn"} & set(sys.modules)))
"""


def test_rows_need_the_library_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = rides()
    signature = signature_of(table)
    model = XGBClassifier(**XGB).fit(signature.to_frame(table), busy(table))
    save_package(model, tmp_path, signature=signature, example=table)
    assert run_python(OPEN, tmp_path, package_digest(tmp_path)) == "\n"
    (tmp_path / "model.ubj").write_bytes(b"{")
    with pytest.raises(PackageError, match="XGBoost cannot use the model: "):
        open_row_model(tmp_path, expected_digest=package_digest(tmp_path))
    with pytest.raises(PackageError, match=r"XGBoost \S+ cannot read the model: "):
        load_package(tmp_path, expected_digest=package_digest(tmp_path))
    monkeypatch.setitem(__import__("sys").modules, "xgboost", None)
    with pytest.raises(MissingExtra, match=r"\"clew\[xgboost\]\""):
        open_row_model(tmp_path, expected_digest=package_digest(tmp_path))


def test_a_file_of_other_columns_than_its_signature_is_refused(tmp_path: Path) -> None:
    table = pa.table({"x": np.arange(50.0), "z": np.arange(50.0)})
    signature = Signature.of(table, (), "pandas", "classification", (0, 1))
    model = XGBClassifier(**XGB).fit(signature.to_frame(table), np.arange(50) % 2)
    save_package(model, tmp_path, signature=signature, example=table)
    narrow = XGBClassifier(**XGB).fit(signature.to_frame(table)[["x"]], np.arange(50) % 2)
    (tmp_path / "model.ubj").write_bytes(narrow.get_booster().save_raw("ubj"))
    with pytest.raises(PackageError, match="takes 1 columns and answers 1 numbers, which its signature of 2"):
        open_row_model(tmp_path, expected_digest=package_digest(tmp_path))
