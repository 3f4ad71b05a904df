"""Trying a grid of hyperparameters: a run for each point, compared row by row on the same held-out rows."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from clew.entities import Param
from clew.errors import TrainingFailed, UsageError
from clew.loop.result import OnProgress, Progress, TryResult
from clew.loop.variants import Ground, Measured, Variant, measure
from clew.stats.paired import better, paired_comparison
from clew.training import Child

MOST_POINTS = 1_000
CONFIDENCE = 0.95

Standing: TypeAlias = Literal["best", "cannot be told from the best", "worse", "failed"]


@dataclass(frozen=True, slots=True)
class GridPoint:
    """One point of the grid.

    Attributes
    ----------
    params
        The values of the hyperparameters that vary.
    value, lower, upper
        The metric on the held-out rows, with its 95 % interval.
    loss_difference, loss_lower, loss_upper
        How much higher its mean row loss is than that of the best, on the same rows; the intervals of all
        points hold together with 95 %.
    is_new
        False for a run that was there.
    """

    params: Mapping[str, Any]
    run: str | None
    standing: Standing
    value: float | None = None
    lower: float | None = None
    upper: float | None = None
    loss_difference: float | None = None
    loss_lower: float | None = None
    loss_upper: float | None = None
    is_new: bool = True
    error: str | None = None


@dataclass(frozen=True, slots=True)
class GridResult:
    """All points, the best first, and the try of the best one, which alone is registered.

    Attributes
    ----------
    n_learned, n_held_out
        Rows that each point learned from, and rows that it was measured on.
    n_like_best
        Points that cannot be told from the best.
    """

    metric: str
    greater_is_better: bool
    n_learned: int
    n_held_out: int
    points: tuple[GridPoint, ...]
    n_like_best: int
    tried: TryResult


def grid_variants(grid: Mapping[str, Sequence[Any]], params: Mapping[str, Param]) -> list[Variant]:
    """The product of all values, each as a variant; `params` are those that do not vary.

    Raises
    ------
    UsageError
        When there are more than 1,000.
    """
    n = int(np.prod([len(values) for values in grid.values()], dtype=object))
    if n > MOST_POINTS:
        raise UsageError(f"The grid has {n:,} points; at most {MOST_POINTS:,} are tried. Give fewer values.")
    variants = []
    for values in itertools.product(*grid.values()):
        point = dict(zip(grid, values, strict=True))
        name = ", ".join(f"{name}={value}" for name, value in point.items())
        given = {name: Param(value, "command line") for name, value in point.items()}
        variants.append(Variant(name, "grid", {**params, **given}))
    return variants


def measure_grid(
    ground: Ground,
    grid: Mapping[str, Sequence[Any]],
    params: Mapping[str, Param],
    children: Sequence[Child],
    on_progress: OnProgress,
) -> list[Measured]:
    """A run for each point of the grid, in its order.

    Raises
    ------
    TrainingFailed
        When every point failed: with the words of the first.
    """
    variants = grid_variants(grid, params)
    n_done = itertools.count(1)

    def on_measured(each: Measured) -> None:
        n = next(n_done)
        told = each.error.splitlines()[0] if each.error else _level(ground, each)
        sentence = f"{n} of {len(variants)}: {each.variant.name}: {told}"
        on_progress(Progress(0.05 + 0.75 * n / len(variants), sentence=sentence))

    measured = measure(ground, variants, children, on_measured)
    if all(each.held_out is None for each in measured):
        raise TrainingFailed(
            f"Every point of the grid failed. {measured[0].variant.name}: {measured[0].error}"
        )
    return measured


def best_of(measured: Sequence[Measured]) -> Measured:
    """The lowest mean loss on the held-out rows; of equal ones the first of the grid."""
    return min((each for each in measured if each.held_out is not None), key=_mean_loss)


def grid_points(ground: Ground, grid: Sequence[str], measured: Sequence[Measured]) -> tuple[GridPoint, ...]:
    """Every point held against the best, the best first and those that failed last."""
    best = best_of(measured)
    n_others = max(1, sum(each.held_out is not None for each in measured) - 1)
    in_order = sorted(measured, key=_mean_loss)
    return tuple(_point(ground, grid, each, best, n_others) for each in in_order)


def grid_result(
    ground: Ground, grid: Mapping[str, Sequence[Any]], measured: Sequence[Measured], tried: TryResult
) -> GridResult:
    """What was measured, with the try of the best point."""
    points = grid_points(ground, list(grid), measured)
    return GridResult(
        metric=ground.metric.name,
        greater_is_better=ground.metric.greater_is_better,
        n_learned=ground.known,
        n_held_out=ground.n - ground.cut,
        points=points,
        n_like_best=sum(each.standing == "cannot be told from the best" for each in points),
        tried=tried,
    )


def _point(ground: Ground, grid: Sequence[str], each: Measured, best: Measured, n_others: int) -> GridPoint:
    params = {name: each.variant.params[name].value for name in grid}
    if each.held_out is None or each.run is None or best.held_out is None:
        return GridPoint(params, None, "failed", error=each.error)
    metric = ground.metric
    lower, upper = each.run.intervals[metric.name]
    value = metric.value(each.held_out.losses)
    if each is best:
        return GridPoint(params, each.run.id, "best", value, lower, upper, is_new=each.is_new)
    # As the losses of both are on the same rows, their difference is known far better than either.
    comparison = paired_comparison(
        each.held_out.losses, best.held_out.losses, 1 - (1 - CONFIDENCE) / n_others
    )
    standing: Standing = "worse" if better(comparison) == "pass" else "cannot be told from the best"
    return GridPoint(
        params,
        each.run.id,
        standing,
        value,
        lower,
        upper,
        comparison.mean_difference,
        comparison.lower,
        comparison.upper,
        each.is_new,
    )


def _mean_loss(each: Measured) -> float:
    return float("inf") if each.held_out is None else float(each.held_out.losses.mean())


def _level(ground: Ground, each: Measured) -> str:
    assert each.held_out is not None  # noqa: S101 - one without failed
    there = "" if each.is_new else " (was there)"
    return f"{ground.metric.name} {ground.metric.value(each.held_out.losses):.4g}{there}"
