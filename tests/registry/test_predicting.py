"""Models of every kind in memory: whose columns they use, what they refuse, and why."""

from __future__ import annotations

import importlib
import threading
from typing import Any

import lightgbm
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder

from clew.errors import DataError, PackageError
from clew.registry import LoadedModel, Signature, wrap_model
from clew.registry.flavors.skops_file import _ARGMAX_CLASSIFIERS
from tests.registry.rides import busy, encoder, pipeline, rides, signature_of

SMALL: dict[str, Any] = {"n_estimators": 5, "n_jobs": 1, "verbose": -1}


def wrapped(model: Any, table: pa.Table, classes: Any = (0, 1)) -> LoadedModel:
    signature = signature_of(table, classes)
    labels = np.arange(table.num_rows) if classes is None else busy(table, classes)
    return wrap_model(model.fit(signature.to_frame(table), labels), signature)


# -- LightGBM ------------------------------------------------------------------------------------------


def booster(table: pa.Table, labels: np.ndarray, **params: Any) -> Any:
    X = signature_of(table).to_frame(table)
    settings = {"verbose": -1, "num_threads": 1} | params
    return lightgbm.train(settings, lightgbm.Dataset(X, labels), num_boost_round=5)


@pytest.mark.parametrize(("classes", "objective"), [((0, 1), "binary"), ((False, True), "cross_entropy")])
def test_a_booster_answers_for_classes_that_its_codes_are(classes: Any, objective: str) -> None:
    table = rides()
    model = booster(table, busy(table), objective=objective)
    answers = wrap_model(model, signature_of(table, classes)).predict(table)
    assert answers.probabilities is not None
    X = signature_of(table).to_frame(table)
    np.testing.assert_allclose(answers.probabilities[:, 1], model.predict(X), rtol=0, atol=1e-12)
    assert answers.predicted.dtype == np.asarray(classes).dtype


def test_a_booster_of_several_classes_answers_for_each() -> None:
    table = rides()
    model = booster(table, busy(table, (0, 1, 2)), objective="multiclass", num_class=3)
    answers = wrap_model(model, signature_of(table, (0, 1, 2))).predict(table)
    assert answers.probabilities is not None
    assert answers.probabilities.shape == (table.num_rows, 3)


def test_a_booster_does_not_know_which_label_a_code_is() -> None:
    table = rides()
    model = booster(table, busy(table), objective="binary")
    with pytest.raises(PackageError, match=r"a Booster, .* the classes 0, 1 .*'no', 'yes'.*LGBMCl"):
        wrap_model(model, signature_of(table, ("no", "yes")))


def test_the_iteration_that_early_stopping_chose_is_the_one_that_answers() -> None:
    table, valid = rides(200), rides(100, seed=5)
    signature = signature_of(table)
    model = LGBMClassifier(n_estimators=60, learning_rate=0.5, n_jobs=1, verbose=-1)
    X = signature.to_frame(table)
    stop = lightgbm.early_stopping(3, verbose=False)
    noise = np.random.default_rng(0).integers(0, 2, 100)
    model.fit(X, busy(table), eval_X=signature.to_frame(valid), eval_y=noise, callbacks=[stop])
    assert model.best_iteration_ < 60
    answers = wrap_model(model, signature).predict(table)
    np.testing.assert_array_equal(answers.probabilities, model.predict_proba(X))


def squared_error(labels: Any, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return scores - labels, np.ones_like(scores)


def test_an_objective_of_the_users_own_has_no_probabilities() -> None:
    with pytest.raises(PackageError, match="objective 'custom', whose answers are no probabilities"):
        wrapped(LGBMClassifier(objective=squared_error, **SMALL), rides())


def test_an_objective_of_the_users_own_answers_numbers() -> None:
    table = rides()
    signature = signature_of(table, None)
    model = LGBMRegressor(objective=squared_error, **SMALL)
    model.fit(signature.to_frame(table), np.arange(table.num_rows))
    answers = wrap_model(model, signature).predict(table)
    np.testing.assert_array_equal(answers.predicted, model.predict(signature.to_frame(table)))


def test_a_regressor_is_no_classifier() -> None:
    with pytest.raises(PackageError, match=r"objective 'regression'.*Use LGBMClassifier"):
        wrapped(LGBMRegressor(**SMALL), rides())
    with pytest.raises(PackageError, match="but the label's values are 0, 1"):
        wrapped(pipeline(RandomForestRegressor(2)), rides()).predict(rides())


@pytest.mark.parametrize("model", [LGBMClassifier(**SMALL), pipeline(RandomForestClassifier(2))])
def test_a_classifier_is_no_regressor(model: Any) -> None:
    table = rides()
    fitted = model.fit(signature_of(table).to_frame(table), busy(table))
    with pytest.raises(PackageError, match="but the metric measures numbers"):
        wrap_model(fitted, signature_of(table, None))


def test_a_model_that_is_not_fitted_says_so() -> None:
    with pytest.raises(PackageError, match=r"not fitted\. Return model\.fit\(train\.X, train\.y\)"):
        wrap_model(LGBMClassifier(), signature_of(rides()))
    with pytest.raises(PackageError, match="The model is not fitted"):
        wrap_model(LinearRegression(), signature_of(rides(), None)).predict(rides())


def test_categories_must_reach_lightgbm_as_they_are() -> None:
    table = rides()
    signature = signature_of(table)
    X = signature.to_frame(table)
    model = LGBMClassifier(**SMALL).fit(X.assign(city=X["city"].cat.codes), busy(table))
    with pytest.raises(PackageError, match=r"with 0 categorical columns, but the features have 1: 'city'"):
        wrap_model(model, signature)


def test_the_levels_are_those_the_booster_was_fitted_on() -> None:
    table = rides()
    signature = signature_of(table)
    X = signature.to_frame(table)
    reordered = X.assign(city=X["city"].cat.reorder_categories(["Ulm", "Bonn", "Kiel"]))
    model = LGBMClassifier(**SMALL).fit(reordered, busy(table))
    answers = wrap_model(model, signature).predict(table)
    np.testing.assert_array_equal(answers.probabilities, model.predict_proba(reordered))


def test_names_with_blanks_are_found_again() -> None:
    table = rides().rename_columns(["how warm", "hour of day", "holiday", "city"])
    model = LGBMClassifier(**SMALL)
    signature = Signature.of(table, {"city"}, "pandas", "classification", (0, 1))
    model.fit(signature.to_frame(table), np.arange(table.num_rows) % 2)
    assert wrap_model(model, signature).signature.names == ("how warm", "hour of day", "holiday", "city")


# -- which columns -------------------------------------------------------------------------------------


@pytest.mark.parametrize("final", [LGBMClassifier(**SMALL), RandomForestClassifier(2, random_state=0)])
def test_a_model_of_some_columns_is_given_these_in_its_order(final: Any) -> None:
    table = rides()
    signature = signature_of(table)
    X = signature.to_frame(table)[["hour", "warmth"]]
    model = final.fit(X, busy(table))
    loaded = wrap_model(model, signature)
    assert loaded.signature.names == ("hour", "warmth")
    answers = loaded.predict(table.select(["warmth", "hour"]))
    np.testing.assert_array_equal(answers.probabilities, model.predict_proba(X))


@pytest.mark.parametrize("final", [LGBMClassifier(**SMALL), RandomForestClassifier(2)])
def test_a_model_of_other_columns_is_refused(final: Any) -> None:
    table = rides()
    signature = signature_of(table)
    X = signature.to_frame(table).drop(columns="city").assign(twice=lambda frame: 2 * frame["warmth"])
    with pytest.raises(PackageError, match=r"'twice'.*belongs into a scikit-learn Pipeline"):
        wrap_model(final.fit(X, busy(table)), signature)


@pytest.mark.parametrize("final", [LGBMClassifier(**SMALL), RandomForestClassifier(2, random_state=0)])
def test_a_model_of_an_array_is_asked_with_an_array(final: Any) -> None:
    table = rides().drop_columns("city")
    signature = Signature.of(table, (), "pandas", "classification", (0, 1))
    X = signature.to_frame(table).to_numpy(np.float64)
    labels = np.arange(table.num_rows) % 2
    model = final.fit(X, labels)
    answers = wrap_model(model, signature).predict(table)
    np.testing.assert_array_equal(answers.probabilities, model.predict_proba(X))


def test_importances_are_shares_by_column() -> None:
    shares = wrapped(LGBMClassifier(**SMALL), rides()).importance
    assert shares is not None
    assert list(shares) == ["warmth", "hour", "holiday", "city"]
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["warmth"] > shares["holiday"]
    assert wrapped(pipeline(RandomForestClassifier(2)), rides()).importance is None


# -- labels and probabilities --------------------------------------------------------------------------


def test_a_model_of_encoded_labels_is_refused() -> None:
    table = rides()
    signature = signature_of(table, ("no", "yes"))
    for model in (LGBMClassifier(**SMALL), pipeline(RandomForestClassifier(2))):
        fitted = model.fit(signature.to_frame(table), busy(table))
        with pytest.raises(PackageError, match=r"answers 0, but .* are 'no', 'yes'.*as it is"):
            wrap_model(fitted, signature)


def test_a_class_that_the_model_never_saw_has_no_column() -> None:
    table = rides()
    signature = signature_of(table, ("cold", "mild", "warm"))
    model = pipeline(RandomForestClassifier(2)).fit(signature.to_frame(table), busy(table, ("cold", "warm")))
    answers = wrap_model(model, signature).predict(table)
    assert answers.classes == ("cold", "warm")
    assert answers.probabilities is not None
    assert answers.probabilities.shape == (table.num_rows, 2)


def test_a_classifier_with_a_threshold_of_its_own_keeps_it() -> None:
    table = rides()
    signature = signature_of(table, (0, 1))
    X = signature.to_frame(table)
    model = FixedThresholdClassifier(pipeline(RandomForestClassifier(3, random_state=0)), threshold=0.9)
    model.fit(X, busy(table))
    loaded = wrap_model(model, signature).predict(table)
    assert loaded.probabilities is not None
    assert loaded.predicted.tolist() == model.predict(X).tolist()
    assert (loaded.predicted != loaded.probabilities.argmax(axis=1)).any()


@pytest.mark.parametrize("name", sorted(_ARGMAX_CLASSIFIERS))
def test_classifiers_asked_once_answer_the_most_probable_class(name: str) -> None:
    module, _, kind = name.rpartition(".")
    model = getattr(importlib.import_module(module), kind)()
    # Few whole numbers, so that there are many ties.
    X = np.random.default_rng(0).integers(0, 3, (60, 2))
    y = np.array(["a", "b", "c"])[np.arange(60) % 3]
    model.fit(X, y)
    expected = model.classes_[model.predict_proba(X).argmax(axis=1)]
    assert model.predict(X).tolist() == expected.tolist()


# -- rows that a model cannot take ---------------------------------------------------------------------


def test_an_unseen_category_is_named_with_the_mend_where_the_encoder_refuses_it() -> None:
    table = rides()
    asked = table.slice(0, 3).set_column(3, "city", pa.array(["Ulm", "Rom", "Ulm"]))
    model = wrapped(pipeline(LogisticRegression(max_iter=1000), handle_unknown="error"), table)
    with pytest.raises(DataError, match=r"'city' has 'Rom' in row 1.*handle_unknown='ignore'") as caught:
        model.predict(asked)
    assert (caught.value.column, caught.value.rows) == ("city", (1,))
    forgiving = wrapped(pipeline(LogisticRegression(max_iter=1000)), table)
    assert len(forgiving.predict(asked)) == 3


def test_a_value_missing_where_training_had_none_is_named_if_the_model_cannot_take_it() -> None:
    table = rides()
    asked = table.slice(0, 3).set_column(0, "warmth", pa.array([1.0, None, None]))
    model = wrapped(pipeline(LogisticRegression(max_iter=1000)), table)
    with pytest.raises(DataError, match=r"'warmth' has no value in rows 1, 2;.*SimpleImputer") as caught:
        model.predict(asked)
    assert (caught.value.column, caught.value.rows) == ("warmth", (1, 2))
    mended = wrapped(make_pipeline(encoder(), SimpleImputer(), LogisticRegression(max_iter=1000)), table)
    assert len(mended.predict(asked)) == 3


def test_an_infinite_value_is_named() -> None:
    table = rides()
    asked = table.slice(0, 3).set_column(0, "warmth", pa.array([1.0, 2.0, np.inf]))
    with pytest.raises(DataError, match="'warmth' is infinite in row 2"):
        wrapped(pipeline(LogisticRegression(max_iter=1000)), table).predict(asked)


def test_lightgbm_takes_what_is_missing_or_unseen_like_its_own_predict() -> None:
    table = rides(has_gaps=True)
    signature = signature_of(table)
    model = LGBMClassifier(**SMALL).fit(signature.to_frame(table), busy(table))
    asked = pa.table(
        {"warmth": [None, 1.0], "hour": [None, 3], "holiday": [None, True], "city": ["Rom", None]}
    )
    X = signature.to_frame(asked)
    answers = wrap_model(model, signature).predict(asked)
    np.testing.assert_array_equal(answers.probabilities, model.predict_proba(X.astype({"hour": float})))


# -- frames --------------------------------------------------------------------------------------------


def test_a_pipeline_fitted_on_polars_is_asked_with_polars() -> None:
    table = rides()
    signature = signature_of(table, frame="polars")
    X = signature.to_frame(table)
    model = pipeline(RandomForestClassifier(3, random_state=0)).fit(X, busy(table))
    loaded = wrap_model(model, signature)
    for asked in (table, table.to_pandas(), pl.from_arrow(table)):
        np.testing.assert_array_equal(loaded.predict(asked).probabilities, model.predict_proba(X))


@pytest.mark.parametrize("kind", ["polars", "pyarrow"])
def test_numbers_of_other_frames_reach_the_model(kind: Any) -> None:
    table = rides().drop_columns(["city"])
    signature = Signature.of(table, (), kind, "classification", (0, 1))
    for model in (LGBMClassifier(**SMALL), RandomForestClassifier(2, random_state=0)):
        model.fit(signature.to_frame(table), np.arange(table.num_rows) % 2)
        answers = wrap_model(model, signature).predict(table.to_pandas())
        expected = model.predict_proba(signature.to_frame(table))
        np.testing.assert_array_equal(answers.probabilities, expected)


def test_columns_chosen_by_type_are_the_same_ones_when_asked() -> None:
    table = rides()
    choose = ColumnTransformer(
        [
            ("words", OrdinalEncoder(), make_column_selector(dtype_include="category")),
            ("numbers", PCA(1), make_column_selector(dtype_include="number")),
        ]
    )
    model = make_pipeline(choose, RandomForestClassifier(2, random_state=0))
    assert len(wrapped(model, table).predict(table.slice(0, 5))) == 5


def test_threads_may_ask_at_once() -> None:
    table = rides()
    model = wrapped(LGBMClassifier(**SMALL), table)
    expected = model.predict(table)
    same: list[bool] = []
    threads = [
        threading.Thread(target=lambda: same.append(model.predict(table).is_same(expected))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert same == [True] * 8
