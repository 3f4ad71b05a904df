"""What a running model lived through, told from its records: the same values as a backtest's.

Nothing is decided or simulated here. The metric is that of the answers in the prediction log; events are the
findings and decisions that were stored, gates the reports that releases kept, versions who was champion when.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import numpy as np

from clew.datasets import get_snapshot, read_rows
from clew.entities import (
    AuditEntry,
    DatasetDeclaration,
    Duration,
    GateReport,
    ModelDeclaration,
    RowRange,
    Run,
)
from clew.errors import NotFound, UsageError
from clew.loop.acts import acts_of_people
from clew.loop.history import as_time
from clew.loop.live.answered import Answered, Ask, LogReader
from clew.loop.measured import band_of, counts_of, rounded, staleness_of
from clew.loop.policy import metric_of
from clew.loop.result import (
    Band,
    Event,
    GateRecord,
    LiveResult,
    OnProgress,
    Progress,
    StalenessPoint,
    Summary,
    VersionSpan,
    Window,
)
from clew.loop.simulation import QUIET
from clew.monitoring import list_findings
from clew.registry import audit_log, get_version, list_versions
from clew.stats.arrays import FloatArray
from clew.stats.metrics import Metric
from clew.storage import Store, Where
from clew.tracking import get_run

WINDOWS = ((timedelta(days=90), Duration(months=1)), (timedelta(days=21), Duration(exact=timedelta(weeks=1))))
"""A life at least so long is told by windows of this length; a shorter one by days."""


NOBODY = Band(None, None, None)
"""The metric of a policy that nobody lived by."""


@dataclass(frozen=True, slots=True)
class Learned:
    """What a version learned from: rows of a table, from the first one's event time to the last one's."""

    run: str
    n_rows: int
    first: datetime
    last: datetime


def lived(
    store: Store,
    deployment: str,
    ask: Ask,
    *,
    now: datetime,
    since: datetime | None = None,
    until: datetime | None = None,
    window: Duration | None = None,
    on_progress: OnProgress,
) -> LiveResult:
    """What a deployment lived through.

    Parameters
    ----------
    ask
        Has a version answer once more: the first champion, for what would have been without the loop.
    now
        By the system's clock: younger labels are not complete.
    since, until
        Event times; by default the midnight before it went live, and now.
    window
        Of the report; by default a month, and less for a young model.

    Raises
    ------
    NotFound
        When there is no such deployment, or it never went live.
    UsageError
        When no row between the two moments has a complete label yet.
    """
    began = time.perf_counter()
    declaration = _declaration(store, deployment)
    offices = _offices(store, deployment)
    first = int(offices[0].evidence["to"])
    start = since or offices[0].at.replace(hour=0, minute=0, second=0, microsecond=0)
    end = until or now
    if start >= end:
        raise UsageError(f"--since {start:%Y-%m-%d %H:%M} is not before --until {end:%Y-%m-%d %H:%M}.")
    rows = LogReader(store, deployment, declaration, first, now, ask).read(start, end, on_progress)
    on_progress(Progress(0.95, sentence="adding up"))
    if not rows.is_known.any():
        raise _nothing_known(declaration, rows, start, end)
    metric = metric_of(declaration)
    numbers = {first, *(office.evidence["to"] for office in offices), *np.unique(rows.versions).tolist()}
    learned = _learned_by(store, deployment, sorted(numbers), declaration.dataset)
    is_from_its_start, is_until_now = start <= offices[0].at, end >= now
    part = None if is_from_its_start else start, None if is_until_now else end
    n_fits = _n_fits(store, deployment, *part, declaration.dataset)
    events = _events(store, deployment, start, end)
    return LiveResult(
        id=deployment,
        model=declaration.name,
        metric=metric.name,
        greater_is_better=metric.greater_is_better,
        margin=declaration.margin.absolute(_level(store, deployment, first, metric, rows)),
        start=start,
        end=end,
        windows=_windows(metric, rows, window or _fitting_window(end - start), start, end),
        events=events,
        summary=_summary(metric, rows, events, n_fits, time.perf_counter() - began),
        versions=_version_spans(offices, learned, start, end),
        gates=_gates(store, deployment, start, end),
        staleness=_staleness(metric, rows, first, learned),
        notes=_notes(rows, first),
        n_answered=len(rows.times),
        counts=_counts(rows),
    )


def _declaration(store: Store, deployment: str) -> ModelDeclaration:
    list_versions(store, deployment)  # says which deployments there are, when this one is none
    with store.read() as reader:
        row = reader.get("deployments", name=deployment)
    if row is None or row["kind"] != "live":
        raise NotFound(
            f"{deployment!r} is a backtest, and nobody was answered by it; see: clew why {deployment}"
        )
    return msgspec.convert(row["declaration"], ModelDeclaration)


def _offices(store: Store, deployment: str) -> list[AuditEntry]:
    """Every move of the champion, the first one first."""
    entries = reversed(audit_log(store, deployment, limit=None))
    found = [
        entry for entry in entries if entry.action == "move champion" and entry.evidence["to"] is not None
    ]
    if not found:
        raise NotFound(
            f"{deployment!r} never went live: no version of it was ever champion. Start it: clew up"
        )
    return found


def _nothing_known(
    declaration: ModelDeclaration, rows: Answered, start: datetime, end: datetime
) -> UsageError:
    between = f"between {start:%Y-%m-%d %H:%M} and {end:%Y-%m-%d %H:%M} UTC"
    if not len(rows.times):
        return UsageError(f"No row of {declaration.name} was asked about {between}.")
    return UsageError(
        f"Of what {declaration.name} answered {between} ({len(rows.times):,} in all) no label is known and"
        f" complete yet: that takes {declaration.dataset.label_delay}."
    )


def _level(store: Store, deployment: str, first: int, metric: Metric, rows: Answered) -> float:
    """What the first champion was worth when it went live: relative margins are shares of it."""
    known = get_version(store, deployment, first).metrics.get(metric.name)
    return metric.value(rows.losses[rows.is_known]) if known is None else known


def _fitting_window(life: timedelta) -> Duration:
    return next((length for least, length in WINDOWS if life >= least), Duration(exact=timedelta(days=1)))


# -- adding up -------------------------------------------------------------------------------------------


def _summary(metric: Metric, rows: Answered, events: Sequence[Event], n_fits: int, seconds: float) -> Summary:
    return Summary(
        clew=rounded(metric.value(rows.losses[rows.is_known])),
        frozen=_mean(metric, rows.frozen),
        blind=None,
        fits=n_fits,
        blind_fits=None,
        **counts_of(events),
        seconds=round(seconds, 3),
    )


def _windows(
    metric: Metric, rows: Answered, window: Duration, start: datetime, end: datetime
) -> tuple[Window, ...]:
    times, versions = rows.times[rows.is_known], rows.versions[rows.is_known]
    losses, frozen = rows.losses[rows.is_known], rows.frozen[rows.is_known]
    found, version = [], int(rows.versions[0])
    for low, high in window.windows(start, end):
        here = slice(*np.searchsorted(times, [as_time(low), as_time(high)]))
        n = len(times[here])
        version = int(np.bincount(versions[here]).argmax()) if n else version
        clew, first = band_of(metric, losses[here]), band_of(metric, _known(frozen[here]))
        found.append(Window(low, high, n, clew.value, first.value, None, version, clew, first, NOBODY))
    return tuple(found)


def _known(losses: FloatArray) -> FloatArray:
    known: FloatArray = losses[~np.isnan(losses)]
    return known


def _mean(metric: Metric, losses: FloatArray) -> float | None:
    known = _known(losses)
    return rounded(metric.value(known)) if len(known) else None


def _counts(rows: Answered) -> dict[str, int]:
    numbers, counts = np.unique(rows.versions, return_counts=True)
    return {str(number): n for number, n in zip(numbers.tolist(), counts.tolist(), strict=True)}


def _staleness(
    metric: Metric, rows: Answered, first: int, learned: Mapping[int, Learned]
) -> tuple[StalenessPoint, ...]:
    """By age what was answered, and what the first champion would have answered in place of others."""
    replaced = rows.is_known & (rows.versions != first) & ~np.isnan(rows.frozen)
    newest = {number: as_time(each.last) for number, each in learned.items()}
    theirs = np.array([newest[number] for number in rows.versions.tolist()], dtype="datetime64[us]")
    ages = np.concatenate([rows.times - theirs, rows.times[replaced] - newest[first]]) / np.timedelta64(
        1, "D"
    )
    losses = np.concatenate([rows.losses, rows.frozen[replaced]])
    return staleness_of(metric, ages[~np.isnan(losses)], _known(losses))


# -- records ---------------------------------------------------------------------------------------------


def _events(store: Store, deployment: str, start: datetime, end: datetime) -> tuple[Event, ...]:
    """What was seen and decided, as it was announced when it happened."""
    # A page on risk is told by the decision that answers it, and a chart by nobody.
    seen = [
        Event(each.found_at, each.level, each.sentence, {"subject": each.subject, "n": each.n})
        for each in list_findings(store, deployment, since=start)
        if each.monitor != "risk" and each.level != "chart"
    ]
    with store.read() as reader:
        rows = reader.find("decisions", {"deployment": deployment, "at": Where(">=", start)}, ["sequence"])
        acts = acts_of_people(reader, deployment)
    decided = [
        Event(row["at"], row["kind"], row["sentence"], row["evidence"] or {})
        for row in rows
        if row["kind"] not in QUIET
    ]
    said = [Event(act.at, act.kind, act.sentence, act.evidence) for act in acts if act.at >= start]
    return tuple(sorted((e for e in [*seen, *said, *decided] if e.time <= end), key=lambda event: event.time))


def _gates(store: Store, deployment: str, start: datetime, end: datetime) -> tuple[GateRecord, ...]:
    """The gates of releases, and those that versions met which came another way."""
    with store.read() as reader:
        jobs = [
            row["state"] or {} for row in reader.find("jobs", {"deployment": deployment, "kind": "release"})
        ]
        versions = reader.find("versions", {"deployment": deployment}, ["number"])
    held = [state for state in jobs if "report" in state]
    released = {state.get("run") for state in held}
    records = [
        GateRecord(datetime.fromisoformat(state["judged_at"]), state["candidate"], _report(state["report"]))
        for state in held
    ]
    records += [
        GateRecord(row["created_at"], f"version {row['number']}", _report(row["gate"]))
        for row in versions
        if row["gate"] is not None and row["run"] not in released
    ]
    within = [record for record in records if start <= record.time <= end]
    return tuple(sorted(within, key=lambda record: record.time))


def _report(plain: Mapping[str, Any]) -> GateReport:
    return msgspec.convert(plain, GateReport)


def _version_spans(
    offices: Sequence[AuditEntry], learned: Mapping[int, Learned], start: datetime, end: datetime
) -> tuple[VersionSpan, ...]:
    ends: list[datetime | None] = [office.at for office in offices[1:]]
    spans = zip(offices, [*ends, None], strict=True)
    return tuple(
        _span(office, max(office.at, start), None if left is None or left >= end else left, learned)
        for office, left in spans
        if office.at < end and (left is None or left > start)
    )


def _span(
    office: AuditEntry, start: datetime, end: datetime | None, learned: Mapping[int, Learned]
) -> VersionSpan:
    number = int(office.evidence["to"])
    basis = learned[number]
    by_person = f"chosen by {office.actor}: {office.reason}"
    recipe = office.evidence.get("candidate") or (office.reason if office.actor == "loop" else by_person)
    n_rows = int(office.evidence.get("rows", basis.n_rows))
    return VersionSpan(number, start, end, recipe, n_rows, basis.first, basis.last, basis.run)


def _learned_by(
    store: Store, deployment: str, numbers: Sequence[int], dataset: DatasetDeclaration
) -> dict[int, Learned]:
    runs = {number: get_version(store, deployment, number).run for number in numbers}
    return {number: _learned(store, get_run(store, run), dataset) for number, run in runs.items()}


def _learned(store: Store, run: Run, dataset: DatasetDeclaration) -> Learned:
    snapshot = get_snapshot(store, run.snapshot)

    def time_of(row: int) -> datetime:
        moment: datetime = (
            read_rows(store, snapshot, RowRange(row, row + 1), [dataset.time]).column(0)[0].as_py()
        )
        return moment.astimezone(UTC)

    first, last = time_of(run.rows[0].start), time_of(run.rows[-1].end - 1)
    return Learned(run.id, sum(each.end - each.start for each in run.rows), first, last)


def _n_fits(
    store: Store, deployment: str, since: datetime | None, until: datetime | None, dataset: DatasetDeclaration
) -> int:
    """Fits after the first champion's; of a part of a life those whose newest row lies in it.

    A run says when it really began, which beside a replayed clock says nothing.
    """
    with store.read() as reader:
        rows = reader.find("runs", {"key": Where("prefix", f"live/{deployment}/")})
    fits = [row["id"] for row in rows if row["purpose"] != "first champion"]
    if since is None and until is None:
        return len(fits)
    newest = [_learned(store, get_run(store, each), dataset).last for each in fits]
    return sum((since is None or since <= each) and (until is None or each < until) for each in newest)


def _notes(rows: Answered, first: int) -> tuple[str, ...]:
    n, n_known = len(rows.times), int(rows.is_known.sum())
    counted = (
        f"The metric counts the {n_known:,} of {n:,} answered rows whose label is known and complete, each by"
        " the last answer before that."
    )
    frozen = (
        f"The frozen first model, version {first}, was asked afterwards, about the features that were logged;"
        " where it answered itself, that answer counts."
    )
    notes = [counted, frozen, "Nobody lived by refitting blindly, so nothing is said of it; a backtest does."]
    n_silent = int((rows.is_known & np.isnan(rows.frozen)).sum())
    if n_silent:
        notes.append(f"It cannot answer {n_silent:,} of these rows; they are missing from its line.")
    return tuple(notes)
