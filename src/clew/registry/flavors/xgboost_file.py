"""XGBoost models as XGBoost's own binary JSON (UBJ).

Answers come from the Booster on a matrix of numbers, which gives what its scikit-learn wrapper gives on a
frame. A base margin is part of a table and not of a model: a model that was fitted with one is answered as
if there were none.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from clew.errors import MissingExtra, PackageError
from clew.registry.classes import own_classes
from clew.registry.flavors.fitted_columns import listing, other_columns
from clew.registry.flavors.saved import SavedModel
from clew.registry.frames import Frame
from clew.registry.predictions import Predictions, from_numbers, from_probabilities
from clew.registry.signature import Signature

NAME = "xgboost"
MODEL_FILE = "model.ubj"
_OWN_TYPES = {
    "xgboost.core.Booster",
    "xgboost.sklearn.XGBClassifier",
    "xgboost.sklearn.XGBRFClassifier",
    "xgboost.sklearn.XGBRFRegressor",
    "xgboost.sklearn.XGBRanker",
    "xgboost.sklearn.XGBRegressor",
}
PROBABILITY_OBJECTIVES = {"binary:logistic", "multi:softprob", "reg:logistic"}
# Answers are numbers of 32 bits, and the wrapper subtracts them from one as such.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class XGBoostModel:
    """A Booster that answers from columns.

    Attributes
    ----------
    signature
        The columns that the Booster uses, in its order; the levels are those it was fitted on.
    """

    booster: Any
    signature: Signature
    flavor: str = NAME

    def answer(self, values: Mapping[str, pa.Array]) -> Predictions:
        columns = self.signature.columns
        n_rows = len(values[columns[0].name])
        matrix = np.empty((n_rows, len(columns)))
        for position, column in enumerate(columns):
            matrix[:, position] = column.numbers(values[column.name])
        numbers = self._numbers(matrix) if n_rows else np.empty((0, self._n_outputs))
        classes = self.signature.classes
        if classes is None:
            return from_numbers(numbers)
        if numbers.shape[1] == 1:
            numbers = np.column_stack((1.0 - numbers, numbers))
        return from_probabilities(np.ascontiguousarray(numbers[:, : len(classes)]), classes)

    def _numbers(self, matrix: np.ndarray) -> np.ndarray:
        given = self.booster.inplace_predict(matrix, validate_features=False, strict_shape=True)
        return np.asarray(given, np.float64)

    @property
    def _n_outputs(self) -> int:
        return max(2, len(self.signature.classes)) if self.signature.classes else 1

    @property
    def importance(self) -> dict[str, float] | None:
        gain = self.booster.get_score(importance_type="total_gain")
        # A Booster without names calls its columns f0, f1, …
        names = self.booster.feature_names or [f"f{n}" for n in range(len(self.signature.names))]
        total = sum(gain.values())
        if not total > 0:
            return None
        shares = [float(gain.get(name, 0.0)) / total for name in names]
        return dict(zip(self.signature.names, shares, strict=True))

    def save(self, folder: Path, allow_code: bool) -> SavedModel:  # noqa: ARG002 - the file needs no code
        content = bytes(self.booster.save_raw("ubj"))
        (folder / MODEL_FILE).write_bytes(content)
        distribution = packages_distributions()["xgboost"][0]
        entry = {
            "data": MODEL_FILE,
            "model_class": "xgboost.core.Booster",
            "model_format": "ubj",
            "xgb_version": version(distribution),
        }
        return SavedModel(NAME, entry, hashlib.sha256(content).hexdigest(), (distribution, "numpy"))


def is_xgboost(model: object) -> bool:
    """Whether the file says all there is to `model`; a subclass, or a linear booster, goes to skops."""
    if f"{type(model).__module__}.{type(model).__qualname__}" not in _OWN_TYPES:
        return False
    return getattr(model, "booster", None) != "gblinear"


def wrap(model: Any, signature: Signature) -> XGBoostModel:
    """A fitted XGBoost model that answers as it will after packaging.

    Raises
    ------
    PackageError
        When it is not fitted, was fitted on other columns, or has an objective without probabilities.
    """
    booster = model if type(model).__name__ == "Booster" else _fitted_booster(model)
    about = json.loads(booster.save_config())["learner"]
    if about["gradient_booster"]["name"] == "gblinear":
        raise PackageError(
            "The Booster is linear (gblinear), which answers single rows too slowly. Use XGBClassifier or"
            " XGBRegressor with booster='gblinear', or a linear model of scikit-learn."
        )
    used = _used_columns(booster, signature)
    if signature.task == "regression":
        _refuse_other_than_one_number(model, about)
        return XGBoostModel(booster, replace(used, classes=None))
    objective = about["objective"]["name"]
    if objective not in PROBABILITY_OBJECTIVES:
        raise PackageError(
            f"The XGBoost model was fitted with the objective {objective!r}, whose answers are no"
            " probabilities of classes. Use XGBClassifier, or one of the objectives binary:logistic and"
            " multi:softprob; for numbers declare metric='rmse' or metric='mae'."
        )
    n_classes = max(2, int(about["learner_model_param"]["num_class"]))
    return XGBoostModel(booster, replace(used, classes=_classes(model, n_classes, signature)))


def check_same_answers(model: Any, wrapped: XGBoostModel, example: Frame) -> None:
    """Hold the fast path against the model's own on a few rows.

    Raises
    ------
    PackageError
        When they differ by more than rounding.
    """
    if type(model).__name__ == "Booster":
        return  # it answers for matrices, which is the fast path itself
    X = wrapped.signature.to_frame(example)
    own = np.asarray(model.predict_proba(X) if hasattr(model, "predict_proba") else model.predict(X))
    given = wrapped.answer(wrapped.signature.read(example))
    ours = given.predicted if given.probabilities is None else given.probabilities
    gaps = np.abs(own[..., : ours.shape[-1]].astype(np.float64) - ours)
    difference = float(np.max(gaps / np.maximum(1.0, np.abs(ours)), initial=0.0))
    if not difference <= _ROUNDING:
        raise PackageError(
            f"The XGBoost model answers differently on its own frame, by up to {difference:.3g}: it was"
            " fitted with a setting that only its Python wrapper knows. Return it inside a scikit-learn"
            " Pipeline."
        )


def load(folder: Path, signature: Signature) -> XGBoostModel:
    return XGBoostModel(read_booster((folder / MODEL_FILE).read_bytes()), signature)


def read_booster(content: bytes) -> Any:
    """A Booster from a file of XGBoost's, JSON or UBJ.

    Raises
    ------
    PackageError
        When XGBoost cannot read it.
    MissingExtra
        When XGBoost is not installed.
    """
    try:
        import xgboost
    except ImportError:
        raise MissingExtra("xgboost", "xgboost", "This model") from None
    booster = xgboost.Booster()
    try:
        booster.load_model(bytearray(content))
    except xgboost.core.XGBoostError as error:
        said = str(error).partition("\n")[0]
        raise PackageError(f"XGBoost {xgboost.__version__} cannot read the model: {said}") from None
    return booster


def _fitted_booster(model: Any) -> Any:
    if not model.__sklearn_is_fitted__():
        raise PackageError(f"The {type(model).__name__} is not fitted. Return model.fit(train.X, train.y).")
    missing = model.missing
    if missing is not None and not (isinstance(missing, float) and math.isnan(missing)):
        raise PackageError(
            f"The {type(model).__name__} takes {missing!r} for a missing value, which its file does not keep."
            " Let the dataset's function write nulls in its place, and leave missing= out."
        )
    booster = model.get_booster()
    # What the wrapper answers by after early stopping; the file itself holds the trees after these too.
    n_used = model._get_iteration_range(None)[1]
    return booster[:n_used] if 0 < n_used < booster.num_boosted_rounds() else booster


def _refuse_other_than_one_number(model: Any, about: Any) -> None:
    if hasattr(model, "predict_proba"):
        raise PackageError(
            f"The model is a {type(model).__name__}, but the metric measures numbers. Return an XGBRegressor,"
            " or declare metric='accuracy' or metric='log_loss'."
        )
    learner = about["learner_model_param"]
    n_outputs = max(int(learner["num_class"]), int(learner["num_target"]))
    if n_outputs > 1:
        raise PackageError(f"The XGBoost model answers {n_outputs} numbers a row; it has to answer one.")


def _used_columns(booster: Any, signature: Signature) -> Signature:
    """The columns that the Booster knows, with the levels that it was fitted on."""
    names = booster.feature_names
    if names is None:
        if booster.num_features() != len(signature.names):
            raise other_columns("XGBoost", f"{booster.num_features()} columns without names", signature)
        names = list(signature.names)
    if not set(names) <= set(signature.names):
        raise other_columns("XGBoost", listing(names), signature)
    used = signature.only(names)
    types = booster.feature_types or [""] * len(names)
    fitted = {name for name, kind in zip(names, types, strict=True) if kind == "c"}
    categorical = {column.name for column in used.columns if column.levels is not None}
    if fitted != categorical:
        raise PackageError(
            f"The XGBoost model was fitted with the categorical columns {listing(sorted(fitted))}, but those"
            f" of the features are {listing(sorted(categorical))}. Fit it on train.X as it is, with"
            " enable_categorical=True; or encode categories inside a scikit-learn Pipeline."
        )
    levels = dict(booster.get_categories(export_to_arrow=True).to_arrow())
    known = {name: tuple(given.to_pylist()) for name, given in levels.items() if given is not None}
    columns = (replace(column, levels=known.get(column.name, column.levels)) for column in used.columns)
    return replace(used, columns=tuple(columns))


def _classes(model: Any, n_classes: int, signature: Signature) -> tuple[Any, ...]:
    codes = tuple(range(n_classes))
    if hasattr(model, "classes_"):
        given = tuple(np.asarray(model.classes_).tolist())
        if all(value in (signature.classes or given) for value in given):
            return own_classes(given, signature)
        codes = given
    elif signature.classes is None or tuple(signature.classes) == codes:
        return signature.classes or codes
    raise PackageError(
        f"The model answers for the classes {listing(codes)}, and does not know which of the labels"
        f" {listing(signature.classes)} they are: XGBoost takes only 0, 1, 2, … for labels. Let the dataset's"
        " function write the label as such a number."
    )
