"""The world of a backtest: history that shows only what had arrived and matured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from clew.entities import Decision, Finding, GateReport, Json, RolloutStep
from clew.loop.baselines import dummy_loss
from clew.loop.fitter import Fitter
from clew.loop.history import as_time
from clew.loop.policy import Policy
from clew.loop.recording import record_decision
from clew.loop.release import ReleaseDesk
from clew.loop.result import Event, GateRecord
from clew.loop.standing import FittedModel, Pieces, Scored
from clew.loop.watch import FeatureWatch, LabelWatch, reference_of_training
from clew.loop.world import Candidate, ReleaseOutcome
from clew.monitoring import store_finding
from clew.monitoring.reference import MERGE_DAYS
from clew.serving.routing import is_in_share

QUIET = frozenset({"refit"})
"""Decisions that are stored but are no event: they change nothing that anybody sees."""


@dataclass(frozen=True, slots=True)
class Office:
    """A version answers all requests from row `start` on."""

    start: int
    since: datetime
    model: FittedModel
    number: int
    recipe: str


@dataclass(frozen=True, slots=True)
class Canary:
    """A candidate answers a share of the rows ``start`` to ``end``."""

    start: int
    end: int
    model: FittedModel
    share: float


class HistoryTraffic:
    """The requests of a backtest: each row of history is one, asked at its event time."""

    def __init__(self, fitter: Fitter) -> None:
        self._fitter, self._since = fitter, 0

    def stage(self, candidate: FittedModel, step: RolloutStep, now: datetime) -> bool:  # noqa: ARG002
        self._since = self._fitter.history.arrived(now)
        return True

    def n_requests(self, candidate: FittedModel, now: datetime) -> int:  # noqa: ARG002
        # Shadow or canary, it is asked beside the champion about every row.
        since, self._since = self._since, self._fitter.history.arrived(now)
        return self._since - since

    def paired(self, candidate: FittedModel) -> Json:  # noqa: ARG002
        return {}  # its rows are compared by their labels, which come in the same moment

    def fault(self, candidate: FittedModel, now: datetime) -> Finding | None:  # noqa: ARG002
        return None  # what is answered in history never fails and takes no time

    def promote(self, candidate: FittedModel, decision: Decision, now: datetime) -> None:
        """The world counts by itself who was in office when."""

    def withdraw(self, candidate: FittedModel, decision: Decision, now: datetime) -> None:
        """The world counts by itself who was in office when."""


class Simulation:
    """Implements `clew.loop.model_loop.World` on history."""

    def __init__(
        self,
        fitter: Fitter,
        policy: Policy,
        desk: ReleaseDesk,
        n_models: int,
        on_event: Callable[[Event], None],
    ) -> None:
        self.fitter, self.policy, self.desk, self._n_models = fitter, policy, desk, n_models
        self._on_event = on_event
        self.events: list[Event] = []
        self.gates: list[GateRecord] = []
        self.offices: list[Office] = []
        self.canaries: list[Canary] = []
        self._canary_from = 0
        self._n_decisions = 0

    # -- what the loop asks ----------------------------------------------------------------------------

    def arrived(self, now: datetime) -> int:
        return self.fitter.history.arrived(now)

    def matured(self, now: datetime) -> int:
        return self.fitter.history.matured(now)

    def time_of(self, row: int) -> datetime:
        return self.fitter.history.time_of(row)

    def times(self, start: int, end: int) -> np.ndarray:
        return self.fitter.history.times[start:end]

    def constant_loss(self, start: int, end: int) -> float:
        loss = dummy_loss(self.policy.metric, self.fitter.history.y[start:end])
        return min(1.0, loss / self.policy.bound)

    def fit(self, purpose: str, pieces: Pieces, now: datetime) -> FittedModel:
        # It may be judged by every label that matured after it was made, also of rows that came before.
        return self.fitter.fit(purpose, pieces, self.matured(now))

    def scored(self, model: FittedModel, start: int, end: int) -> Scored:
        return self.fitter.scored(model, start, end)

    def watch(self, now: datetime) -> list[Finding]:
        found = self._features.findings(self._days, now)
        return [*found, *self._labels.findings(self.fitter.history, now)]

    def forget(self, model: FittedModel) -> None:
        answered = [*(office.model for office in self.offices), *(canary.model for canary in self.canaries)]
        if not self.desk.is_about(model) and all(model.name != other.name for other in answered):
            self.fitter.forget(model)

    def version_number(self, model: FittedModel) -> int:
        return self.desk.versions[model.name].number

    # -- what the loop says ----------------------------------------------------------------------------

    def found(self, finding: Finding) -> str:
        with self.fitter.store.write() as tx:
            identity = store_finding(tx, self.desk.deployment, finding)
        # A page on risk becomes an event with the decision that answers it.
        if finding.monitor != "risk" and finding.level != "chart":
            facts = {"subject": finding.subject, "value": _number(finding.value), "n": finding.n}
            self._say(Event(finding.found_at, finding.level, finding.sentence, facts))
        return identity

    def decided(self, decision: Decision, about: FittedModel | None) -> None:
        self.record(decision, about)
        if decision.kind not in QUIET:
            self._say(Event(decision.at, decision.kind, decision.sentence, decision.evidence))

    def record(self, decision: Decision, about: FittedModel | None) -> None:
        """Store a decision with what it rests on."""
        self._n_decisions += 1
        champion = self.offices[-1].model if self.offices else None
        with self.fitter.store.write() as tx:
            record_decision(
                tx, self.desk.deployment, self._n_decisions, decision, about=about, champion=champion
            )

    def announced(self, decision: Decision, report: GateReport | None) -> None:
        """What the release desk decided on its way."""
        about = self.desk.model
        if report is not None:
            candidate = about.name if about is not None else decision.evidence.get("candidate", "")
            self.gates.append(GateRecord(decision.at, candidate, report))
            outcomes = {check.name: check.outcome for check in report.checks}
            decision = replace(decision, evidence=decision.evidence | {"gate": outcomes})
        self.decided(decision, about)

    def _say(self, event: Event) -> None:
        self.events.append(event)
        self._on_event(event)

    # -- releases ----------------------------------------------------------------------------------------

    def take_office(self, model: FittedModel, number: int, recipe: str, now: datetime) -> None:
        """From now on this version answers."""
        self.offices.append(Office(self.arrived(now), now, model, number, recipe))
        history = self.fitter.history
        reference = reference_of_training(history, model)
        # All rows to come are counted into bins at once, and looked at once their day is over.
        times = history.table.column(history.declaration.dataset.time).to_numpy().astype("datetime64[us]")
        start = int(np.searchsorted(times, as_time(now) - np.timedelta64(max(MERGE_DAYS), "D")))
        rows = history.table.slice(start).select(history.features)
        self._days = reference.bin_days(rows, times[start:])
        self._features = FeatureWatch.begin(reference, self._days, now, self._n_models)
        self._labels = LabelWatch.begin(history, model, now, self._n_models)

    def begin_release(
        self, candidate: Candidate, champion: FittedModel, anchor: FittedModel, now: datetime
    ) -> None:
        self.desk.begin(candidate, champion, anchor, now)
        self._canary_from = self.arrived(now)

    def advance_release(self, now: datetime) -> ReleaseOutcome | None:
        before = self.desk.canary
        if before is not None:
            self.canaries.append(Canary(self._canary_from, self.arrived(now), *before))
        self._canary_from = self.arrived(now)
        outcome = self.desk.advance(now)
        if outcome is not None and outcome.kind == "promoted" and outcome.model is not None:
            number = self.desk.versions[outcome.model.name].number
            self.take_office(outcome.model, number, outcome.candidate, now)
        return outcome

    # -- what was answered -------------------------------------------------------------------------------

    def answered(self, start: int, end: int) -> tuple[np.ndarray, np.ndarray]:
        """Row losses of the answers given on rows ``start`` to ``end``, and the version that gave them."""
        raw, number = np.full(end - start, np.nan), np.zeros(end - start, dtype=np.int64)
        ends = [office.start for office in self.offices[1:]] + [end]
        for office, office_end in zip(self.offices, ends, strict=True):
            low, high = max(start, office.start), min(end, office_end)
            if low < high:
                raw[low - start : high - start] = self.scored(office.model, low, high).raw
                number[low - start : high - start] = office.number
        for canary in self.canaries:
            self._answer_share(canary, start, end, raw, number)
        return raw, number

    def _answer_share(
        self, canary: Canary, start: int, end: int, raw: np.ndarray, number: np.ndarray
    ) -> None:
        low, high = max(start, canary.start), min(end, canary.end)
        if low >= high:
            return
        keys = self.fitter.history.routing_keys(low, high)
        salt = canary.model.name
        chosen = low + np.flatnonzero([is_in_share(key, canary.share, salt) for key in keys])
        losses = self.scored(canary.model, low, high).raw
        raw[chosen - start] = losses[chosen - low]
        number[chosen - start] = self.desk.versions[canary.model.name].number


def _number(value: float) -> float | None:
    return round(value, 6) if value == value else None
