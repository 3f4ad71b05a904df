"""LightGBM models as LightGBM's own text.

Answers come from the Booster on a matrix of numbers, which is many times faster than its scikit-learn
wrapper on a frame and gives the same numbers.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
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

NAME = "lightgbm"
MODEL_FILE = "model.lgb"
_OWN_TYPES = {
    "lightgbm.basic.Booster",
    "lightgbm.sklearn.LGBMClassifier",
    "lightgbm.sklearn.LGBMRegressor",
    "lightgbm.sklearn.LGBMRanker",
}
PROBABILITY_OBJECTIVES = {"binary", "multiclass", "multiclassova", "cross_entropy"}
# Settings that change what the scikit-learn wrapper answers and that the text does not carry.
_PREDICT_SETTINGS = {"start_iteration_predict", "num_iteration_predict", "pred_early_stop"}


@dataclass(frozen=True)
class LightGBMModel:
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
        numbers = self.booster.predict(matrix) if n_rows else np.empty(self._empty_shape())
        classes = self.signature.classes
        if classes is None:
            return from_numbers(numbers)
        if numbers.ndim == 1:
            numbers = np.column_stack((1.0 - numbers, numbers))
        # A model that saw one class only has a second column that no class belongs to.
        return from_probabilities(np.ascontiguousarray(numbers[:, : len(classes)]), classes)

    def _empty_shape(self) -> tuple[int, ...]:
        n_outputs = self.booster.num_model_per_iteration()
        return (0, n_outputs) if n_outputs > 1 else (0,)

    @property
    def importance(self) -> dict[str, float] | None:
        gain = self.booster.feature_importance("gain")
        total = gain.sum()
        return dict(zip(self.signature.names, (gain / total).tolist(), strict=True)) if total > 0 else None

    def save(self, folder: Path, allow_code: bool) -> SavedModel:  # noqa: ARG002 - the text needs no code
        content = self.booster.model_to_string().encode()
        (folder / MODEL_FILE).write_bytes(content)
        entry = {
            "data": MODEL_FILE,
            "lgb_version": version("lightgbm"),
            "model_class": "lightgbm.basic.Booster",
            "objective": objective_of(self.booster),
        }
        return SavedModel(NAME, entry, hashlib.sha256(content).hexdigest(), ("lightgbm", "numpy"))


def is_lightgbm(model: object) -> bool:
    """Whether the text says all there is to `model`; a subclass or a special setting goes to skops."""
    if f"{type(model).__module__}.{type(model).__qualname__}" not in _OWN_TYPES:
        return False
    settings = model.get_params() if hasattr(model, "get_params") else {}
    return not (_PREDICT_SETTINGS & settings.keys())


def wrap(model: Any, signature: Signature) -> LightGBMModel:
    """A fitted LightGBM model that answers as it will after packaging.

    Raises
    ------
    PackageError
        When it is not fitted, was fitted on other columns, or has an objective without probabilities.
    """
    booster = model if type(model).__name__ == "Booster" else _fitted_booster(model)
    used = _used_columns(booster, signature)
    if signature.task == "regression":
        _refuse_classifier(model)
        return LightGBMModel(booster, replace(used, classes=None))
    objective = objective_of(booster)
    if objective not in PROBABILITY_OBJECTIVES:
        raise PackageError(
            f"The LightGBM model was fitted with the objective {objective!r}, whose answers are no"
            " probabilities of classes. Use LGBMClassifier, or one of the objectives binary, multiclass and"
            " multiclassova; for numbers declare metric='rmse' or metric='mae'."
        )
    return LightGBMModel(booster, replace(used, classes=_classes(model, booster, signature)))


def check_same_answers(model: Any, wrapped: LightGBMModel, example: Frame) -> None:
    """Hold the fast path against the model's own on a few rows.

    Raises
    ------
    PackageError
        When they differ by more than rounding.
    """
    X = wrapped.signature.to_frame(example)
    own = np.asarray(model.predict_proba(X) if hasattr(model, "predict_proba") else model.predict(X))
    given = wrapped.answer(wrapped.signature.read(example))
    ours = given.predicted if given.probabilities is None else given.probabilities
    own = np.column_stack((1.0 - own, own)) if own.ndim < ours.ndim else own[..., : ours.shape[-1]]
    difference = float(np.max(np.abs(own - ours), initial=0.0))
    if difference > 1e-12:
        raise PackageError(
            f"The LightGBM model answers differently on its own frame, by up to {difference:.3g}: it was"
            " fitted with a setting that only its Python wrapper knows. Return it inside a scikit-learn"
            " Pipeline."
        )


def load(folder: Path, signature: Signature) -> LightGBMModel:
    try:
        import lightgbm
    except ImportError:
        raise MissingExtra("lightgbm", "lightgbm", "This model") from None
    text = (folder / MODEL_FILE).read_text(encoding="utf-8")
    try:
        booster = lightgbm.Booster(model_str=text)
    except lightgbm.basic.LightGBMError as error:
        raise PackageError(f"LightGBM {lightgbm.__version__} cannot read the model: {error}") from None
    return LightGBMModel(booster, signature)


def objective_of(booster: Any) -> str:
    """The objective's name as the text has it; ``"custom"`` for a function of the user's own.

    The text is asked and not the parameters, because these say what was requested, under many aliases.
    """
    found = re.search(r"^objective=(\S+)", booster.model_to_string(num_iteration=1), re.MULTILINE)
    return found[1] if found and found[1] != "none" else "custom"


def _fitted_booster(model: Any) -> Any:
    booster = getattr(model, "_Booster", None)
    if booster is None:
        raise PackageError(f"The {type(model).__name__} is not fitted. Return model.fit(train.X, train.y).")
    return booster


def _refuse_classifier(model: Any) -> None:
    if hasattr(model, "classes_"):
        raise PackageError(
            f"The model is a {type(model).__name__}, but the metric measures numbers. Return an"
            " LGBMRegressor, or declare metric='accuracy' or metric='log_loss'."
        )


def _used_columns(booster: Any, signature: Signature) -> Signature:
    """The columns that the Booster knows, with the levels that it was fitted on."""
    # LightGBM writes blanks in names as underscores.
    known = {name.replace(" ", "_"): name for name in signature.names}
    names = [known.get(name) for name in booster.feature_name()]
    if None in names:
        n_columns = booster.num_feature()
        is_nameless = all(re.fullmatch(r"Column_\d+", name) for name in booster.feature_name())
        if not is_nameless or n_columns != len(signature.names):
            raise other_columns("LightGBM", listing(booster.feature_name()), signature)
        names = list(signature.names)
    return _with_levels(
        signature.only([name for name in names if name is not None]), booster.pandas_categorical
    )


def _with_levels(used: Signature, levels: list[list[Any]] | None) -> Signature:
    categorical = [column.name for column in used.columns if column.levels is not None]
    if len(categorical) != len(levels or ()):
        raise PackageError(
            f"The LightGBM model was fitted with {len(levels or ())} categorical columns, but the features"
            f" have {len(categorical)}: {listing(categorical)}. Fit it on train.X as it is, in pandas"
            " (frame='pandas'); or encode categories inside a scikit-learn Pipeline."
        )
    fitted = dict(zip(categorical, map(tuple, levels or ()), strict=True))
    columns = (replace(column, levels=fitted.get(column.name, column.levels)) for column in used.columns)
    return replace(used, columns=tuple(columns))


def _classes(model: Any, booster: Any, signature: Signature) -> tuple[Any, ...]:
    if hasattr(model, "classes_"):
        return own_classes(model.classes_, signature)
    n_classes = max(2, booster.num_model_per_iteration())
    codes = tuple(range(n_classes))
    if signature.classes is None or tuple(signature.classes) == codes:
        return signature.classes or codes
    raise PackageError(
        f"The model is {'a Booster' if type(model).__name__ == 'Booster' else 'an ' + type(model).__name__},"
        f" which answers for the classes {listing(codes)} and does not know which of the labels"
        f" {listing(signature.classes)} they are. Use LGBMClassifier, which keeps them."
    )
