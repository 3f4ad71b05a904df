"""What comes of repeating a run: plain values, and the pure functions that judge them.

Four levels. The same bits: the fitted model is the same. The same predictions: on rows that the model
learned from, and others mixed from them, it decides the same, and numbers differ by less than `TOLERANCE`.
The same metrics: within the margin that the model declares to be no difference. Or it differs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
import pyarrow as pa

from clew.entities import Run
from clew.registry import Predictions
from clew.tracking import Changed, EnvironmentChange, OpenedFile

Level: TypeAlias = Literal["same bits", "same predictions", "same metrics", "differs"]

TOLERANCE = 1e-6
"""Of a probability, or of the largest number answered: beyond what another order of additions can do."""

MOST_MIXED = 10_000

MOST_PACKAGES_TOLD = 5

NOTHING_RECORDED = (
    "nothing that was recorded of the environment differs; what is left is Clew itself, or what the function"
    " reads from outside of its rows"
)


@dataclass(frozen=True, slots=True)
class PredictionsCompared:
    """How two models answered the same rows.

    Attributes
    ----------
    n_rows, n_mixed
        How many rows that the models learned from were asked, and how many mixed from them: a model that
        knows its rows by heart shows only on others that it is not the same.
    n_otherwise
        Those of them with another class; for numbers, with a difference beyond the tolerance.
    largest_difference
        Of a probability or a number, whichever the model answers; the share of other classes without either.
    tolerance
        Up to which difference the predictions count as the same.
    """

    n_rows: int
    n_mixed: int
    n_otherwise: int
    largest_difference: float
    tolerance: float

    @property
    def is_same(self) -> bool:
        return self.n_otherwise == 0 and self.largest_difference <= self.tolerance


@dataclass(frozen=True, slots=True)
class MetricCompared:
    """A metric of the run and of its repetition.

    `tolerance` is None for what the function itself logged: it is told and not judged.
    """

    name: str
    rows: str
    then: float
    now: float
    tolerance: float | None
    difference: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "difference", self.now - self.then)

    @property
    def is_same(self) -> bool:
        is_both_undefined = math.isnan(self.then) and math.isnan(self.now)
        return is_both_undefined or (self.tolerance is not None and abs(self.difference) <= self.tolerance)


@dataclass(frozen=True, slots=True)
class Reproduction:
    """A run that was repeated, and how near the repetition came.

    Attributes
    ----------
    level
        The strictest that held.
    repeated, run
        The run that was repeated, and the one that repeated it.
    version
        The registered version that the first made, as ``busy_hour@7``; None for a run without one.
    is_made
        Whether an environment was made from the record; else it ran in the present one.
    is_same_fit, is_same_package
        Whether the digest over the fitted model's predictions is the same, and whether that of the model's
        own file is; None where no package was kept.
    predictions
        None where no package was kept, or it cannot be loaded.
    causes
        What most likely made the difference, the likeliest first; empty at the same bits.
    notes
        What could not be compared, and why.
    """

    level: Level
    repeated: Run
    run: Run
    version: str | None
    is_made: bool
    is_same_fit: bool
    is_same_package: bool | None
    predictions: PredictionsCompared | None
    metrics: tuple[MetricCompared, ...]
    environment: EnvironmentChange
    causes: tuple[str, ...]
    notes: tuple[str, ...] = ()


def level_of(
    *,
    is_same_fit: bool,
    is_same_package: bool | None,
    predictions: PredictionsCompared | None,
    metrics: Sequence[MetricCompared],
) -> Level:
    """The strictest level that holds.

    A metric that was logged counts for nothing: nobody said how much of it is still the same.
    """
    if is_same_fit and is_same_package is not False and (predictions is None or predictions.is_same):
        return "same bits"
    if predictions is not None and predictions.is_same:
        return "same predictions"
    judged = [metric for metric in metrics if metric.tolerance is not None]
    return "same metrics" if judged and all(metric.is_same for metric in judged) else "differs"


def compare_predictions(then: Predictions, now: Predictions, n_mixed: int = 0) -> PredictionsCompared:
    """Hold two models' answers to the same rows against each other; the last `n_mixed` are mixed ones.

    Examples
    --------
    >>> compare_predictions(Predictions(np.array([1.0, 1e6])), Predictions(np.array([1.0, 1e6 + 3])))
    PredictionsCompared(n_rows=2, n_mixed=0, n_otherwise=1, largest_difference=3.0, tolerance=1.0)
    """
    n_rows, tolerance = len(then) - n_mixed, TOLERANCE
    if then.classes is None:
        tolerance *= float(np.abs(then.predicted).max(initial=0.0))
        gaps = np.abs(then.predicted - now.predicted)
        n_otherwise = int((~(gaps <= tolerance)).sum())
        return PredictionsCompared(n_rows, n_mixed, n_otherwise, float(gaps.max(initial=0.0)), tolerance)
    n_otherwise = int((then.predicted != now.predicted).sum())
    largest = n_otherwise / max(len(then), 1)
    if then.probabilities is not None and now.probabilities is not None and then.classes == now.classes:
        largest = float(np.abs(then.probabilities - now.probabilities).max(initial=0.0))
    return PredictionsCompared(n_rows, n_mixed, n_otherwise, largest, tolerance)


def both(one: Predictions, other: Predictions) -> Predictions:
    """Answers of one model to some rows, and then to others."""
    probabilities = None
    if one.probabilities is not None and other.probabilities is not None:
        probabilities = np.concatenate([one.probabilities, other.probabilities])
    return Predictions(np.concatenate([one.predicted, other.predicted]), probabilities, one.classes)


def mixed_rows(rows: pa.Table) -> pa.Table:
    """Rows that nobody learned from, of values that everybody knows: each column is moved on further.

    Examples
    --------
    >>> mixed_rows(pa.table({"a": [1, 2, 3, 4], "b": [1, 2, 3, 4]})).to_pylist()[:2]
    [{'a': 2, 'b': 3}, {'a': 3, 'b': 4}]
    """
    moved = [_moved(rows.column(name), place) for place, name in enumerate(rows.column_names, start=1)]
    return pa.table(moved, schema=rows.schema).slice(0, MOST_MIXED)


def _moved(column: pa.ChunkedArray, place: int) -> pa.ChunkedArray:
    n = len(column)
    start = (place * max(1, n // 97)) % n
    return pa.chunked_array([*column.slice(start).chunks, *column.slice(0, start).chunks], column.type)


def files_changed(then: Sequence[OpenedFile], now: Sequence[OpenedFile]) -> tuple[Changed, ...]:
    """Files outside of the code that two trainings read otherwise, by path; of each the hash then and now.

    Examples
    --------
    >>> files_changed([OpenedFile("/data/rates.csv", "a1")], [OpenedFile("/data/rates.csv", "b2")])
    (Changed(name='/data/rates.csv', then='a1', now='b2'),)
    """
    before, after = ({file.path: file.sha256 or "unknown" for file in files} for files in (then, now))
    paths = sorted({*before, *after})
    return tuple(
        Changed(path, before.get(path), after.get(path))
        for path in paths
        if before.get(path) != after.get(path)
    )


def likely_causes(
    change: EnvironmentChange, *, is_repeatable: bool, files: Sequence[Changed] = ()
) -> tuple[str, ...]:
    """Why a repetition came out otherwise, in sentences, the likeliest first.

    Rows, their order, code, parameters and seed are never among them: they were taken from the record and
    checked against their digests.

    Parameters
    ----------
    is_repeatable
        Whether fitting twice, in the environment of the repetition, gave the same model twice.
    files
        Files outside of the code that were read otherwise this time.
    """
    read = [f"file {each.name}: {_then_now(_short(each.then), _short(each.now))}" for each in files]
    if not is_repeatable:
        chance = (
            "the training function gives another model each time: something in it is random and not seeded;"
            " take an argument seed=0 and pass it on"
        )
        return (chance, *read, *_of_environment(change))
    return (*read, *_of_environment(change)) or (NOTHING_RECORDED,)


def _of_environment(change: EnvironmentChange) -> tuple[str, ...]:
    told = [f"package {each.name}: {_then_now(each.then, each.now)}" for each in change.packages]
    n_more = len(told) - MOST_PACKAGES_TOLD
    more = [f"{n_more:,} more packages of another version"] if n_more > 0 else []
    facts = [f"{each.name}: {_then_now(each.then, each.now)}" for each in change.facts]
    rebuilt = [f"other files under the same version: {', '.join(change.rebuilt)}"] if change.rebuilt else []
    return (*told[:MOST_PACKAGES_TOLD], *more, *facts, *rebuilt)


def _short(digest: str | None) -> str | None:
    return digest and f"sha256 {digest[:12]}"


def _then_now(then: str | None, now: str | None) -> str:
    return f"{then or 'none'} then, {now or 'none'} now"
