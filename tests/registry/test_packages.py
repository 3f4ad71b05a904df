"""A package answers as the model did that was put into it, wherever it is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import (
    ExtraTreesClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from clew.registry import PackageInfo, Signature, load_package, save_package, wrap_model
from tests.registry.rides import busy, encoder, pipeline, rides, signature_of

pytestmark = pytest.mark.filterwarnings("ignore:X does not have valid feature names:UserWarning")

CLASSIFIERS: dict[str, Callable[[], Any]] = {
    "lightgbm": lambda: LGBMClassifier(n_estimators=5, verbose=-1),
    "lightgbm in a pipeline": lambda: pipeline(LGBMClassifier(n_estimators=5, verbose=-1)),
    "lightgbm, calibrated": lambda: CalibratedClassifierCV(LGBMClassifier(n_estimators=5, verbose=-1), cv=2),
    "forest": lambda: pipeline(RandomForestClassifier(5, max_depth=4, random_state=0)),
    "extra trees": lambda: pipeline(ExtraTreesClassifier(5, max_depth=4, random_state=0)),
    "boosted histograms": lambda: HistGradientBoostingClassifier(
        categorical_features="from_dtype", max_iter=5
    ),
    "logistic regression": lambda: make_pipeline(encoder(), StandardScaler(), LogisticRegression()),
    "calibrated": lambda: CalibratedClassifierCV(pipeline(RandomForestClassifier(3, max_depth=3)), cv=2),
}
REGRESSORS: dict[str, Callable[[], Any]] = {
    "lightgbm": lambda: LGBMRegressor(n_estimators=5, verbose=-1),
    "forest": lambda: pipeline(RandomForestRegressor(5, max_depth=4, random_state=0)),
    "boosted histograms": lambda: HistGradientBoostingRegressor(
        categorical_features="from_dtype", max_iter=5
    ),
}


def save(model: Any, folder: Path, signature: Signature, **more: Any) -> PackageInfo:
    return save_package(model, folder, signature=signature, example=rides(50, seed=9), **more)


@pytest.mark.parametrize(
    "classes", [(0, 1), (False, True), ("no", "yes"), ("cold", "mild", "warm"), (1, 2, 5)]
)
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_loaded_classifier_answers_like_the_model_itself(
    name: str, classes: tuple[Any, ...], tmp_path: Path
) -> None:
    table = rides()
    signature = signature_of(table, classes)
    X = signature.to_frame(table)
    model = CLASSIFIERS[name]().fit(X, busy(table, classes))
    info = save(model, tmp_path / "package", signature)
    loaded = load_package(tmp_path / "package", expected_digest=info.digest)
    answers = loaded.predict(table)
    assert answers.probabilities is not None
    assert np.abs(answers.probabilities - model.predict_proba(X)).max() <= 1e-12
    assert answers.predicted.tolist() == model.predict(X).tolist()
    assert [type(value) for value in answers.predicted.tolist()[:1]] == [type(classes[0])]
    assert answers.classes == classes
    assert answers.is_same(wrap_model(model, signature).predict(table))


@pytest.mark.parametrize("name", REGRESSORS)
def test_a_loaded_regressor_answers_like_the_model_itself(name: str, tmp_path: Path) -> None:
    table = rides()
    signature = signature_of(table, None)
    X = signature.to_frame(table)
    model = REGRESSORS[name]().fit(X, busy(table, np.linspace(0, 1, 30).tolist()))
    info = save(model, tmp_path / "package", signature)
    answers = load_package(tmp_path / "package", expected_digest=info.digest).predict(table)
    assert answers.probabilities is None
    assert answers.classes is None
    np.testing.assert_array_equal(answers.predicted, model.predict(X))
