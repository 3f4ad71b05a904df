"""What each column is worth: the model fitted again without it, and held against the one that has it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias

import msgspec

from clew.entities import Run
from clew.errors import TrainingFailed, UsageError
from clew.loop.held_out import HeldOut
from clew.loop.result import OnProgress, Progress
from clew.loop.variants import Ground, Measured, OnMeasured, Variant, measure
from clew.stats.paired import PairedComparison, better, non_inferior, paired_comparison
from clew.storage import Store
from clew.tracking import keep_artifacts
from clew.training import Child

ARTIFACT = "clew/columns.json"
"""The artifact of a run that says what its columns were worth."""

CONFIDENCE = 0.95

Worth: TypeAlias = Literal["needed", "could be dropped", "better without", "undecided", "failed"]

_UNNEEDED = ("could be dropped", "better without")


@dataclass(frozen=True, slots=True)
class Dropped:
    """What is lost without columns.

    Attributes
    ----------
    value
        The metric without them, on the held-out rows.
    loss_difference, loss_lower, loss_upper
        How much the mean row loss grows without them; the intervals of all columns hold together with 95 %.
    error
        Why the function could not be fitted without them.
    """

    columns: tuple[str, ...]
    worth: Worth
    run: str | None = None
    value: float | None = None
    loss_difference: float | None = None
    loss_lower: float | None = None
    loss_upper: float | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ColumnsReport:
    """Columns by what is lost without each, the most first.

    Attributes
    ----------
    margin
        By how much the mean row loss may grow and still count as the same: the model's margin.
    could_be_dropped
        Columns that certainly carry less than that, each alone; those it is better without among them.
    together
        What is lost without all of these at once; None for fewer than two.
    """

    metric: str
    value: float
    n_learned: int
    n_held_out: int
    margin: float
    columns: tuple[Dropped, ...]
    could_be_dropped: tuple[str, ...]
    together: Dropped | None


def weigh_columns(
    ground: Ground, whole: HeldOut | None, children: Sequence[Child], on_progress: OnProgress
) -> ColumnsReport:
    """Fit without each column, and without all that nothing is lost by.

    Parameters
    ----------
    whole
        What the model with all columns did on the held-out rows; measured here where it is not known.

    Raises
    ------
    UsageError
        When the model has one column only.
    TrainingFailed
        When the model with all columns cannot be fitted.
    """
    features = ground.history.features
    if len(features) < 2:
        raise UsageError(f"{ground.declaration.name} has one column, {features[0]!r}: nothing to leave out.")
    is_known = whole is not None and (whole.start, whole.end) == (ground.cut, ground.n)
    variants = [*([] if is_known else [_variant(ground)]), *(_variant(ground, name) for name in features)]
    measured = measure(ground, variants, children, _telling(on_progress, len(variants)))
    base = whole if is_known else _sure(measured.pop(0))
    assert base is not None  # noqa: S101 - known, or measured just now
    confidence = 1 - (1 - CONFIDENCE) / len(features)
    columns = sorted((_dropped(ground, base, each, confidence) for each in measured), key=_by_loss)
    unneeded = {name for each in columns if each.worth in _UNNEEDED for name in each.columns}
    free = tuple(name for name in features if name in unneeded)
    together = None
    if 1 < len(free) < len(features):
        on_progress(Progress(0.97, sentence=f"without {', '.join(free)} together"))
        (found,) = measure(ground, [_variant(ground, *free)], children[:1], lambda _: None)
        together = _dropped(ground, base, found, CONFIDENCE)
    return ColumnsReport(
        metric=ground.metric.name,
        value=ground.metric.value(base.losses),
        n_learned=ground.known,
        n_held_out=ground.n - ground.cut,
        margin=_margin(ground, base),
        columns=tuple(columns),
        could_be_dropped=free,
        together=together,
    )


def keep_report(store: Store, run: Run, report: ColumnsReport, now: datetime) -> None:
    """Keep what the columns were worth with the run of the model."""
    keep_artifacts(store, run.id, {ARTIFACT: msgspec.json.format(msgspec.json.encode(report))}, now=now)


def _variant(ground: Ground, *without: str) -> Variant:
    named = f"without {', '.join(without)}" if without else "all columns"
    return Variant(named, named, ground.thread.params, without)


def _telling(on_progress: OnProgress, n: int) -> OnMeasured:
    n_done = itertools.count(1)

    def on_measured(each: Measured) -> None:
        done = next(n_done)
        there = "" if each.is_new else " (was there)"
        sentence = f"{done} of {n}: {each.variant.name}{there}"
        on_progress(Progress(0.8 + 0.15 * done / n, sentence=sentence))

    return on_measured


def _sure(measured: Measured) -> HeldOut:
    if measured.held_out is None:
        raise TrainingFailed(f"The model with all columns could not be fitted again: {measured.error}")
    return measured.held_out


def _margin(ground: Ground, base: HeldOut) -> float:
    level = ground.metric.value(base.losses)
    return ground.metric.loss_margin(level, ground.declaration.margin.absolute(level))


def _dropped(ground: Ground, base: HeldOut, each: Measured, confidence: float) -> Dropped:
    columns = each.variant.without
    if each.held_out is None or each.run is None:
        return Dropped(columns, "failed", error=each.error)
    comparison = paired_comparison(base.losses, each.held_out.losses, confidence)
    return Dropped(
        columns,
        _worth(comparison, _margin(ground, base)),
        each.run.id,
        ground.metric.value(each.held_out.losses),
        -comparison.mean_difference,
        -comparison.upper,
        -comparison.lower,
    )


def _worth(without: PairedComparison, margin: float) -> Worth:
    if better(without) == "pass":
        return "better without"
    if non_inferior(without, margin) == "pass":
        return "could be dropped"
    return "needed" if better(without) == "fail" else "undecided"


def _by_loss(each: Dropped) -> float:
    return float("-inf") if each.loss_difference is None else -each.loss_difference
