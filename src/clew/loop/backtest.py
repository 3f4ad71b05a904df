"""The backtest: history lived through the whole loop, beside a frozen first model and a blind retrainer.

Nothing here decides. It moves a simulated clock, hands `ModelLoop` a world made of history, and adds up what
was answered.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from clew.entities import Decision, Duration, GateReport
from clew.errors import UsageError
from clew.loop.first import FirstChampion, first_champion, first_decision
from clew.loop.fitter import Fitter
from clew.loop.history import as_moment
from clew.loop.measured import band_of, counts_of, rounded, staleness_of
from clew.loop.model_loop import ModelLoop
from clew.loop.release import ReleaseDesk
from clew.loop.result import (
    BacktestResult,
    Event,
    GateRecord,
    OnProgress,
    Progress,
    StalenessPoint,
    Summary,
    VersionSpan,
    Window,
)
from clew.loop.simulation import HistoryTraffic, Simulation
from clew.loop.standing import FittedModel
from clew.registry import ensure_deployment
from clew.stats.arrays import FloatArray
from clew.stats.metrics import Metric
from clew.training import Child

DEFAULT_START = 0.3
"""Without a start, the first champion learns from the first 30 % of the labelled rows."""

MONTH = Duration(months=1)


@dataclass(frozen=True, slots=True)
class BacktestOptions:
    """What of history is lived through, and how it is reported."""

    start: datetime | None = None
    end: datetime | None = None
    window: Duration = MONTH


@dataclass(frozen=True, slots=True)
class Span:
    """The stretch of history that is lived through, and its labelled rows."""

    start: datetime
    end: datetime
    first_row: int
    last_row: int


def backtest(
    fitter: Fitter,
    checker: Child,
    deployment: str,
    options: BacktestOptions,
    *,
    n_models: int,
    budget: float,
    fits_per_day: int | None,
    on_progress: OnProgress,
) -> BacktestResult:
    """Live through history.

    Raises
    ------
    UsageError
        When the stretch holds nothing to live through.
    TrainingFailed
        When the first model cannot be fitted; a challenger's failure is only an event.
    """
    began = time.perf_counter()
    span = lived_span(fitter, options)
    on_progress(Progress(0.0, span.start, sentence="fitting the first champion"))
    ensure_deployment(
        fitter.store, deployment, "backtest", fitter.declaration.name, fitter.declaration, span.start
    )
    first = first_champion(
        fitter, checker, span.start, n_models=n_models, budget=budget, fits_per_day=fits_per_day
    )
    world = _opened(fitter, checker, deployment, first, span, n_models, on_progress)
    n_before = fitter.n_fits
    _live(world, first, span, on_progress)
    n_fits = fitter.n_fits - n_before
    blind = _blind(fitter, first, span, options.window, on_progress)
    if not fitter.is_repeatable(first.model):
        fitter.nondeterministic.append(first.model.name)
    return _result(world, first, span, options.window, blind, n_fits, time.perf_counter() - began)


def lived_span(fitter: Fitter, options: BacktestOptions) -> Span:
    """What of history is lived through; by default what comes after the first 30 % of the labelled rows."""
    history = fitter.history
    first, last = as_moment(history.times[0]), as_moment(history.times[-1])
    start = options.start or _rounded_up(
        as_moment(history.times[int(DEFAULT_START * len(history))]), first, last
    )
    end = options.end or _rounded_up(last + timedelta(microseconds=1), first, last)
    first_row, last_row = history.arrived(start), history.arrived(end)
    if first_row >= last_row:
        raise UsageError(
            f"No labelled row lies between --start {start:%Y-%m-%d %H:%M} and --end {end:%Y-%m-%d %H:%M};"
            f" labelled rows run from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M}."
        )
    return Span(start, end, first_row, last_row)


def _rounded_up(moment: datetime, first: datetime, last: datetime) -> datetime:
    """Midnight at or after the moment, where days are short beside the whole."""
    if last - first < timedelta(days=10):
        return moment
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight if midnight == moment else midnight + timedelta(days=1)


def _opened(
    fitter: Fitter,
    checker: Child,
    deployment: str,
    first: FirstChampion,
    span: Span,
    n_models: int,
    on_progress: OnProgress,
) -> Simulation:
    """The world at the first moment lived through, with version 1 in office."""
    world: Simulation

    def announce(decision: Decision, report: GateReport | None) -> None:
        world.announced(decision, report)

    def say(event: Event) -> None:
        on_progress(Progress(_share(event.time, span), event.time, event=event))

    desk = ReleaseDesk(fitter, first.policy, deployment, lambda: checker, HistoryTraffic(fitter), announce)
    world = Simulation(fitter, first.policy, desk, n_models, say)
    metrics = {first.policy.metric.name: first.policy.metric.value(first.judged.raw)}
    version = desk.enter(
        first.model, first.packaged, first.report, metrics, span.start, reason="first champion"
    )
    world.gates.append(GateRecord(span.start, first.model.name, first.report))
    world.decided(first_decision(first, span.start), first.model)
    world.take_office(first.model, version.number, "first champion", span.start)
    return world


def _live(world: Simulation, first: FirstChampion, span: Span, on_progress: OnProgress) -> None:
    loop = ModelLoop(first.policy, world, first.model, first.reference, len(world.fitter.history), span.start)
    now = span.start
    while now < span.end:
        now = min(now + first.policy.tick, span.end)
        loop.tick(now)
        on_progress(Progress(_share(now, span), now, _metric_of_late(loop, first)))


def _share(now: datetime, span: Span) -> float:
    return 0.9 * min(1.0, (now - span.start) / (span.end - span.start))


def _metric_of_late(loop: ModelLoop, first: FirstChampion) -> float | None:
    recent = loop.losses[max(0, loop.seen - first.policy.window // 2) : loop.seen]
    known = recent[~np.isnan(recent)]
    return first.policy.metric.value_of_loss(float(known.mean()) * first.policy.bound) if len(known) else None


def _blind(
    fitter: Fitter, first: FirstChampion, span: Span, window: Duration, on_progress: OnProgress
) -> list[FittedModel]:
    """One model for each window: the recipe refitted on everything that had matured when it began."""
    models = [first.model]
    windows = list(window.windows(span.start, span.end))
    for place, (start, _) in enumerate(windows[1:], start=1):
        pieces = ((0, fitter.history.matured(start)),)
        models.append(fitter.fit("blind refit", pieces, fitter.history.arrived(start)))
        done = 0.9 + 0.1 * place / len(windows)
        on_progress(Progress(done, start, sentence="refitting blindly, to compare"))
    return models


# -- adding up -------------------------------------------------------------------------------------------


def _result(
    world: Simulation,
    first: FirstChampion,
    span: Span,
    window: Duration,
    blind_models: Sequence[FittedModel],
    n_fits: int,
    seconds: float,
) -> BacktestResult:
    fitter, metric = world.fitter, first.policy.metric
    clew, numbers = world.answered(span.first_row, span.last_row)
    frozen = fitter.scored(first.model, span.first_row, span.last_row).raw
    blind = _blind_losses(fitter, blind_models, span, window)
    return BacktestResult(
        id=world.desk.deployment,
        model=fitter.declaration.name,
        metric=metric.name,
        greater_is_better=metric.greater_is_better,
        margin=fitter.declaration.margin.absolute(metric.value(first.judged.raw)),
        start=span.start,
        end=span.end,
        seed=fitter.thread.seed,
        snapshot=fitter.thread.snapshot.id,
        windows=_windows(fitter, metric, span, window, clew, frozen, blind, numbers),
        events=tuple(world.events),
        summary=Summary(
            clew=rounded(metric.value(clew)),
            frozen=rounded(metric.value(frozen)),
            blind=rounded(metric.value(blind)),
            fits=n_fits,
            blind_fits=len(blind_models) - 1,
            **counts_of(world.events),
            seconds=round(seconds, 3),
        ),
        versions=_version_spans(world),
        gates=tuple(world.gates),
        staleness=_staleness(world, metric, [first.model, *blind_models[1:]], span),
        notes=_notes(fitter),
    )


def _blind_losses(fitter: Fitter, models: Sequence[FittedModel], span: Span, window: Duration) -> FloatArray:
    losses = np.full(span.last_row - span.first_row, np.nan)
    for model, (start, end) in zip(models, window.windows(span.start, span.end), strict=True):
        low, high = fitter.history.arrived(start), fitter.history.arrived(end)
        if low < high:
            losses[low - span.first_row : high - span.first_row] = fitter.scored(model, low, high).raw
    return losses


def _windows(
    fitter: Fitter,
    metric: Metric,
    span: Span,
    window: Duration,
    clew: FloatArray,
    frozen: FloatArray,
    blind: FloatArray,
    numbers: np.ndarray,
) -> tuple[Window, ...]:
    found, version = [], int(numbers[0])
    for start, end in window.windows(span.start, span.end):
        rows = slice(*(fitter.history.arrived(edge) - span.first_row for edge in (start, end)))
        bands = [band_of(metric, losses[rows]) for losses in (clew, frozen, blind)]
        n = len(clew[rows])
        version = int(np.bincount(numbers[rows]).argmax()) if n else version
        values = [band.value for band in bands]
        found.append(Window(start, end, n, values[0], values[1], values[2], version, *bands))
    return tuple(found)


def _version_spans(world: Simulation) -> tuple[VersionSpan, ...]:
    history, offices = world.fitter.history, world.offices
    ends: list[datetime | None] = [office.since for office in offices[1:]]
    return tuple(
        VersionSpan(
            number=office.number,
            start=office.since,
            end=end,
            recipe=office.recipe,
            n_rows=office.model.n_rows,
            trained_from=history.time_of(office.model.pieces[0][0]),
            trained_to=history.time_of(office.model.pieces[-1][1] - 1),
            run=office.model.run,
        )
        for office, end in zip(offices, [*ends, None], strict=True)
    )


def _staleness(
    world: Simulation, metric: Metric, others: Sequence[FittedModel], span: Span
) -> tuple[StalenessPoint, ...]:
    """The metric by the age of a model's newest row, over all models that were asked."""
    models = {model.name: model for model in [*others, *(office.model for office in world.offices)]}
    parts = [_aged_losses(world.fitter, model, span) for model in models.values()]
    ages, losses = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    return staleness_of(metric, ages, losses)


def _aged_losses(fitter: Fitter, model: FittedModel, span: Span) -> tuple[np.ndarray, np.ndarray]:
    start = max(model.first_row, span.first_row)
    if start >= span.last_row:
        return np.empty(0), np.empty(0)
    newest = fitter.history.times[model.pieces[-1][1] - 1]
    ages = (fitter.history.times[start : span.last_row] - newest) / np.timedelta64(1, "D")
    losses = fitter.losses_so_far(model, start, span.last_row)
    known = ~np.isnan(losses)
    return ages[known], losses[known]


def _notes(fitter: Fitter) -> tuple[str, ...]:
    notes = [
        "Rows are taken as they are today: features overwritten in place make every figure too rosy.",
        "Every label is taken to have been complete after the stated delay.",
        "Latency and memory are recorded with each run and not judged: a simulated clock cannot wait.",
    ]
    if fitter.nondeterministic:
        which = ", ".join(fitter.nondeterministic[:5])
        warning = (
            "The training function is nondeterministic: on the same rows with the same seed it made another"
            f" model ({which}). Figures may differ in the next run."
        )
        notes.insert(0, warning)
    return tuple(notes)
