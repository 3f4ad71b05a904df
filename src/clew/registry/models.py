"""A model that answers: fitted just now or loaded from a package, asked in the same way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from clew.registry.flavors import lightgbm_text, onnx_file, skops_file, xgboost_file
from clew.registry.flavors.saved import SavedModel
from clew.registry.frames import Frame
from clew.registry.predictions import Predictions
from clew.registry.signature import Signature


class Answering(Protocol):
    """What every flavor's model can do."""

    @property
    def flavor(self) -> str: ...

    @property
    def signature(self) -> Signature: ...

    @property
    def importance(self) -> dict[str, float] | None: ...

    def answer(self, values: Mapping[str, pa.Array]) -> Predictions: ...

    def save(self, folder: Path, allow_code: bool) -> SavedModel: ...


@dataclass(frozen=True)
class LoadedModel:
    """A model and what it takes.

    Attributes
    ----------
    signature
        The columns that the model uses (it may have been fitted on some of the features), and its classes
        in the order of its probabilities.
    """

    engine: Answering = field(repr=False)

    @property
    def signature(self) -> Signature:
        return self.engine.signature

    @property
    def flavor(self) -> str:
        return self.engine.flavor

    @property
    def importance(self) -> dict[str, float] | None:
        """The share of each feature in what the model gained from all; None if the model does not say."""
        return self.engine.importance

    def predict(self, table: Frame) -> Predictions:
        """Answer for the rows of a pandas or polars frame or a pyarrow table, in their order.

        Other columns than the features are ignored. A category that training never had counts as missing.

        Raises
        ------
        DataError
            When a feature is missing, has values of another kind than in training, or has values that the
            model cannot take: the message names column, rows and values.
        PackageError
            When the model itself is at fault.
        """
        return self.engine.answer(self.signature.read(table))


def wrap_model(model: Any, signature: Signature) -> LoadedModel:
    """A freshly fitted model, with the answers that it will give after packaging.

    Raises
    ------
    PackageError
        When it cannot predict, is not fitted, or was fitted on other columns or labels than `signature`'s.
    """
    if lightgbm_text.is_lightgbm(model):
        return LoadedModel(lightgbm_text.wrap(model, signature))
    if xgboost_file.is_xgboost(model):
        return LoadedModel(xgboost_file.wrap(model, signature))
    if onnx_file.is_onnx(model):
        return LoadedModel(onnx_file.wrap(model, signature))
    return LoadedModel(skops_file.wrap(model, signature))
