"""A registered version in the process of whoever loads it: what ``clew.load`` gives."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from clew.datasets import from_frame
from clew.errors import DataError, UsageError
from clew.registry import LoadedModel, Predictions, Signature


class ElsewhereModel:
    """A version in a process of the environment that it was made in; the process ends with this object."""

    def __init__(
        self, signature: Signature, answer: Callable[[pa.Table], Predictions], running: ExitStack
    ) -> None:
        self.signature, self._answer = signature, answer
        weakref.finalize(self, running.close)

    def predict(self, table: pa.Table) -> Predictions:
        """As :meth:`clew.registry.LoadedModel.predict`."""
        return self._answer(table)


@dataclass(frozen=True, slots=True, repr=False)
class ServedModel:
    """A registered version that answers in this process, as scikit-learn's models do.

    Attributes
    ----------
    name
        Model and version, such as ``busy_hour@7``.
    model, version
        The two apart: ``busy_hour`` and 7.
    """

    model: str
    version: int
    _model: LoadedModel | ElsewhereModel

    def __repr__(self) -> str:
        features = [column.name for column in self._model.signature.columns]
        told = ", ".join(map(repr, features[:8])) + (", …" if len(features) > 8 else "")
        answers = "numbers" if self.classes_ is None else f"one of {', '.join(map(repr, self.classes_[:8]))}"
        return f"<clew model {self.name}: answers {answers} from {len(features)} features: {told}>"

    @property
    def name(self) -> str:
        return f"{self.model}@{self.version}"

    @property
    def classes_(self) -> tuple[Any, ...] | None:
        """The class of each column of `predict_proba`; None for numbers."""
        return self._model.signature.classes

    def predict(self, frame: Any) -> np.ndarray:
        """Labels, or numbers, for the rows of a pandas or polars frame or a pyarrow table.

        Raises
        ------
        DataError
            When a feature is missing or of another kind than in training, naming column and rows.
        """
        return self._model.predict(_rows_of(frame)).predicted

    def predict_proba(self, frame: Any) -> np.ndarray:
        """Probabilities, shape ``(n_rows, n_classes)``.

        Raises
        ------
        UsageError
            When the model gives none.
        """
        probabilities = self._model.predict(_rows_of(frame)).probabilities
        if probabilities is None:
            raise UsageError(f"{self.name} answers without probabilities; ask predict().")
        return probabilities


def _rows_of(frame: Any) -> pa.Table:
    if not hasattr(frame, "columns"):
        one = "a row" if isinstance(frame, Mapping) else "a list of rows"
        row = "[row]" if isinstance(frame, Mapping) else "rows"
        raise DataError(
            f"predict() takes a frame with named columns, not {type(frame).__name__}. If it is {one}, make a"
            f" frame of it: pandas.DataFrame({row}), or pyarrow.Table.from_pylist({row})."
        )
    return from_frame(frame)
