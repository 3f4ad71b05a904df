"""A registered version in the process of whoever loads it: what ``clew.load`` gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from clew.datasets import from_frame
from clew.errors import UsageError
from clew.registry import LoadedModel
from clew.registry.thresholds import Cut


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A registered version that answers in this process, as scikit-learn's models do.

    Attributes
    ----------
    name
        The version, such as ``busy_hour@7``.
    """

    name: str
    _model: LoadedModel
    _cut: Cut | None = None

    @property
    def classes_(self) -> tuple[Any, ...] | None:
        """The class of each column of `predict_proba`; None for numbers."""
        return self._model.signature.classes

    def predict(self, frame: Any) -> np.ndarray:
        """Labels, or numbers, for the rows of a pandas or polars frame or a pyarrow table.

        The decision threshold is the one that was in force when the version was loaded.

        Raises
        ------
        DataError
            When a feature is missing or of another kind than in training, naming column and rows.
        """
        answers = self._model.predict(from_frame(frame))
        return (answers if self._cut is None else self._cut.applied(answers)).predicted

    def predict_proba(self, frame: Any) -> np.ndarray:
        """Probabilities, shape ``(n_rows, n_classes)``.

        Raises
        ------
        UsageError
            When the model gives none.
        """
        probabilities = self._model.predict(from_frame(frame)).probabilities
        if probabilities is None:
            raise UsageError(f"{self.name} answers without probabilities; ask predict().")
        return probabilities
