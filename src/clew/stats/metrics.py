"""Metrics as a loss for each row, so that a gate, a monitor and a report measure the same thing.

A metric here is a function of the *mean row loss*: accuracy is one minus it, rmse its square root.
Everything sequential works on the row losses; only what people read is turned into the metric's unit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from clew.entities import Task
from clew.errors import did_you_mean
from clew.stats.arrays import AnyArray, FloatArray, finite_rows, same_length

PROBABILITY_FLOOR = float(np.finfo(np.float64).eps)
"""Probabilities count as at least this in log loss, as in scikit-learn: being sure and wrong costs 36."""

BOUNDED_PROBABILITY_FLOOR = 0.01
"""In the bounded tests a probability counts as at least this: a wider range would drown ordinary losses."""

BOUND_QUANTILE = 0.99
"""Errors of a regression are winsorised at twice this quantile of the reference's absolute errors."""

Answers = FloatArray | AnyArray | None
RowLosses = Callable[[AnyArray, Answers, FloatArray | None, tuple[object, ...]], FloatArray]


def _itself(value: float) -> float:
    return value


def _one_minus(value: float) -> float:
    return 1 - value


def _square(value: float) -> float:
    return value**2


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric that is a function of the mean of one loss for each row.

    Attributes
    ----------
    name
        As in a declaration: ``accuracy``, ``log_loss``, ``brier_score``, ``rmse``, ``mae``.
    greater_is_better
        True for accuracy only. Row losses are always better when smaller.
    task
        The kind of model it can judge.
    needs_probabilities
        True when `row_losses` reads `probabilities` and not `predicted`.

    Examples
    --------
    >>> accuracy = metric_named("accuracy")
    >>> losses = accuracy.row_losses(["yes", "no", "no"], predicted=["yes", "no", "yes"])
    >>> losses
    array([0., 0., 1.])
    >>> round(accuracy.value(losses), 3)
    0.667
    """

    name: str
    greater_is_better: bool
    task: Task
    needs_probabilities: bool
    _row_losses: RowLosses
    _value_of_loss: Callable[[float], float]
    _loss_of_value: Callable[[float], float]
    _bound: Callable[[FloatArray], float]

    def row_losses(
        self,
        y: npt.ArrayLike,
        predicted: npt.ArrayLike | None = None,
        probabilities: npt.ArrayLike | None = None,
        classes: Sequence[object] | npt.NDArray[np.generic] = (),
    ) -> FloatArray:
        """Loss of each row, shape ``(n,)``, at least 0.

        Parameters
        ----------
        y
            The true classes or numbers, shape ``(n,)``. A missing one is refused: an unknown label is no
            class.
        predicted
            The answers, shape ``(n,)``; read by ``accuracy``, ``rmse`` and ``mae``.
        probabilities
            Shape ``(n, n_classes)``, rows summing to 1; read by ``log_loss`` and ``brier_score``.
        classes
            The class of each column of `probabilities`.

        Raises
        ------
        ValueError
            If a value is missing (the row is named), lengths differ, a label is not among `classes`,
            or what the metric reads was not given.
        """
        truth = _as_rows("y", y)
        answers = None if predicted is None else _as_rows("predicted", predicted)
        shares = None if probabilities is None else np.asarray(probabilities, dtype=np.float64)
        if (shares if self.needs_probabilities else answers) is None:
            missing = "probabilities" if self.needs_probabilities else "predicted"
            raise ValueError(f"{self.name} is measured on {missing}, which were not given")
        known = tuple(classes.tolist() if isinstance(classes, np.ndarray) else classes)
        return self._row_losses(truth, answers, shares, known)

    def value(self, losses: npt.ArrayLike) -> float:
        """The metric over these rows; raises ValueError when there are none."""
        rows = finite_rows("losses", losses)
        if not len(rows):
            raise ValueError(f"{self.name} of no rows is not defined; ask for it once a label is there")
        return self._value_of_loss(float(rows.mean()))

    def value_of_loss(self, mean_loss: float) -> float:
        """The metric when the mean row loss is this: turns limits of an interval into the metric's unit."""
        return self._value_of_loss(mean_loss)

    def loss_of_value(self, value: float) -> float:
        """The mean row loss at this value of the metric.

        Examples
        --------
        >>> round(metric_named("accuracy").loss_of_value(0.9), 9), metric_named("rmse").loss_of_value(3.0)
        (0.1, 9.0)
        """
        return self._loss_of_value(value)

    def loss_margin(self, level_value: float, margin: float) -> float:
        """How much the mean row loss grows when the metric gets worse by `margin` from `level_value`.

        Examples
        --------
        >>> metric_named("rmse").loss_margin(3.0, 0.5)  # 3.5² - 3.0²
        3.25
        """
        if margin < 0:
            raise ValueError(f"margin is {margin}; it must be at least 0")
        worse = level_value - margin if self.greater_is_better else level_value + margin
        return self._loss_of_value(worse) - self._loss_of_value(level_value)

    def loss_bound(self, reference_losses: npt.ArrayLike) -> float:
        """The loss at which rows are winsorised before a bounded test divides by it; above 0.

        1 for accuracy and the Brier score; ``-log(0.01)`` for log loss; for mae twice and for rmse four
        times (twice the error, squared) the 99 % quantile of the reference losses, so that one absurd row
        weighs no more than a bad one.

        Raises
        ------
        ValueError
            If a bound must be read from the reference and the reference has no rows.
        """
        return self._bound(finite_rows("reference_losses", reference_losses))


def metric_named(name: str) -> Metric:
    """The metric of this name.

    Examples
    --------
    >>> metric_named("logloss")
    Traceback (most recent call last):
    ValueError: there is no metric 'logloss'. Did you mean 'log_loss'?
    """
    if name not in METRICS:
        raise ValueError(f"there is no metric {name!r}. {did_you_mean(name, METRICS)}")
    return METRICS[name]


def _as_rows(name: str, values: npt.ArrayLike) -> AnyArray:
    rows = np.asarray(values)
    if rows.ndim != 1:
        raise ValueError(f"{name} has shape {rows.shape}; one value a row is needed, shape (n,)")
    missing = _missing(rows)
    if missing.any():
        i = int(np.argmax(missing))
        raise ValueError(f"{name}: row {i} is {rows[i]}; only rows with a known value can be measured")
    return rows


def _missing(rows: AnyArray) -> npt.NDArray[np.bool_]:
    if rows.dtype.kind == "f":
        return np.isnan(rows.astype(np.float64))
    if rows.dtype.kind != "O":
        return np.zeros(len(rows), dtype=np.bool_)
    return np.fromiter((v is None or v != v for v in rows.tolist()), dtype=np.bool_, count=len(rows))


def _wrong_class(y: AnyArray, predicted: Answers, _: FloatArray | None, __: tuple[object, ...]) -> FloatArray:
    assert predicted is not None  # noqa: S101 - row_losses has refused it
    same_length(y=y, predicted=predicted)
    if len(y) and isinstance(y[0], str) != isinstance(predicted[0], str):
        # Compared as they are, text and numbers would differ in every row: an accuracy of 0 that nobody
        # meant.
        raise ValueError(
            f"y holds {y[0]!r} but predicted holds {predicted[0]!r}; give both as text or as numbers"
        )
    return np.asarray(y != predicted, dtype=np.float64)


def _error(y: AnyArray, predicted: Answers) -> FloatArray:
    assert predicted is not None  # noqa: S101 - row_losses has refused it
    same_length(y=y, predicted=predicted)
    return finite_rows("y", y) - finite_rows("predicted", predicted)


def _absolute_error(
    y: AnyArray, predicted: Answers, _: FloatArray | None, __: tuple[object, ...]
) -> FloatArray:
    return np.abs(_error(y, predicted))


def _squared_error(
    y: AnyArray, predicted: Answers, _: FloatArray | None, __: tuple[object, ...]
) -> FloatArray:
    return _error(y, predicted) ** 2


def _surprise(
    y: AnyArray, _: Answers, probabilities: FloatArray | None, classes: tuple[object, ...]
) -> FloatArray:
    shares, truth = _checked_probabilities(y, probabilities, classes)
    return -np.log(np.clip(shares[np.arange(len(y)), truth], PROBABILITY_FLOOR, 1.0))


def _halved_brier(
    y: AnyArray, _: Answers, probabilities: FloatArray | None, classes: tuple[object, ...]
) -> FloatArray:
    """Half of Brier's sum of squares, 0 to 1: for two classes the square that scikit-learn gives."""
    shares, truth = _checked_probabilities(y, probabilities, classes)
    of_truth = shares[np.arange(len(y)), truth]
    return np.asarray(((shares**2).sum(axis=1) - 2 * of_truth + 1) / 2, dtype=np.float64)


def _checked_probabilities(
    y: AnyArray, probabilities: FloatArray | None, classes: tuple[object, ...]
) -> tuple[FloatArray, npt.NDArray[np.intp]]:
    assert probabilities is not None  # noqa: S101 - row_losses has refused it
    if probabilities.shape != (len(y), len(classes)):
        raise ValueError(
            f"probabilities have shape {probabilities.shape}; {len(y)} labels and {len(classes)} classes need"
            f" ({len(y)}, {len(classes)})"
        )
    wrong = ~((probabilities >= 0) & (probabilities <= 1)).all(axis=1)
    wrong |= ~(np.abs(probabilities.sum(axis=1) - 1) < 1e-3)
    if wrong.any():
        i = int(np.argmax(wrong))
        raise ValueError(
            f"probabilities: row {i} is {probabilities[i].tolist()}; it must lie in 0 to 1 and sum to 1"
        )
    return probabilities, _class_index(y, classes)


def _class_index(y: AnyArray, classes: tuple[object, ...]) -> npt.NDArray[np.intp]:
    place = {name: i for i, name in enumerate(classes)}
    index = np.fromiter((place.get(label, -1) for label in y.tolist()), dtype=np.intp, count=len(y))
    if (index < 0).any():
        i = int(np.argmax(index < 0))
        raise ValueError(
            f"y: row {i} is {y[i]}, which is none of the classes {', '.join(map(repr, classes))}"
        )
    return index


def _one(_: FloatArray) -> float:
    return 1.0


def _log_loss_bound(_: FloatArray) -> float:
    return -math.log(BOUNDED_PROBABILITY_FLOOR)


def _bound_at_twice_the_quantile(losses: FloatArray) -> float:
    if not len(losses):
        raise ValueError("reference_losses has no rows, so no range of ordinary losses can be read from it")
    # A reference without errors says nothing about their size; its largest error, or else 1, is as good as
    # any.
    return 2 * float(np.quantile(losses, BOUND_QUANTILE)) or float(losses.max()) or 1.0


def _bound_at_twice_the_root(losses: FloatArray) -> float:
    return _bound_at_twice_the_quantile(np.sqrt(losses)) ** 2


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("accuracy", True, "classification", False, _wrong_class, _one_minus, _one_minus, _one),
        Metric("log_loss", False, "classification", True, _surprise, _itself, _itself, _log_loss_bound),
        Metric("brier_score", False, "classification", True, _halved_brier, _itself, _itself, _one),
        Metric(
            "rmse", False, "regression", False, _squared_error, math.sqrt, _square, _bound_at_twice_the_root
        ),
        Metric(
            "mae", False, "regression", False, _absolute_error, _itself, _itself, _bound_at_twice_the_quantile
        ),
    )
}
"""By name. The Brier score also stands in, for paging, for metrics without a loss for each row."""
