"""What a model answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from clew.errors import PackageError


@dataclass(frozen=True, eq=False)
class Predictions:
    """Answers for rows, in their order.

    Attributes
    ----------
    predicted
        Shape ``(n_rows,)``: labels in the label's own type (strings as NumPy unicode), or float64.
    probabilities
        Shape ``(n_rows, n_classes)``; None for regression and for classifiers that offer none.
    classes
        The class of each column of `probabilities`; None for regression.
    """

    predicted: np.ndarray
    probabilities: np.ndarray | None = None
    classes: tuple[Any, ...] | None = None

    def __len__(self) -> int:
        return len(self.predicted)

    def is_same(self, other: Predictions) -> bool:
        """Whether every answer is the same to the last bit."""
        mine, theirs = self.probabilities, other.probabilities
        if self.classes != other.classes or (mine is None) != (theirs is None):
            return False
        is_near = mine is None or theirs is None or np.array_equal(mine, theirs, equal_nan=True)
        is_number = self.predicted.dtype.kind == "f"
        return is_near and np.array_equal(self.predicted, other.predicted, equal_nan=is_number)


def from_probabilities(probabilities: np.ndarray, classes: tuple[Any, ...]) -> Predictions:
    """The most probable class of each row; the first one of equals."""
    return Predictions(np.asarray(classes)[probabilities.argmax(axis=1)], probabilities, classes)


def from_numbers(given: Any) -> Predictions:
    """Numbers that a regression answered.

    Raises
    ------
    PackageError
        When a row has no number or several.
    """
    try:
        numbers = np.asarray(given, np.float64)
    except (TypeError, ValueError):
        answer = np.asarray(given).ravel()[:1].tolist()
        raise PackageError(
            f"The model answered {answer[0]!r}, which is no number. A model judged by rmse or mae answers"
            " numbers; for classes declare metric='accuracy' or metric='log_loss'."
        ) from None
    if numbers.ndim == 2 and numbers.shape[1] == 1:
        numbers = numbers[:, 0]
    if numbers.ndim != 1:
        raise PackageError(
            f"The model answered an array of shape {numbers.shape}; it has to answer one number for each row."
        )
    return Predictions(numbers)


def from_labels(given: Any, classes: Mapping[Any, Any]) -> Predictions:
    """Labels that a classifier answered, in the label's own type.

    Parameters
    ----------
    classes
        The label's values; each maps to itself. As ``1 == True == 1.0``, an answer that only differs in
        type becomes the label's.

    Raises
    ------
    PackageError
        When an answer is none of them.
    """
    answers = np.asarray(given).ravel().tolist()
    for answer in answers:
        if answer not in classes:
            raise strange_class(answer, classes)
    own = tuple(classes.values())
    return Predictions(np.asarray([classes[answer] for answer in answers], np.asarray(own).dtype), None, own)


def strange_class(answer: Any, classes: Mapping[Any, Any]) -> PackageError:
    known = ", ".join(map(repr, list(classes.values())[:8]))
    return PackageError(
        f"The model answers {answer!r}, but the label's values are {known}. Fit a classifier on train.y as"
        " it is; for numbers declare metric='rmse' or metric='mae'."
    )
