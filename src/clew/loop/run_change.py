"""What differs between two runs: only that, from parameters to rows and lines of code."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from clew.datasets import get_snapshot
from clew.entities import Param, Run
from clew.errors import UsageError
from clew.loop.data_change import DataChange, data_change
from clew.loop.held_out import read_held_out
from clew.loop.originals import Original
from clew.loop.reproduction import files_changed
from clew.registry import get_gate
from clew.stats.paired import paired_comparison
from clew.storage import Store
from clew.tracking import (
    Changed,
    EnvironmentChange,
    FileChange,
    code_change,
    environment_change,
    get_environment,
    opened_files,
)

Interval: TypeAlias = tuple[float, float]


@dataclass(frozen=True, slots=True)
class ParamChange:
    """A hyperparameter with another value, or one from another source; None where there is none."""

    name: str
    then: Param | None
    now: Param | None


@dataclass(frozen=True, slots=True)
class MetricChange:
    """A metric, and its 95 % interval where one is on record; None where there is none.

    `more_loss` is how much the mean row loss rose, and its interval, when both were measured on the same
    held-out rows: there the difference is known far better than either metric.
    """

    name: str
    then: float | None
    now: float | None
    difference: float | None
    then_interval: Interval | None = None
    now_interval: Interval | None = None
    more_loss: tuple[float, float, float] | None = None


@dataclass(frozen=True, slots=True)
class RunChange:
    """What differs between two runs; `facts` are what they were about: model, purpose, seed, rows.

    Whether they made the same model, by its digest, is `is_same_model`; None when one made none.
    """

    then: Original
    now: Original
    is_same_model: bool | None
    facts: tuple[Changed, ...]
    params: tuple[ParamChange, ...]
    metrics: tuple[MetricChange, ...]
    data: DataChange | None
    environment: EnvironmentChange
    code: tuple[FileChange, ...]
    opened: tuple[Changed, ...] = ()

    def __bool__(self) -> bool:
        """Whether anything differs."""
        told = (self.facts, self.params, self.metrics, self.data, self.environment, self.code, self.opened)
        return any(map(bool, told)) or self.is_same_model is False


def run_change(store: Store, then: Original, now: Original) -> RunChange:
    """Compare two runs, with the versions that they made."""
    one, other = then.run, now.run
    for original in (then, now):
        if original.run.purpose == "import":
            raise UsageError(
                f"{original.name} was imported from {original.run.params['source'].value}: of its training"
                f" there is nothing to compare. Where it came from: clew trace {original.name}"
            )
    environments = (get_environment(store, run.environment) for run in (one, other))
    snapshots = (get_snapshot(store, run.snapshot, run.dataset) for run in (one, other))
    return RunChange(
        then=then,
        now=now,
        is_same_model=_is_same_model(one, other),
        facts=tuple(_facts(one, other)),
        params=tuple(_params(one, other)),
        metrics=tuple(_metrics(store, then, now)),
        data=data_change(store, *snapshots),
        environment=environment_change(*environments),
        code=code_change(store, one.code, other.code),
        opened=files_changed(opened_files(store, one.id), opened_files(store, other.id)),
    )


def _is_same_model(one: Run, other: Run) -> bool | None:
    if one.model_digest is None or other.model_digest is None:
        return None
    return one.model_digest == other.model_digest


def _facts(one: Run, other: Run) -> Iterator[Changed]:
    told = [
        {
            "model": run.model,
            "purpose": run.purpose,
            "status": run.status,
            "seed": str(run.seed),
            "rows": " and ".join(f"{rows.start:,} to {rows.end:,}" for rows in run.rows),
        }
        for run in (one, other)
    ]
    yield from (
        Changed(name, told[0][name], told[1][name]) for name in told[0] if told[0][name] != told[1][name]
    )


def _params(one: Run, other: Run) -> Iterator[ParamChange]:
    for name in dict.fromkeys([*one.params, *other.params]):
        then, now = one.params.get(name), other.params.get(name)
        if then != now:
            yield ParamChange(name, then, now)


def _metrics(store: Store, one: Original, other: Original) -> Iterator[MetricChange]:
    then, now = (_measured(each) for each in (one, other))
    for name in dict.fromkeys([*then, *now]):
        before, after = then.get(name), now.get(name)
        if not is_same_number(before, after):
            difference = None if before is None or after is None else after - before
            yield MetricChange(
                name,
                before,
                after,
                difference,
                _interval(store, one, name),
                _interval(store, other, name),
                _more_loss(store, one.run, other.run, name),
            )


def _more_loss(store: Store, one: Run, other: Run, metric: str) -> tuple[float, float, float] | None:
    then, now = (read_held_out(store, run) for run in (one, other))
    if then is None or now is None or one.snapshot != other.snapshot:
        return None
    if metric != then.metric or not then.is_on_rows_of(now):
        return None
    found = paired_comparison(then.losses, now.losses)
    return -found.mean_difference, -found.upper, -found.lower


def is_same_number(then: float | None, now: float | None) -> bool:
    """Whether two metrics are equal; one that is not defined is the same as another of these.

    Examples
    --------
    >>> is_same_number(math.nan, math.nan), is_same_number(None, 0.0), is_same_number(0.5, 0.5)
    (True, False, True)
    """
    if then is None or now is None:
        return then is now
    return then == now or (math.isnan(then) and math.isnan(now))


def _measured(original: Original) -> dict[str, float]:
    version = original.version
    return {**original.run.metrics, **(version.metrics if version else {})}


def _interval(store: Store, original: Original, metric: str) -> Interval | None:
    """Of the run; or of the gate's check of a minimum, for versions from before runs had any."""
    if metric in original.run.intervals:
        return original.run.intervals[metric]
    version = original.version
    gate = get_gate(store, version.deployment, version.number) if version else None
    for check in gate.checks if gate else ():
        if check.name == f"minimum {metric}" and check.lower is not None and check.upper is not None:
            return check.lower, check.upper
    return None
