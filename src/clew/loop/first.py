"""The first champion: what it is worth before anybody has used it.

There are no live rows yet, so its level is measured on the newest third of its rows by a twin that learned
only from what had matured when that third began. The champion itself then learns from everything.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np

from clew.entities import Decision, GateReport, Run
from clew.errors import UsageError
from clew.loop.baselines import dummy_loss
from clew.loop.fitter import Fitter, Packaged
from clew.loop.gate import GateFacts, hold_gate
from clew.loop.held_out import HeldOut, Rehearsed
from clew.loop.held_out import rehearsed as measured
from clew.loop.history import History, as_moment
from clew.loop.policy import WINDOW_SHARE, Policy, quarter_rows, tick_length, window_rows
from clew.loop.release import (
    Judged,
    contract_facts,
    judged_baselines,
    leakage_facts,
    minimum_losses,
    slice_values,
)
from clew.loop.standing import FittedModel, Segment, upper_level
from clew.monitoring import page_alpha
from clew.training import Child

FEWEST_ROWS = 60
"""A third of fewer rows than this, with an interval, could not tell any model from a coin."""


FEWEST_KNOWN = FEWEST_ROWS // WINDOW_SHARE
"""Of these the twin learns; with a label delay nearly as long as the history there would be hardly any."""

LARGEST_MARGIN = 0.5
"""Of the loss bound, which lies at twice the largest ordinary error: beyond that, everything is a tie."""


@dataclass(frozen=True, slots=True)
class FirstChampion:
    """The first champion with its gate report, package, level and the policy that follows from it."""

    model: FittedModel
    judged: Judged
    report: GateReport
    packaged: Packaged
    reference: float
    policy: Policy


def first_champion(
    fitter: Fitter,
    checker: Child,
    now: datetime,
    *,
    purpose: str = "first champion",
    n_models: int,
    budget: float,
    fits_per_day: int | None,
) -> FirstChampion:
    """Fit twin and champion on what matured at `now`, and hold the gate.

    `purpose` is what the champion's run is said to be for.

    Raises
    ------
    UsageError
        When too few labels have matured, or came too late for a twin, or the margin is as large as the
        errors themselves.
    TrainingFailed
        When the user's function fails: without a first model there is nothing to live through.
    """
    known, cut, n = judged_rows(fitter.history, now)
    history = fitter.history
    rehearsed: list[tuple[Judged, Policy]] = []

    def rehearse(run: Run) -> Rehearsed:
        judged = _judged(fitter, fitter.twin(run, ((0, known),), cut), cut, n)
        policy = _policy(fitter, judged, n, n_models, budget, fits_per_day)
        rehearsed.append((judged, policy))
        return measured(policy.metric, HeldOut(policy.metric.name, cut, n, judged.raw))

    model = fitter.fit(purpose, ((0, n),), history.arrived(now), rehearse)
    ((judged, policy),) = rehearsed
    fitter.set_bound(policy.bound)
    metrics = {policy.metric.name: policy.metric.value(judged.raw)}
    packaged = fitter.package(model, metrics)
    report = hold_gate(_facts(fitter, checker, policy, judged, model, packaged))
    reference = upper_level(np.minimum(judged.raw / policy.bound, 1.0))
    return FirstChampion(model, judged, report, packaged, reference, policy)


def judged_rows(history: History, now: datetime) -> tuple[int, int, int]:
    """How a first model is judged: a twin learns rows 0 to the first number, and is asked the rows between
    the second and the third.

    Raises
    ------
    UsageError
        When too few labels have matured, or came too late for a twin.
    """
    n = history.matured(now)
    if n < FEWEST_ROWS:
        raise UsageError(
            f"Only {n} labels have matured by {now:%Y-%m-%d %H:%M} UTC ({len(history):,} in all); a model"
            f" needs {FEWEST_ROWS}. Add rows, or begin a backtest later, with --start."
        )
    known, cut = held_out(history, n)
    if known < FEWEST_KNOWN:
        raise UsageError(
            f"Of the {n} labels that have matured by {now:%Y-%m-%d %H:%M} UTC, {known} were known when the"
            f" newest third of their rows began, on which a first model is judged; it needs {FEWEST_KNOWN}."
            " Labels come late beside so short a history: add rows, or begin a backtest later, with --start."
        )
    return known, cut, n


def held_out(history: History, n: int) -> tuple[int, int]:
    """Of `n` rows how many the twin learns from, and where those begin that it is judged on."""
    cut = n - n // WINDOW_SHARE
    return history.matured(history.time_of(cut)), cut


def _judged(fitter: Fitter, twin: FittedModel, start: int, end: int) -> Judged:
    scored = fitter.scored(twin, start, end)
    rows = np.arange(start, end)
    segments = (Segment(start, end, twin),)
    return Judged(rows, scored.raw.copy(), scored.correct.copy(), scored.confidence.copy(), segments)


def _policy(
    fitter: Fitter, judged: Judged, n: int, n_models: int, budget: float, fits_per_day: int | None
) -> Policy:
    history, metric = fitter.history, fitter.metric
    span = as_moment(history.times[n - 1]) - as_moment(history.times[0])
    bound = metric.loss_bound(judged.raw)
    scaled = np.minimum(judged.raw / bound, 1.0)
    constant = min(1.0, dummy_loss(metric, history.y[judged.rows]) / bound)
    level = metric.value(judged.raw)
    window = window_rows(fitter.declaration, n, span)
    return Policy(
        declaration=fitter.declaration,
        metric=metric,
        window=window,
        bound=bound,
        margin=_margin(fitter, level, bound),
        skill=1 - float(scaled.mean()) / max(constant, 1e-9),
        quarter_rows=quarter_rows(n, span),
        page_alpha=page_alpha(budget, n_models, 1),
        tick=tick_length(window, n, span),
        fits_per_day=fits_per_day,
    )


def _margin(fitter: Fitter, level: float, bound: float) -> float:
    """The declared margin as a share of the loss bound, when it leaves room for anything to be worse."""
    stated, metric = fitter.declaration.margin, fitter.metric
    share = metric.loss_margin(level, stated.absolute(level)) / bound
    if share > LARGEST_MARGIN:
        raise UsageError(
            f"margin={stated} is as large as nearly all errors of {fitter.declaration.name}, whose"
            f" {metric.name} is {level:.4g}: no model could ever be worse by that much. State how much worse"
            " is still as good, such as margin='2%'."
        )
    return share


def _facts(
    fitter: Fitter,
    checker: Child,
    policy: Policy,
    judged: Judged,
    model: FittedModel,
    packaged: Packaged,
) -> GateFacts:
    dummy, linear = judged_baselines(fitter, judged)
    has_confidence = not np.isnan(judged.confidence).any()
    return GateFacts(
        metric=policy.metric,
        margin=policy.margin * policy.bound,
        candidate=judged.raw,
        champion=None,
        anchor=None,
        dummy=dummy,
        linear=linear,
        minimum=minimum_losses(fitter, policy, judged),
        contract=contract_facts(fitter, model.pieces, model.pieces),
        leakage=leakage_facts(fitter, judged, is_split=True),
        serving=fitter.served(model, packaged, checker, None),
        slices=slice_values(fitter, policy, judged.rows),
        correct=judged.correct if has_confidence else None,
        confidence=judged.confidence if has_confidence else None,
    )


def first_decision(first: FirstChampion, now: datetime) -> Decision:
    """What is said of the first champion."""
    policy = first.policy
    level = policy.metric.value(first.judged.raw)
    sentence = (
        f"first champion: {first.model.n_rows:,} rows, {policy.metric.name} {level:.3f} on the newest"
        f" {len(first.judged.rows):,} of them by a twin that had not seen them; gate: {first.report.outcome}"
    )
    return Decision("first champion", now, sentence, {"rows": first.model.n_rows, "level": round(level, 6)})
