"""What any model must beat: the best constant answer, and a linear model.

They are fitted here, in a few lines of linear algebra, because the gate needs them where scikit-learn may
not be installed. Features are standardised, missing numbers become the mean, categories become indicators.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clew.stats.arrays import FloatArray
from clew.stats.metrics import Metric

MOST_ROWS = 20_000
"""A linear model has learned what it can from this many rows; the newest are used."""

MOST_LEVELS = 50
"""Levels of a category beyond the most frequent fifty share no indicator of their own."""

RIDGE = 1.0
"""Pseudo-observations that keep the equations solvable when columns are collinear."""

NEWTON_STEPS = 8
"""Enough for logistic regression with a ridge to settle to three digits."""


@dataclass(frozen=True, slots=True)
class Design:
    """Turns columns into the matrix of a linear model, as learned from the training rows."""

    means: tuple[float, ...]
    scales: tuple[float, ...]
    levels: tuple[tuple[object, ...] | None, ...]

    @classmethod
    def of(cls, columns: Sequence[np.ndarray]) -> Design:
        """Learn means, scales and levels; number columns are float arrays, others are categories."""
        means: list[float] = []
        scales: list[float] = []
        levels: list[tuple[object, ...] | None] = []
        for column in columns:
            if column.dtype.kind == "f":
                known = column[np.isfinite(column)]
                means.append(float(known.mean()) if len(known) else 0.0)
                scales.append(_spread(known))
                levels.append(None)
            else:
                values, counts = np.unique(column.astype(str), return_counts=True)
                levels.append(tuple(values[np.argsort(-counts, kind="stable")][:MOST_LEVELS].tolist()))
                means.append(0.0)
                scales.append(1.0)
        return cls(tuple(means), tuple(scales), tuple(levels))

    def matrix(self, columns: Sequence[np.ndarray]) -> FloatArray:
        """Shape ``(n_rows, 1 + n_numbers + n_levels)``; the first column is the intercept."""
        blocks: list[np.ndarray] = [np.ones((len(columns[0]) if columns else 0, 1))]
        for column, mean, scale, levels in zip(columns, self.means, self.scales, self.levels, strict=True):
            if levels is None:
                centred = np.where(np.isfinite(column), column, mean) - mean
                blocks.append((centred / scale if scale else np.zeros(len(column)))[:, None])
            else:
                blocks.append((column.astype(str)[:, None] == np.array(levels)[None, :]).astype(float))
        return np.hstack(blocks)


def _spread(known: FloatArray) -> float:
    """The standard deviation; 0 for a constant, whose rounding errors must not be blown up to unit size."""
    if not len(known):
        return 0.0
    spread = float(known.std())
    return spread if spread > 1e-9 * abs(float(known.mean())) else 0.0


def baseline_losses(
    metric: Metric,
    train_columns: Sequence[np.ndarray],
    train_y: np.ndarray,
    columns: Sequence[np.ndarray],
    y: np.ndarray,
) -> tuple[FloatArray, FloatArray]:
    """Row losses of the best constant and of a linear model, both fitted on the training rows.

    Returns
    -------
    dummy, linear
        Shape ``(len(y),)`` each, in the metric's row loss.
    """
    train_columns, train_y = [c[-MOST_ROWS:] for c in train_columns], train_y[-MOST_ROWS:]
    design = Design.of(train_columns)
    before, now = design.matrix(train_columns), design.matrix(columns)
    if metric.task == "regression":
        return _regression_losses(metric, before, train_y.astype(float), now, y.astype(float))
    return _classification_losses(metric, before, train_y, now, y)


def dummy_loss(metric: Metric, y: np.ndarray) -> float:
    """Mean row loss of the constant that would have been best on these very rows.

    Examples
    --------
    >>> from clew.stats.metrics import metric_named
    >>> dummy_loss(metric_named("accuracy"), np.array(["busy", "busy", "quiet", "busy"]))
    0.25
    >>> dummy_loss(metric_named("mae"), np.array([1.0, 2.0, 6.0]))  # from the median
    1.6666666666666667
    """
    if metric.task == "regression":
        constant = float(np.median(y) if metric.name == "mae" else np.mean(y))
        return float(metric.row_losses(y, predicted=np.full(len(y), constant)).mean())
    classes, codes = np.unique(y, return_inverse=True)
    shares = np.bincount(codes) / len(y)
    return float(_class_losses(metric, np.tile(shares, (len(y), 1)), classes, y).mean())


def _regression_losses(
    metric: Metric, before: FloatArray, train_y: FloatArray, now: FloatArray, y: FloatArray
) -> tuple[FloatArray, FloatArray]:
    constant = float(np.median(train_y) if metric.name == "mae" else train_y.mean())
    weights = np.linalg.solve(before.T @ before + np.diag(_penalty(before)), before.T @ train_y)
    return (
        metric.row_losses(y, predicted=np.full(len(y), constant)),
        metric.row_losses(y, predicted=now @ weights),
    )


def _classification_losses(
    metric: Metric, before: FloatArray, train_y: np.ndarray, now: FloatArray, y: np.ndarray
) -> tuple[FloatArray, FloatArray]:
    classes, codes = np.unique(train_y, return_inverse=True)
    shares = np.bincount(codes) / len(train_y)
    scores = np.column_stack(
        [_logistic(before, (codes == code).astype(float), now) for code in range(len(classes))]
    )
    probabilities = scores / np.maximum(scores.sum(axis=1, keepdims=True), 1e-12)
    return (
        _class_losses(metric, np.tile(shares, (len(y), 1)), classes, y),
        _class_losses(metric, probabilities, classes, y),
    )


def _class_losses(
    metric: Metric, probabilities: FloatArray, classes: np.ndarray, y: np.ndarray
) -> FloatArray:
    if not metric.needs_probabilities:
        return metric.row_losses(y, predicted=classes[probabilities.argmax(axis=1)])
    widened, names = with_unseen_classes(probabilities, classes.tolist(), y)
    return metric.row_losses(y, probabilities=widened, classes=names)


def with_unseen_classes(
    probabilities: FloatArray, classes: Sequence[object], y: np.ndarray
) -> tuple[FloatArray, list[object]]:
    """Columns of zeros for labels that the model never saw: it gave them no chance.

    Examples
    --------
    >>> widened, names = with_unseen_classes(np.array([[0.25, 0.75]]), ["no", "yes"], np.array(["maybe"]))
    >>> widened.tolist(), names
    ([[0.25, 0.75, 0.0]], ['no', 'yes', 'maybe'])
    """
    known = list(classes)
    unseen = sorted(set(y.tolist()) - set(known), key=repr)
    if not unseen:
        return probabilities, known
    zeros = np.zeros((len(probabilities), len(unseen)))
    return np.hstack([probabilities, zeros]), [*known, *unseen]


def _logistic(before: FloatArray, truth: FloatArray, now: FloatArray) -> FloatArray:
    """Probabilities of one class by Newton's method with a ridge."""
    weights, penalty = np.zeros(before.shape[1]), _penalty(before)
    for _ in range(NEWTON_STEPS):
        p = _sigmoid(before @ weights)
        curvature = np.maximum(p * (1 - p), 1e-6)
        gradient = before.T @ (truth - p) - penalty * weights
        weights = weights + np.linalg.solve(
            before.T @ (before * curvature[:, None]) + np.diag(penalty), gradient
        )
    return _sigmoid(now @ weights)


def _penalty(design: FloatArray) -> FloatArray:
    """The ridge of each weight; none on the intercept, or a target far from 0 would be missed."""
    penalty = np.full(design.shape[1], RIDGE)
    penalty[0] = 0.0
    return penalty


def _sigmoid(z: FloatArray) -> FloatArray:
    return np.asarray(1 / (1 + np.exp(-np.clip(z, -30, 30))))
