"""A release: how a candidate comes from a verdict to every request, one recorded step at a time.

The steps are ``fit`` (its recipe on everything matured), ``gate``, ``register`` and ``rollout``. They are the
steps of a job, so each is written down when it is done and can be done again without harm.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

import msgspec
import numpy as np

from clew.entities import Decision, Finding, GateReport, Json, RolloutStep, Version
from clew.errors import PackageError, TrainingFailed
from clew.loop.baselines import baseline_losses
from clew.loop.fitter import Fitter, Packaged, row_losses
from clew.loop.gate import ContractFacts, GateFacts, LeakageFacts, ServingFacts, hold_gate
from clew.loop.history import as_moment
from clew.loop.jobs import Job, advance, open_job, record, restarted
from clew.loop.policy import Policy
from clew.loop.rollout import ROLLBACK_ALPHA, Rollout
from clew.loop.standing import FittedModel, Pieces, Segment, evidence_ratio
from clew.loop.world import Candidate, ReleaseOutcome
from clew.monitoring import store_finding
from clew.registry import register
from clew.stats.arrays import FloatArray
from clew.stats.metrics import Metric, metric_named
from clew.training import Child

NEWEST_ROWS = 500
"""Decisions that flip are counted on this many of the newest rows."""


_REASONS = {
    "better": "proven better",
    "repair": "proven better since the onset",
    "fresher": "fresher at a tie",
    "returned": "better on the newest rows",
    "ordered": "as good, and ordered",
}


@dataclass(frozen=True, slots=True)
class Judged:
    """What a candidate did on the rows it is judged on; arrays of shape ``(n,)``.

    `rows` are ordinals of labelled rows, ascending; `segments` say which fit answered which of them.
    """

    rows: np.ndarray
    raw: FloatArray
    correct: np.ndarray
    confidence: FloatArray
    segments: tuple[Segment, ...]


class Traffic(Protocol):
    """What a rollout does to the requests of a deployment, and sees of them."""

    def stage(self, candidate: FittedModel, step: RolloutStep, now: datetime) -> bool:
        """Let the candidate take part as `step` says; whether all who answer follow that already."""
        ...

    def n_requests(self, candidate: FittedModel, now: datetime) -> int:
        """How many requests the candidate was asked since this was last called."""
        ...

    def paired(self, candidate: FittedModel) -> Json:
        """Of requests that both answered: ``paired``, how many, and ``otherwise``, how many not the same.

        Numbers have a ``mean_difference`` instead; empty where no request was seen.
        """
        ...

    def fault(self, candidate: FittedModel, now: datetime) -> Finding | None:
        """What is wrong with how the candidate answers, labels aside: errors, slowness, other answers."""
        ...

    def promote(self, candidate: FittedModel, decision: Decision, now: datetime) -> None:
        """From now on the candidate answers everything."""
        ...

    def withdraw(self, candidate: FittedModel, decision: Decision, now: datetime) -> None:
        """From now on the champion answers everything again."""
        ...


class ReleaseDesk:
    """Where releases of one deployment are carried out, one at a time.

    Parameters
    ----------
    deployment
        A live model, or a backtest's simulated one.
    checker
        Gives a second child, in which packages are loaded to see whether they answer.
    traffic
        The requests that rollouts act on.
    announce
        Called with each decision and with each gate's report.
    """

    def __init__(
        self,
        fitter: Fitter,
        policy: Policy,
        deployment: str,
        checker: Callable[[], Child],
        traffic: Traffic,
        announce: Callable[[Decision, GateReport | None], None],
    ) -> None:
        self.fitter, self.policy, self.deployment = fitter, policy, deployment
        self._checker, self._traffic, self._announce = checker, traffic, announce
        self.versions: dict[str, Version] = {}
        self.package_bytes: dict[str, int] = {}
        self.n_releases = 0
        self.model: FittedModel | None = None
        self._rollout: Rollout | None = None
        self._staged, self._is_late = -1, False
        self.is_held = False

    # -- the door --------------------------------------------------------------------------------------

    def begin(self, candidate: Candidate, champion: FittedModel, anchor: FittedModel, now: datetime) -> None:
        """Open the job of a release; `advance` carries it out."""
        self.n_releases += 1
        self._candidate, self._champion, self._anchor = candidate, champion, anchor
        self.model = None
        self._report: GateReport | None = None
        self._rollout, self._rollout_row = None, 0
        self._staged, self._is_late = -1, False
        key = f"{self.deployment}/release/{self.n_releases}"
        store, owner = self.fitter.store, self.fitter.thread.owner
        job = open_job(
            store, key=key, kind="release", deployment=self.deployment, step="fit", owner=owner, now=now
        )
        # A replay comes here again with the same candidate; its steps are idempotent, so it begins anew.
        self.job = job if job.step == "fit" and not job.is_over else restarted(store, job, "fit", now)

    def advance(self, now: datetime) -> ReleaseOutcome | None:
        """Move the release as far as it can go at `now`; its outcome once it is over.

        While it is held, it goes nowhere but back: a candidate that harms is withdrawn all the same.
        """
        if self.is_held and self.job.step != "roll out":
            return None
        steps = {"fit": self._fit, "gate": self._gate, "register": self._register, "roll out": self._roll_out}
        while not self.job.is_over:
            moved = advance(self.fitter.store, self.job, steps, now)
            if moved == self.job:
                return None
            self.job = moved
        kind = {"done": "promoted", "refused": "refused", "failed": "refused"}[self.job.status]
        outcome = self.job.state.get("outcome", kind)
        return ReleaseOutcome(outcome, self._candidate.name, self.model)

    def is_about(self, model: FittedModel) -> bool:
        """Whether the release under way, or the last one, judges or carries this fit."""
        if self.n_releases == 0:
            return False
        judges = [segment.model for segment in self._candidate.judged]
        involved = [*judges, self._champion, self._anchor, *([self.model] if self.model else [])]
        return any(other.name == model.name for other in involved)

    @property
    def stage_ends(self) -> datetime | None:
        """When the time of the stage under way is over; None without one."""
        return None if self.job.is_over or self._rollout is None else self._rollout.ends

    @property
    def canary(self) -> tuple[FittedModel, float] | None:
        """The candidate that answers a share of the requests now, and that share."""
        if (
            self._rollout is None
            or self.model is None
            or self._rollout.is_complete
            or not self._rollout.share
        ):
            return None
        return self.model, self._rollout.share

    # -- life beyond a process -------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """All that it knows, as values; `restore` takes it back."""
        tools = ("fitter", "policy", "_checker", "_traffic", "_announce")
        return {name: value for name, value in vars(self).items() if name not in tools}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Be where the desk was that gave this state."""
        vars(self).update(state)

    def withdraw(self, now: datetime, why: str) -> None:
        """End the release under way, if there is one: a person took the matter into their hands."""
        if self.n_releases == 0 or self.job.is_over:
            return
        self.job = self.job.ended("refused", outcome="withdrawn", why=why)
        record(self.fitter.store, self.job, now)

    # -- steps -----------------------------------------------------------------------------------------

    def _fit(self, job: Job, now: datetime) -> Job:
        candidate = self._candidate
        if candidate.model is not None:
            self.model = candidate.model
            return job.then("gate", candidate=candidate.name)
        try:
            first_row = self.fitter.history.matured(now)
            self.model = self.fitter.fit(f"release of {candidate.name}", candidate.pieces, first_row)
        except TrainingFailed as error:
            return self._refused(job, now, f"the refit failed: {str(error).partition(chr(10))[0]}")
        return job.then("gate", candidate=candidate.name, fit=self.model.name, run=self.model.run)

    def _gate(self, job: Job, now: datetime) -> Job:
        assert self.model is not None  # noqa: S101 - the step before made it
        judged = judge(self.fitter, self._candidate, self._champion, self._anchor)
        try:
            packaged = self.fitter.package(self.model, self._metrics(judged))
            serving = self.fitter.served(
                self.model, packaged, self._checker(), self.package_bytes.get(self._champion.name)
            )
        except PackageError as error:
            packaged, serving = None, ServingFacts(False, float("inf"), 0, 0, error=str(error))
        facts = gate_facts(self.fitter, self.policy, self._candidate, self.model, judged, serving,
                           self._champion, self._anchor)  # fmt: skip
        self._report = hold_gate(facts)
        self._packaged = packaged
        job = job.then("gate", judged_at=now.isoformat(), report=msgspec.to_builtins(self._report))
        if self._report.outcome != "pass" or packaged is None:
            return self._held_back(job, now, self._report)
        sentence = f"{self._candidate.name}, refitted on {self.model.n_rows:,} rows, passed the gate"
        decision = Decision("gate passed", now, sentence, {"checks": len(self._report.checks)})
        self._announce(decision, self._report)
        return job.then("register", package=packaged.digest)

    def _held_back(self, job: Job, now: datetime, report: GateReport) -> Job:
        worst = next(check for check in report.checks if check.outcome == report.outcome)
        kind = "undecided" if report.outcome == "undecided" else "refused"
        words = "waits at the gate" if kind == "undecided" else "is refused at the gate"
        sentence = f"{self._candidate.name} {words}: {worst.name}: {worst.sentence}"
        self._announce(Decision(kind, now, sentence, {"candidate": self._candidate.name}), report)
        return job.ended("refused", outcome=kind)

    def _refused(self, job: Job, now: datetime, why: str) -> Job:
        sentence = f"{self._candidate.name} is refused: {why}"
        self._announce(Decision("refused", now, sentence, {"candidate": self._candidate.name}), None)
        return job.ended("refused", outcome="refused")

    def _register(self, job: Job, now: datetime) -> Job:
        model, packaged = self.model, self._packaged
        assert model is not None  # noqa: S101 - made by the first step
        assert packaged is not None  # noqa: S101 - the gate passed
        if model.name not in self.versions:
            self.enter(model, packaged, self._report, {}, now, reason=self._candidate.why)
        declaration = self.policy.declaration
        # While harm is certain every request costs, so a repair is not kept waiting for more of them.
        n_least = 0 if self._candidate.must_be_better else declaration.min_requests
        self._rollout = Rollout.begin(model.name, declaration.rollout, now, n_least)
        self._staged, self._is_late = -1, False
        self._rollout_row = self.fitter.history.matured(now)
        return job.then("roll out", version=self.versions[model.name].number)

    def enter(
        self,
        model: FittedModel,
        packaged: Packaged,
        report: GateReport | None,
        metrics: Mapping[str, float],
        now: datetime,
        *,
        reason: str,
    ) -> Version:
        """Register a package as the deployment's next version."""
        version = register(
            self.fitter.store,
            deployment=self.deployment,
            model=self.policy.declaration.name,
            run=model.run,
            package=packaged.digest,
            flavor=packaged.flavor,
            metrics=metrics,
            gate=report,
            now=now,
            actor="loop",
            reason=reason,
        )
        self.versions[model.name] = version
        self.package_bytes[model.name] = packaged.n_bytes
        return version

    def _roll_out(self, job: Job, now: datetime) -> Job:
        assert self.model is not None  # noqa: S101 - made by the first step
        assert self._rollout is not None  # noqa: S101 - begun by the step before
        if not self._is_in_force(now):
            return job
        self._observe(now)
        finding = self._traffic.fault(self.model, now) or self._harm(now)
        if finding is not None:
            return self._rolled_back(job, now, finding)
        if self.is_held:
            return job
        before = self._rollout.asked(self._traffic.n_requests(self.model, now))
        self._rollout = before.advanced(now)
        if self._rollout.is_complete:
            return self._promoted(job, now, before)
        if self._rollout.stage == before.stage:
            return job
        version = self.versions[self.model.name].number
        step = self._rollout.steps[self._rollout.stage]
        sentence = f"version {version} goes on to {step}; {self._passed(before)}"
        facts = {"version": version, "stage": str(step), "requests": before.n_requests}
        facts |= self._traffic.paired(self.model)
        self._announce(Decision("rollout", now, sentence, facts), None)
        self._is_in_force(now)
        return job.then("roll out", stage=self._rollout.stage)

    def _is_in_force(self, now: datetime) -> bool:
        """Whether all who answer follow the stage; its time begins when they do."""
        assert self.model is not None  # noqa: S101 - see _roll_out
        assert self._rollout is not None  # noqa: S101 - see _roll_out
        if self._rollout.is_complete or self._staged == self._rollout.stage:
            return True
        if not self._traffic.stage(self.model, self._rollout.steps[self._rollout.stage], now):
            self._is_late = True
            # A version that cannot be loaded where requests are answered will never be in force.
            return self._traffic.fault(self.model, now) is not None
        if self._is_late:
            self._rollout = self._rollout.in_force(now)
        self._staged, self._is_late = self._rollout.stage, False
        return True

    def _passed(self, rollout: Rollout) -> str:
        """On what the stage that is over rests."""
        assert self.model is not None  # noqa: S101 - see _roll_out
        compared = f"rows compared so far: {self._n_compared}"
        pairs = self._traffic.paired(self.model)
        if "otherwise" in pairs:
            compared += f", requests answered otherwise: {pairs['otherwise']:,} of {pairs['paired']:,}"
        if "mean_difference" in pairs:
            compared += f", mean difference of {pairs['paired']:,} answers: {pairs['mean_difference']:.4g}"
        if rollout.is_complete or rollout.saw_enough:
            return compared
        return f"passed on time only, n = {rollout.n_requests}; {compared}"

    def _promoted(self, job: Job, now: datetime, before: Rollout) -> Job:
        assert self.model is not None  # noqa: S101 - see _roll_out
        version = self.versions[self.model.name].number
        sentence = f"champion is version {version}: {self._candidate.name}, {_REASONS[self._candidate.why]}"
        if not before.is_complete and not before.saw_enough:
            sentence += f" (passed on time only, n = {before.n_requests})"
        facts = {"version": version, "candidate": self._candidate.name, "rows": self.model.n_rows,
                 "why": self._candidate.why, "compared": self._n_compared,
                 **self._traffic.paired(self.model)}  # fmt: skip
        decision = Decision("promoted", now, sentence, facts)
        self._announce(decision, None)
        self._traffic.promote(self.model, decision, now)
        return job.ended("done", outcome="promoted")

    @property
    def _n_compared(self) -> int:
        return 0 if self._rollout is None else self._rollout.harm.n_rows

    def _observe(self, now: datetime) -> None:
        """Compare candidate and champion on what matured since the rollout began: both know it only now."""
        assert self.model is not None  # noqa: S101 - see _roll_out
        assert self._rollout is not None  # noqa: S101 - see _roll_out
        end = self.fitter.history.matured(now)
        start = max(self._rollout_row, self.model.first_row, self._champion.first_row)
        if start >= end:
            return
        ours, theirs = (self.fitter.scored(m, start, end).losses for m in (self._champion, self.model))
        self._rollout = self._rollout.observed(ours, theirs, self.policy.margin)
        self._rollout_row = end

    def _harm(self, now: datetime) -> Finding | None:
        """The finding that labels show the candidate to be worse by more than the margin, when they do."""
        assert self.model is not None  # noqa: S101 - see _roll_out
        rollout = self._rollout
        if rollout is None or not rollout.must_roll_back:
            return None
        name = f"version {self.versions[self.model.name].number}"
        ratio = evidence_ratio(rollout.harm)
        sentence = (
            f"{name} is worse than the champion by more than the margin on {self._n_compared} rows (evidence"
            f" 1:{ratio:,.0f})"
        )
        return Finding(
            monitor="rollout risk", level="ticket", subject=name, window_start=rollout.stage_since,
            window_end=now, found_at=now, value=ratio, lower=1 / ROLLBACK_ALPHA, upper=math.inf,
            n=self._n_compared, method="paired betting e-process", sentence=sentence,
        )  # fmt: skip

    def _rolled_back(self, job: Job, now: datetime, finding: Finding) -> Job:
        assert self.model is not None  # noqa: S101 - see _roll_out
        version = self.versions[self.model.name].number
        with self.fitter.store.write() as tx:
            identity = store_finding(tx, self.deployment, finding)
        why = finding.sentence.removeprefix(f"version {version} is ")
        facts = {"version": version, "n": finding.n, "monitor": finding.monitor}
        decision = Decision(
            "rolled back", now, f"version {version} is rolled back: {why}", facts, (identity,)
        )
        self._announce(decision, None)
        self._traffic.withdraw(self.model, decision, now)
        return job.ended("refused", outcome="rolled back")

    def _metrics(self, judged: Judged) -> dict[str, float]:
        if not len(judged.raw):
            return {}
        return {self.policy.metric.name: self.policy.metric.value(judged.raw)}


# -- facts for the gate ----------------------------------------------------------------------------------


def judge(fitter: Fitter, candidate: Candidate, champion: FittedModel, anchor: FittedModel) -> Judged:
    """The rows a candidate is judged on: answered by its fits, and by champion and anchor as well."""
    earliest = max(champion.first_row, anchor.first_row)
    segments = tuple(replace(s, start=max(s.start, earliest)) for s in candidate.judged if s.end > earliest)
    if not segments:
        empty = np.empty(0)
        return Judged(np.empty(0, np.int64), empty, empty, empty, ())
    scored = [fitter.scored(s.model, s.start, s.end) for s in segments]
    return Judged(
        rows=np.concatenate([np.arange(s.start, s.end) for s in segments]),
        raw=np.concatenate([s.raw for s in scored]),
        correct=np.concatenate([s.correct for s in scored]),
        confidence=np.concatenate([s.confidence for s in scored]),
        segments=segments,
    )


def gate_facts(
    fitter: Fitter,
    policy: Policy,
    candidate: Candidate,
    model: FittedModel,
    judged: Judged,
    serving: ServingFacts,
    champion: FittedModel,
    anchor: FittedModel,
) -> GateFacts:
    """What the gate looks at for a candidate that stands against a champion."""
    ours, rows = fitter.scored, judged.rows
    start, end = (int(rows[0]), int(rows[-1]) + 1) if len(rows) else (0, 0)
    picked = rows - start
    champions = ours(champion, start, end) if len(rows) else None
    is_anchor = model.name == anchor.name
    has_anchor = len(rows) > 0 and not is_anchor and anchor.name != champion.name
    anchors = ours(anchor, start, end) if has_anchor else None
    dummy, linear = judged_baselines(fitter, judged)
    newest = max(piece_end for _, piece_end in candidate.pieces)
    has_confidence = _is_known(judged.confidence)
    their_confidence = champions.confidence[picked] if champions else np.empty(0)
    has_theirs = has_confidence and _is_known(their_confidence)
    return GateFacts(
        metric=policy.metric,
        margin=policy.margin * policy.bound,
        candidate=judged.raw,
        champion=champions.raw[picked] if champions else np.empty(0),
        anchor=anchors.raw[picked] if anchors else None,
        dummy=dummy,
        linear=linear,
        minimum=minimum_losses(fitter, policy, judged),
        contract=contract_facts(fitter, model.pieces, champion.pieces),
        leakage=leakage_facts(fitter, judged),
        serving=serving,
        slices=slice_values(fitter, policy, rows),
        correct=judged.correct if has_confidence else None,
        confidence=judged.confidence if has_confidence else None,
        champion_confidence=their_confidence if has_theirs else None,
        champion_correct=champions.correct[picked] if champions and has_theirs else None,
        evidence=candidate.evidence,
        evidence_needed=candidate.evidence_needed,
        flip_share=fitter.flip_share(champion, model, max(0, newest - NEWEST_ROWS), newest),
        must_be_better=candidate.must_be_better,
        is_anchor=is_anchor,
    )


def _is_known(confidence: FloatArray) -> bool:
    """Whether there are rows, and a probability for each: some models give none."""
    return len(confidence) > 0 and not np.isnan(confidence).any()


def judged_baselines(fitter: Fitter, judged: Judged) -> tuple[FloatArray, FloatArray]:
    """Losses of the best constant and of a linear model.

    They learn from what the first of the judged fits learned from: a later one may have learned from rows
    that are judged here.
    """
    if not len(judged.rows):
        return np.empty(0), np.empty(0)
    history = fitter.history
    rows = ((int(judged.rows[0]), int(judged.rows[-1]) + 1),)
    picked = judged.rows - judged.rows[0]
    columns = [column[picked] for column in history.feature_columns(rows)]
    pieces = judged.segments[0].model.pieces
    train_y = np.concatenate([history.y[a:b] for a, b in pieces])
    train_columns = history.feature_columns(pieces)
    return baseline_losses(fitter.metric, train_columns, train_y, columns, history.y[judged.rows])


def minimum_losses(
    fitter: Fitter, policy: Policy, judged: Judged
) -> dict[str, tuple[float, Metric, FloatArray]]:
    """For each stated minimum its limit, metric, and the row losses in that metric."""
    found: dict[str, tuple[float, Metric, FloatArray]] = {}
    for name, limit in policy.declaration.minimum.items():
        metric = metric_named(name)
        if name == policy.metric.name:
            found[name] = (limit, metric, judged.raw)
            continue
        losses = [
            row_losses(metric, fitter.history.y[s.start : s.end], fitter.predictions(s.model, s.start, s.end))
            for s in judged.segments
        ]
        found[name] = (limit, metric, np.concatenate(losses) if losses else np.empty(0))
    return found


def contract_facts(fitter: Fitter, pieces: Pieces, reference: Pieces) -> ContractFacts:
    """Shares of missing values in the training rows and in those of the champion."""
    history = fitter.history
    labels = np.concatenate([history.y[a:b] for a, b in pieces])
    n_classes = None if fitter.metric.task == "regression" else len(set(labels.tolist()))
    return ContractFacts(
        n_rows=len(labels),
        missing=_missing_shares(fitter, pieces),
        reference_missing=_missing_shares(fitter, reference),
        n_classes=n_classes,
    )


def _missing_shares(fitter: Fitter, pieces: Pieces) -> dict[str, float]:
    history = fitter.history
    table = history.table.take(np.concatenate([history.rows[a:b] for a, b in pieces]))
    return {name: table.column(name).null_count / max(table.num_rows, 1) for name in history.features}


def leakage_facts(fitter: Fitter, judged: Judged, *, is_split: bool = False) -> LeakageFacts:
    """How far apart each judged fit's training rows and the rows it is judged on are.

    A split of rows that have all matured (`is_split`) must leave out the label delay. Rows judged as they
    mature need no such gap in their events: their labels came after the fit, which is what is measured.
    """
    history, dataset = fitter.history, fitter.declaration.dataset
    delay = dataset.label_delay.exact + timedelta(days=28 * dataset.label_delay.months)
    moments = history.times if is_split else history.matured_at
    gaps, n_shared, entities = [], 0, set[object]()
    for segment in judged.segments:
        learned = np.concatenate([np.arange(a, b) for a, b in segment.model.pieces])
        gaps.append(as_moment(moments[segment.start]) - as_moment(moments[learned[-1]]))
        rows = np.arange(segment.start, segment.end)
        n_shared += int(np.isin(rows, learned).sum())
        entities |= _shared_entities(fitter, learned, rows)
    needed = delay if is_split else timedelta()
    return LeakageFacts(min(gaps, default=None), needed, n_shared, len(entities))


def _shared_entities(fitter: Fitter, learned: np.ndarray, rows: np.ndarray) -> set[object]:
    entity = fitter.declaration.dataset.entity
    if entity is None:
        return set()
    values = fitter.history.column(entity, 0, len(fitter.history))
    return set(values[learned].tolist()) & set(values[rows].tolist())


def slice_values(fitter: Fitter, policy: Policy, rows: np.ndarray) -> dict[str, np.ndarray]:
    """By slice column the value of each judged row, as words."""
    start, end = (int(rows[0]), int(rows[-1]) + 1) if len(rows) else (0, 0)
    return {
        name: fitter.history.column(name, start, end)[rows - start].astype(str)
        for name in policy.declaration.slices
    }
