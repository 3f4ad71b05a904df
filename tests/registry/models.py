"""Models of every flavor, fitted on the small table of rides: whoever adds a flavor adds a line here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from xgboost import XGBClassifier, XGBRegressor

from clew.registry import Signature
from tests.registry.rides import busy, pipeline, rides, signature_of

Fit = Callable[[Signature, pa.Table, np.ndarray], Any]

XGB: dict[str, Any] = {"n_estimators": 5, "n_jobs": 1, "enable_categorical": True}
LGB: dict[str, Any] = {"n_estimators": 5, "n_jobs": 1, "verbose": -1}


def _fit_of(make: Callable[[], Any]) -> Fit:
    return lambda signature, table, labels: make().fit(signature.to_frame(table), labels)


def as_onnx(model: Any, signature: Signature, **options: Any) -> Any:
    """The graph of a scikit-learn model, with an input for each column."""
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import (
        BooleanTensorType,
        DoubleTensorType,
        Int64TensorType,
        StringTensorType,
    )

    kinds = {"double": DoubleTensorType, "int64": Int64TensorType, "bool": BooleanTensorType}
    inputs = [
        (column.name, kinds.get(column.type, StringTensorType)([None, 1])) for column in signature.columns
    ]
    # A name of its own, as the converter would give it a random one.
    return convert_sklearn(model, "rides", initial_types=inputs, options=options or None)


def _onnx(final: Callable[[], Any]) -> Fit:
    def fit(signature: Signature, table: pa.Table, labels: np.ndarray) -> Any:
        return as_onnx(pipeline(final()).fit(signature.to_frame(table), labels), signature)

    return fit


CLASSIFIERS: dict[str, Fit] = {
    "lightgbm": _fit_of(lambda: LGBMClassifier(**LGB)),
    "xgboost": _fit_of(lambda: XGBClassifier(**XGB)),
    "skops": _fit_of(lambda: pipeline(RandomForestClassifier(5, max_depth=4, random_state=0))),
    "onnx": _onnx(lambda: RandomForestClassifier(5, max_depth=4, random_state=0)),
}
REGRESSORS: dict[str, Fit] = {
    "lightgbm": _fit_of(lambda: LGBMRegressor(**LGB)),
    "xgboost": _fit_of(lambda: XGBRegressor(**XGB)),
    "skops": _fit_of(lambda: pipeline(RandomForestRegressor(5, max_depth=4, random_state=0))),
    "onnx": _onnx(lambda: RandomForestRegressor(5, max_depth=4, random_state=0)),
}


def fitted(
    flavor: str, classes: Sequence[Any] | None, *, has_gaps: bool = False
) -> tuple[Any, pa.Table, Signature]:
    """A model of a flavor, its rows, and their signature; with gaps where such a model takes them."""
    table = rides(has_gaps=has_gaps and flavor in ("lightgbm", "xgboost"))
    signature = signature_of(table, classes)
    labels = np.arange(table.num_rows) / 7 if classes is None else busy(table, classes)
    fit = (REGRESSORS if classes is None else CLASSIFIERS)[flavor]
    return fit(signature, table, labels), table, signature
