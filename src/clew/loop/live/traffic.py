"""The requests of a running deployment: who answers them, and what they show of a candidate.

Routes are rows that the prediction workers follow; a change of them is in force once every worker that runs
has said so.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np

from clew.entities import Decision, Finding, Json, RolloutStep, Route, Version
from clew.errors import ClewError
from clew.loop.live.fitter import LiveFitter
from clew.loop.live.trial_period import Request, TrialPeriod, fault_finding
from clew.loop.standing import FittedModel
from clew.registry import aliases
from clew.registry.alias_moves import move_alias_within
from clew.registry.routes import get_route, move_route
from clew.serving.doorbell import Doorbell
from clew.serving.fleet import WorkerState, running
from clew.storage import Store, Transaction
from clew.storage.records import Failure, Prediction

ACKNOWLEDGED_WITHIN_SECONDS = 30.0
"""How long a change of routes waits for the workers before the loop goes on without: it asks again later."""

_LOOK_SECONDS = 0.004

COMPARED_ANSWERS = 200
"""A candidate's logged answers that are asked of its package again; a difference in any is a fault."""

REMEMBERED_ROWS = 10_000
"""Rows of which one answer was read so far: the other was logged with it, or never will be."""

LARGEST_DIFFERENCE = 1e-6
"""Of a probability or a share of a number: more than rounding between two machines."""


@dataclass(slots=True)
class Trial:
    """A candidate whose rollout is under way, and what its requests have shown.

    `n_told` of its requests were counted for the rollout already; `answers` wait to be compared with what
    the candidate's package answers.
    """

    model: FittedModel
    number: int
    since: datetime
    period: TrialPeriod
    n_told: int = 0
    n_compared: int = 0
    answers: list[Prediction] = field(default_factory=list)
    alone: dict[tuple[str, Any], Prediction | Failure] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


class LiveTraffic:
    """Implements `clew.loop.release.Traffic` on the routes of one deployment.

    Parameters
    ----------
    versions
        By name of the fit the versions that were registered: the release desk's own.
    """

    def __init__(
        self,
        store: Store,
        deployment: str,
        fitter: LiveFitter,
        versions: Mapping[str, Version],
        doorbell: Doorbell,
    ) -> None:
        self._store, self._deployment, self._fitter = store, deployment, fitter
        self._versions, self._doorbell = versions, doorbell
        self.trial: Trial | None = None

    # -- what the release desk asks for ------------------------------------------------------------------

    def stage(self, candidate: FittedModel, step: RolloutStep, now: datetime) -> bool:
        number = self._versions[candidate.name].number
        if self.trial is None or self.trial.model.name != candidate.name:
            self.trial = Trial(candidate, number, now, TrialPeriod.begin())
        generation = self._move(
            now,
            "loop",
            f"the rollout of version {number} goes on to {step.kind}",
            candidate=number,
            stage=step.kind,
            share=step.share,
            salt=f"{self._deployment}@{number}",
        )
        return self._is_in_force(generation)

    def n_requests(self, candidate: FittedModel, now: datetime) -> int:  # noqa: ARG002
        if self.trial is None:
            return 0
        n_new = self.trial.period.n_requests - self.trial.n_told
        self.trial.n_told += n_new
        return n_new

    def paired(self, candidate: FittedModel) -> Json:  # noqa: ARG002
        period = None if self.trial is None else self.trial.period
        if period is None or not period.n_timed:
            return {}
        if self._fitter.metric.task == "regression":
            return {"paired": period.n_timed, "mean_difference": round(period.difference / period.n_timed, 6)}
        return {"paired": period.n_timed, "otherwise": round(period.difference)}

    def fault(self, candidate: FittedModel, now: datetime) -> Finding | None:  # noqa: ARG002
        if self.trial is None:
            return None
        name = f"version {self.trial.number}"
        if self.trial.failures:
            worker, why = next(iter(self.trial.failures.items()))
            sentence = f"{name} could not be loaded by prediction worker {worker}: {why}"
            return fault_finding("rollout load", name, sentence, None, 1, self.trial.since, now)
        return self.trial.period.fault(name, self.trial.since, now) or self._other_answers(name, now)

    def promote(self, candidate: FittedModel, decision: Decision, now: datetime) -> None:
        number = self._versions[candidate.name].number
        self.set_champion(number, "loop", decision.sentence, decision.evidence, now)
        self.trial = None

    def withdraw(self, candidate: FittedModel, decision: Decision, now: datetime) -> None:  # noqa: ARG002
        self.end_trial(now, "loop", decision.sentence)

    # -- what others ask for -------------------------------------------------------------------------------

    def set_champion(
        self, number: int, actor: str, reason: str, evidence: Json, now: datetime, *, expected: Any = ...
    ) -> None:
        """Let this version answer everything: alias, audit row and route move at once, or none of them.

        Raises
        ------
        AliasMoved
            When the champion is another one than `expected`; left out, whoever it is.
        """
        if expected is ...:
            expected = aliases(self._store, self._deployment).get("champion")
        with self._store.write() as tx:
            move_alias_within(
                tx,
                self._deployment,
                "champion",
                number,
                expected=expected,
                actor=actor,
                reason=reason,
                evidence=evidence,
                now=now,
            )
            generation = self._route_moved(tx, now, actor, reason, champion=number)
        self._doorbell.ring(generation)
        self._is_in_force(generation)

    def end_trial(self, now: datetime, actor: str, reason: str) -> None:
        """Let the champion answer everything again."""
        self.trial = None
        self._is_in_force(self._move(now, actor, reason))

    def retire(self, now: datetime, actor: str, reason: str) -> None:
        """Let nobody answer any more."""
        self.trial = None
        self._is_in_force(self._move(now, actor, reason, stage="retired"))

    # -- routes --------------------------------------------------------------------------------------------

    def _move(self, now: datetime, actor: str, reason: str, **changes: Any) -> int:
        with self._store.write() as tx:
            generation = self._route_moved(tx, now, actor, reason, **changes)
        self._doorbell.ring(generation)
        return generation

    def _route_moved(self, tx: Transaction, now: datetime, actor: str, reason: str, **changes: Any) -> int:
        there = get_route(tx, self._deployment)
        champion = there.champion if there else None
        facts: dict[str, Any] = {"champion": champion, **changes}
        return move_route(tx, Route(self._deployment, 0, **facts), now, actor=actor, reason=reason)

    def _is_in_force(self, generation: int) -> bool:
        """Whether all workers that run follow the routes of this generation, after some patience."""
        deadline = time.monotonic() + ACKNOWLEDGED_WITHIN_SECONDS
        while True:
            workers = running(self._store)
            if all(worker.generation >= generation for worker in workers):
                self._note_failures(workers)
                return self.trial is None or not self.trial.failures
            if time.monotonic() > deadline:
                return False
            time.sleep(_LOOK_SECONDS)

    def _note_failures(self, workers: Iterable[WorkerState]) -> None:
        if self.trial is None:
            return
        name = f"{self._deployment}@{self.trial.number}"
        found = {str(worker.id): worker.failures[name] for worker in workers if name in worker.failures}
        self.trial.failures = found

    # -- what was logged -----------------------------------------------------------------------------------

    def observe(self, records: Iterable[Prediction | Failure]) -> None:
        """Take in answers and failures of the deployment, in the order in which they were logged."""
        trial = self.trial
        if trial is None:
            return
        requests, of_numbers = [], self._fitter.metric.task == "regression"
        for record in records:
            is_wanted = trial.n_compared + len(trial.answers) < COMPARED_ANSWERS
            if is_wanted and record.version == trial.number and isinstance(record, Prediction):
                trial.answers.append(record)
            row = (record.request, record.key)
            other = trial.alone.pop(row, None)
            if other is None:
                trial.alone[row] = record
            elif trial.number in (record.version, other.version):
                requests.append(_request(trial.number, record, other, of_numbers))
        # A request of before the rollout has no second answer, and never will.
        for row in list(trial.alone)[: max(0, len(trial.alone) - REMEMBERED_ROWS)]:
            del trial.alone[row]
        trial.period = trial.period.after(requests)

    def _n_other(self, model: FittedModel, answers: Sequence[Prediction]) -> int:
        try:
            expected = self._fitter.predicted(model, self._fitter.rows.features_of(answers))
        except ClewError:
            return len(answers)  # it did answer these, and its package cannot
        return sum(
            _differs(record, expected.predicted[place], expected.probabilities, place)
            for place, record in enumerate(answers)
        )

    def _other_answers(self, name: str, now: datetime) -> Finding | None:
        """Whether the candidate answers as its package does: what was judged must be what is served."""
        assert self.trial is not None  # noqa: S101 - fault() looked
        answers, self.trial.answers = self.trial.answers, []
        if not answers:
            return None
        n_other = self._n_other(self.trial.model, answers)
        self.trial.n_compared += len(answers)
        if not n_other:
            return None
        sentence = (
            f"{name} answers otherwise than the package that passed the gate in {n_other} of {len(answers)}"
            " requests"
        )
        return fault_finding("rollout answers", name, sentence, None, len(answers), self.trial.since, now)


def _request(
    number: int, one: Prediction | Failure, other: Prediction | Failure, of_numbers: bool
) -> Request:
    mine, theirs = (one, other) if one.version == number else (other, one)
    times = [each.microseconds if isinstance(each, Prediction) else None for each in (theirs, mine)]
    if isinstance(mine, Failure) or isinstance(theirs, Failure):
        return Request(times[0], times[1], mine.error if isinstance(mine, Failure) else "")
    return Request(times[0], times[1], difference=_apart(mine.predicted, theirs.predicted, of_numbers))


def _apart(mine: Any, theirs: Any, of_numbers: bool) -> float:
    """How far apart two answers lie: labels are another one or not, also where they are numbers."""
    return abs(mine - theirs) if of_numbers else float(mine != theirs)


def _differs(record: Prediction, predicted: Any, probabilities: np.ndarray | None, place: int) -> bool:
    if probabilities is not None and record.probabilities is not None:
        return bool(np.abs(probabilities[place] - np.array(record.probabilities)).max() > LARGEST_DIFFERENCE)
    if isinstance(record.predicted, float) and not isinstance(predicted, bool | np.bool_):
        return bool(abs(predicted - record.predicted) > LARGEST_DIFFERENCE * max(1.0, abs(record.predicted)))
    return bool(predicted != record.predicted)
