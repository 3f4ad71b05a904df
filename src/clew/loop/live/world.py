"""The world of a running deployment: what was logged, what matured, and who answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from clew.config import NotificationSettings
from clew.entities import Decision, Finding, GateReport
from clew.errors import ClewError
from clew.loop.baselines import dummy_loss
from clew.loop.history import as_time
from clew.loop.live.fitter import LiveFitter
from clew.loop.live.rows import Added, LiveRows
from clew.loop.live.traffic import LiveTraffic
from clew.loop.policy import Policy
from clew.loop.recording import store_decision
from clew.loop.release import ReleaseDesk
from clew.loop.result import Event
from clew.loop.simulation import QUIET
from clew.loop.standing import FittedModel, Pieces, Scored
from clew.loop.watch import FeatureWatch, LabelWatch, reference_of_training
from clew.loop.world import Candidate, ReleaseOutcome
from clew.monitoring import store_finding
from clew.monitoring.reference import MERGE_DAYS
from clew.notifications import tell
from clew.storage import Store
from clew.storage.log_reading import read_since
from clew.storage.log_segments import LOG_FOLDER
from clew.storage.records import Failure, Label, Prediction


class LiveWorld:
    """Implements `clew.loop.world.World` on a running system.

    Attributes
    ----------
    positions
        How far the log was read.
    models
        By number the versions that were in office or on their way there, as the loop knows them.
    """

    def __init__(
        self,
        store: Store,
        fitter: LiveFitter,
        policy: Policy,
        desk: ReleaseDesk,
        traffic: LiveTraffic,
        notifications: NotificationSettings,
        n_models: int,
        on_event: Callable[[str, Event], None],
    ) -> None:
        self.store, self.fitter, self.policy, self.desk, self.traffic = store, fitter, policy, desk, traffic
        self._notifications, self._n_models, self._on_event = notifications, n_models, on_event
        self.positions: dict[str, int] = {}
        self.models: dict[int, FittedModel] = {}
        self.champion: FittedModel | None = None
        self.asked: list[Prediction] = []
        self.told_of_source = ""
        self.n_decisions = 0

    @property
    def deployment(self) -> str:
        return self.desk.deployment

    @property
    def rows(self) -> LiveRows:
        return self.fitter.rows

    # -- what comes in -----------------------------------------------------------------------------------

    def take_in(self, now: datetime, *, grace: timedelta) -> None:
        """Read what was logged since, and add the rows whose labels are complete.

        Where labels that should be known for `grace` are missing, the dataset's table is asked for them.
        """
        self._read_log()
        if self.rows.n_unlabelled(now, grace):
            if self.fitter.workshop.has_changed():
                self._ask_table(now)
            else:
                self.take_table(now)  # what was too young when it was read may be complete by now
        self._note(self.rows.mature(now))
        self.rows.forget_old(now)
        self.fitter.wake()

    def _read_log(self) -> None:
        records, self.positions = read_since(self.store.folder / LOG_FOLDER, self.positions)
        answers: list[Prediction | Failure] = []
        for identity, record in records:
            if record.deployment != self.deployment:
                continue
            if isinstance(record, Label):
                self.rows.take_label(record)
                continue
            answers.append(record)
            if isinstance(record, Prediction):
                self.rows.take_prediction(identity, record)
                if record.role != "shadow":
                    self.asked.append(record)
        self.traffic.observe(answers)

    def _ask_table(self, now: datetime) -> None:
        try:
            self._refresh(now)
        except ClewError as error:
            self._tell_of_source(str(error), now)
            return
        self.take_table(now)

    def _refresh(self, now: datetime) -> None:
        self.fitter.refresh(now)
        if self.told_of_source:
            self.told_of_source = ""
            name = self.policy.declaration.dataset.name
            self.decided(Decision("source back", now, f"the table of {name} can be read again", {}), None)

    def take_table(self, now: datetime) -> None:
        """Take the labels that the snapshot in use knows."""
        table = self.fitter.workshop.rows
        if table is not None:
            self._note(self.rows.take_table(table, now))
            self.rows.expect(table, now)

    def _tell_of_source(self, sentence: str, now: datetime) -> None:
        first_line = sentence.partition("\n")[0]
        if first_line != self.told_of_source:
            self.told_of_source = first_line
            self.decided(Decision("source failed", now, first_line, {}), None)

    def _note(self, added: Added) -> None:
        self.fitter.wake()
        for number, (rows, answers) in added.answers.items():
            if number in self.models:
                self.fitter.note_answers(self.models[number], rows, answers)

    # -- what the loop asks ------------------------------------------------------------------------------

    def arrived(self, now: datetime) -> int:
        return self.fitter.history.matured(now)

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
        self._refresh(now)
        return self.fitter.fit(purpose, pieces, self.matured(now))

    def scored(self, model: FittedModel, start: int, end: int) -> Scored:
        return self.fitter.scored(model, start, end)

    def watch(self, now: datetime) -> list[Finding]:
        return [*self._feature_findings(now), *self._labels.findings(self, now)]

    def _feature_findings(self, now: datetime) -> list[Finding]:
        over = now.replace(hour=0, minute=0, second=0, microsecond=0)
        ended = [record for record in self.asked if record.event_time < _microseconds(over)]
        if not ended:
            return []
        self.asked = [record for record in self.asked if record.event_time >= _microseconds(over)]
        times = np.array([record.event_time for record in ended], dtype="datetime64[us]")
        days = self._features.reference.bin_days(self.rows.features_of(ended), times)
        return self._features.findings(days, now)

    def labels_between(self, start: datetime, end: datetime) -> tuple[np.ndarray, int]:
        """The labels known of rows in a window of event time, and how many rows it has, labelled or not."""
        history, edges = self.fitter.history, (as_time(start), as_time(end))
        low, high = np.searchsorted(history.times, edges)
        first, last = (_microseconds(edge) for edge in (start, end))
        n_waiting = sum(first <= row.event_time < last for row in self.rows.waiting.values())
        return history.y[low:high], int(high - low) + n_waiting

    def forget(self, model: FittedModel) -> None:
        known = (each.name for each in self.models.values())
        if not self.desk.is_about(model) and model.name not in known:
            self.fitter.forget(model)

    def version_number(self, model: FittedModel) -> int:
        return self.desk.versions[model.name].number

    # -- what the loop says ------------------------------------------------------------------------------

    def found(self, finding: Finding) -> str:
        with self.store.write() as tx:
            identity = store_finding(tx, self.deployment, finding)
            if finding.monitor != "risk":
                tell(
                    tx,
                    self._notifications,
                    finding,
                    deployment=self.deployment,
                    identity=identity,
                    now=finding.found_at,
                )
        # A page on risk becomes an event with the decision that answers it.
        if finding.monitor != "risk" and finding.level != "chart":
            facts = {"subject": finding.subject, "n": finding.n}
            self._on_event(self.deployment, Event(finding.found_at, finding.level, finding.sentence, facts))
        return identity

    def decided(self, decision: Decision, about: FittedModel | None) -> None:
        self.n_decisions = store_decision(
            self.store,
            self._notifications,
            self.deployment,
            self.n_decisions + 1,
            decision,
            about=about,
            champion=self.champion,
        )
        if decision.kind not in QUIET:
            event = Event(decision.at, decision.kind, decision.sentence, decision.evidence)
            self._on_event(self.deployment, event)

    def announced(self, decision: Decision, report: GateReport | None) -> None:
        """What the release desk decided on its way."""
        if report is not None:
            outcomes = {check.name: check.outcome for check in report.checks}
            decision = replace(decision, evidence=decision.evidence | {"gate": outcomes})
        self.decided(decision, self.desk.model)

    # -- releases ----------------------------------------------------------------------------------------

    def take_office(self, model: FittedModel, now: datetime) -> None:
        """From now on this version answers, and new rows are held against those it learned from."""
        self.champion = model
        self.models[self.version_number(model)] = model
        history = self.fitter.history
        reference = reference_of_training(history, model)
        start = int(np.searchsorted(history.times, as_time(now - timedelta(days=max(MERGE_DAYS)))))
        recent = history.table.slice(start).select(list(history.features))
        before = reference.bin_days(recent, history.times[start:]) if recent.num_rows else None
        self._features = FeatureWatch.begin(reference, before, now, self._n_models)
        self._labels = LabelWatch.begin(history, model, now, self._n_models)

    def begin_release(
        self, candidate: Candidate, champion: FittedModel, anchor: FittedModel, now: datetime
    ) -> None:
        try:
            self._refresh(now)
        except ClewError as error:
            # The refit will say so; the release then ends as refused.
            self._tell_of_source(str(error), now)
        self.desk.begin(candidate, champion, anchor, now)

    def advance_release(self, now: datetime) -> ReleaseOutcome | None:
        outcome = self.desk.advance(now)
        model = self.desk.model
        if model is not None and model.name in self.desk.versions:
            self.models[self.version_number(model)] = model
        if outcome is not None and outcome.kind == "promoted" and outcome.model is not None:
            self.take_office(outcome.model, now)
        return outcome

    # -- life beyond a process ---------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        kept = ("positions", "models", "champion", "asked", "told_of_source", "n_decisions")
        return {name: getattr(self, name) for name in kept} | {
            "features": self._features,
            "labels": self._labels,
            "trial": self.traffic.trial,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self._features, self._labels = state["features"], state["labels"]
        self.traffic.trial = state["trial"]
        for name in ("positions", "models", "champion", "asked", "told_of_source", "n_decisions"):
            setattr(self, name, state[name])


def _microseconds(moment: datetime) -> int:
    return int(as_time(moment).astype("int64"))
