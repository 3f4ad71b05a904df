"""scikit-learn models, and the project's own classes, as skops files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from clew.errors import MissingExtra, PackageError
from clew.registry.classes import label_values, own_classes
from clew.registry.flavors.faults import explain
from clew.registry.flavors.saved import SavedModel
from clew.registry.flavors.skops_canonical import canonical_skops, content_of
from clew.registry.flavors.trust import CODE, PYTHON, check_saveable, origins
from clew.registry.frames import Frame, build_frame
from clew.registry.predictions import Predictions, from_labels, from_numbers, from_probabilities
from clew.registry.signature import Signature

NAME = "skops"
MODEL_FILE = "model.skops"
# Classifiers whose predict() is the argmax of their own predict_proba(): asking twice would double the cost.
_ARGMAX_CLASSIFIERS = {
    "lightgbm.sklearn.LGBMClassifier",
    "sklearn.calibration.CalibratedClassifierCV",
    "sklearn.ensemble._forest.ExtraTreesClassifier",
    "sklearn.ensemble._forest.RandomForestClassifier",
}


@dataclass(frozen=True)
class SkopsModel:
    """A model with ``predict`` that answers from columns.

    Attributes
    ----------
    takes_matrix
        Whether it was fitted on an array, so that it is asked with one.
    is_argmax
        Whether its labels follow from its probabilities.
    """

    model: Any
    signature: Signature
    takes_matrix: bool = False
    is_argmax: bool = False
    flavor: str = NAME

    def answer(self, values: Mapping[str, pa.Array]) -> Predictions:
        columns = self.signature.columns
        n_rows = len(values[columns[0].name])
        if n_rows == 0:
            return self._no_answers()
        frame = build_frame(columns, values, self.signature.frame)
        try:
            return self._ask(frame.to_numpy() if self.takes_matrix else frame)
        except PackageError:
            raise
        except Exception as error:
            raise explain(error, columns, values) from error

    def _ask(self, X: Frame) -> Predictions:
        if self.signature.task == "regression":
            return from_numbers(self.model.predict(X))
        if self.signature.classes is None or not hasattr(self.model, "predict_proba"):
            return from_labels(self.model.predict(X), label_values(self.signature))
        probabilities = _probabilities(self.model.predict_proba(X), self.signature.classes)
        answers = from_probabilities(probabilities, self.signature.classes)
        if self.is_argmax:
            return answers
        labels = from_labels(self.model.predict(X), label_values(self.signature))
        return replace(answers, predicted=labels.predicted)

    def _no_answers(self) -> Predictions:
        classes = self.signature.classes
        if classes is None:
            return Predictions(np.empty(0))
        has_probabilities = hasattr(self.model, "predict_proba")
        return Predictions(
            np.asarray(classes)[:0], np.empty((0, len(classes))) if has_probabilities else None, classes
        )

    @property
    def importance(self) -> dict[str, float] | None:
        given = getattr(self.model, "feature_importances_", None)
        names = self.signature.names
        if given is None or len(given) != len(names):
            return None
        total = float(np.sum(given))
        return dict(zip(names, (np.asarray(given) / total).tolist(), strict=True)) if total > 0 else None

    def save(self, folder: Path, allow_code: bool) -> SavedModel:
        """Write the model.

        Raises
        ------
        PackageError
            When skops cannot store it, or it needs the project's own code and may not.
        """
        skops_io = _skops_io()
        content = canonical_skops(dump(self.model))
        trusted = origins(skops_io.get_untrusted_types(data=content))
        check_saveable(trusted, allow_code)
        (folder / MODEL_FILE).write_bytes(content)
        entry = {
            "pickled_model": MODEL_FILE,
            "serialization_format": NAME,
            "skops_trusted_types": sorted(trusted),
            "sklearn_version": version("scikit-learn"),
            "model_class": _full_name(self.model),
        }
        needed = {"numpy", "scikit-learn", "skops"} | set(trusted.values()) - {PYTHON, CODE}
        return SavedModel("sklearn", entry, _content_digest(content), tuple(sorted(needed)), trusted)


def wrap(model: Any, signature: Signature) -> SkopsModel:
    """A fitted model that answers as it will after packaging.

    Raises
    ------
    PackageError
        When it cannot predict, was fitted on other columns or on something else than the label.
    """
    _require_predict(model)
    names = _fitted_names(model, signature)
    used = signature.only(names) if names is not None else signature
    takes_matrix = names is None and hasattr(model, "n_features_in_") and signature.frame == "pandas"
    return SkopsModel(
        model, replace(used, classes=_classes(model, signature)), takes_matrix, _is_argmax(model)
    )


def dump(model: Any) -> bytes:
    """skops's bytes of a model, before they are made the same for the same model."""
    skops_io = _skops_io()
    try:
        return bytes(skops_io.dumps(model))
    # skops walks through every attribute, and each of them can refuse in its own way.
    except Exception as error:
        raise PackageError(
            f"A model of type {_full_name(model)} cannot be stored: {type(error).__name__}: {error} Clew"
            " stores LightGBM and scikit-learn models, pipelines of them, and classes of the project"
            " (allow_code=True) whose attributes are numbers, strings, lists, dicts and NumPy arrays. Keep"
            " pandas objects, locks and open files out of the model's attributes."
        ) from error


def load(folder: Path, signature: Signature, trusted: list[str]) -> SkopsModel:
    """Read a model back; nothing but `trusted` and what skops trusts by itself comes to life.

    Raises
    ------
    PackageError
        When the file holds other types, or this scikit-learn cannot read it.
    """
    skops_io = _skops_io()
    from skops.io.exceptions import UntrustedTypesFoundException

    try:
        model = skops_io.load(folder / MODEL_FILE, trusted=trusted)
    except UntrustedTypesFoundException as error:
        raise PackageError(
            f"The package holds types that it does not declare, so it was not loaded: {error}"
        ) from None
    # Reading runs the setters of every class in the file, and each of them can fail in its own way.
    except Exception as error:
        raise PackageError(
            f"The model cannot be read with what is installed here: {type(error).__name__}: {error}"
        ) from error
    return wrap(model, signature)


def _content_digest(data: bytes) -> str:
    digest = hashlib.sha256()
    for name, content in content_of(data):
        digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _skops_io() -> Any:
    try:
        import skops.io  # an extra: imports scikit-learn
    except ImportError:
        raise MissingExtra("skops", "sklearn", "A scikit-learn model") from None
    return skops.io


def _require_predict(model: Any) -> None:
    if not callable(getattr(model, "predict", None)) or isinstance(model, type):
        what = f"the class {model.__name__} itself" if isinstance(model, type) else f"a {_full_name(model)}"
        raise PackageError(
            f"The function returned {what}, which cannot predict. Return a fitted LightGBM or scikit-learn"
            " model, or an object of a class of your own with fit and predict, and write allow_code=True in"
            " @clew.model."
        )


def _fitted_names(model: Any, signature: Signature) -> list[str] | None:
    """The columns by name, in the order of the fit; None when the model was not fitted on named columns."""
    names = getattr(model, "feature_names_in_", None)
    if names is None:
        return None
    strange = [str(name) for name in names if name not in signature.names]
    if strange:
        raise PackageError(
            f"The model was fitted on column {strange[0]!r}, which is no feature. The features are"
            f" {', '.join(signature.names)}. Fit it on columns of train.X; a transformation that is needed"
            " to predict belongs into a scikit-learn Pipeline."
        )
    return [str(name) for name in names]


def _classes(model: Any, signature: Signature) -> tuple[Any, ...] | None:
    given = getattr(model, "classes_", None)
    if signature.task == "regression":
        if given is not None:
            raise PackageError(
                f"The model is a {type(model).__name__}, which answers classes, but the metric measures"
                " numbers. Return a regressor, or declare metric='accuracy' or metric='log_loss'."
            )
        return None
    if given is not None:
        return own_classes(given, signature)
    if hasattr(model, "predict_proba"):
        raise PackageError(
            f"{_full_name(model)} has predict_proba, but no classes_ to say which column is which class. Set"
            " self.classes_ in fit, for example to numpy.unique(y)."
        )
    return signature.classes


def _probabilities(given: Any, classes: tuple[Any, ...]) -> np.ndarray:
    probabilities = np.asarray(given, np.float64)
    if probabilities.ndim != 2 or probabilities.shape[1] != len(classes):
        raise PackageError(
            f"predict_proba answered an array of shape {probabilities.shape}; with {len(classes)} classes it"
            f" has to have {len(classes)} columns."
        )
    return np.ascontiguousarray(probabilities)


def _is_argmax(model: Any) -> bool:
    final = model.steps[-1][1] if _full_name(model) == "sklearn.pipeline.Pipeline" else model
    return _full_name(final) in _ARGMAX_CLASSIFIERS


def _full_name(model: Any) -> str:
    return f"{type(model).__module__}.{type(model).__qualname__}"
