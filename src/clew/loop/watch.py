"""Watching new rows: have features drifted, or features and labels broken, since the champion learned?"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np

from clew.entities import Finding
from clew.loop.history import History, as_time
from clew.loop.standing import FittedModel
from clew.monitoring import ContractMonitor, DriftMonitor, label_finding, page_alpha, ticket_alpha
from clew.monitoring.reference import MERGE_DAYS, Reference, reference_of

WEEK = timedelta(days=7)
LOOKS_PER_QUARTER = 13
BROKEN_LABELS = "broken labels"
"""Monitor of findings that say: nothing may be learned from the labels of this window."""

FALSE_TICKETS_PER_QUARTER = 1.0
"""Over all models: a ticket costs a look, and one a quarter that was for nothing is bearable."""


class FeatureWatch:
    """Drift and contract of the rows after a champion's fit, held against the rows it learned from.

    All rows to come are counted into bins at once, day by day; `findings` looks only at days that are over.
    """

    def __init__(self, history: History, champion: FittedModel, since: datetime, n_models: int) -> None:
        self._reference = _reference(history, champion)
        alpha = ticket_alpha(FALSE_TICKETS_PER_QUARTER, n_models, n_monitors=2)
        self._drift = DriftMonitor.start(self._reference, alpha)
        self._contract = ContractMonitor.start(self._reference, alpha)
        times = history.table.column(history.declaration.dataset.time).to_numpy().astype("datetime64[us]")
        # Windows reach back over the days before the champion came, or they would begin with a few hours.
        start = int(np.searchsorted(times, as_time(since) - np.timedelta64(max(MERGE_DAYS), "D")))
        self._days = self._reference.bin_days(
            history.table.slice(start).select(history.features), times[start:]
        )
        self._next = since.replace(hour=0, minute=0, second=0, microsecond=0)
        for place in range(len(self._days)):
            if self._days.starts(place) < self._next:
                self._drift = self._drift.observe(self._days.starts(place), self._days.counts[place])

    def findings(self, now: datetime) -> list[Finding]:
        """What the days that ended since the last look have shown."""
        over = now.replace(hour=0, minute=0, second=0, microsecond=0)
        days = self._days.between(self._next, over)
        found: list[Finding] = []
        for place in range(len(days)):
            self._drift = self._drift.observe(days.starts(place), days.counts[place])
            self._drift, drifted = self._drift.check(days.starts(place) + timedelta(days=1))
            found += [drifted] if drifted is not None else []
        if len(days):
            self._contract, broken = self._contract.check(days, now)
            found += broken
            self._next = max(self._next, over)
        return found


class LabelWatch:
    """Weeks of matured labels, held against those the champion learned from.

    A week whose labels are certainly broken (one class only, unknown classes, an impossible shift) is
    reported as a page the first time; weeks that go on so are kept as charts.
    """

    def __init__(self, history: History, champion: FittedModel, since: datetime, n_models: int) -> None:
        self._history, self._alpha = history, page_alpha(1.0, n_models, 1) / LOOKS_PER_QUARTER
        self._is_number = history.declaration.task == "regression"
        labels = np.concatenate([history.y[start:end] for start, end in champion.pieces])
        times = np.concatenate([history.times[start:end] for start, end in champion.pieces])
        name = history.declaration.dataset.label
        self._reference = reference_of({name: self._values(labels)}, times).columns[0]
        table_times = history.table.column(history.declaration.dataset.time).to_numpy()
        self._table_times = table_times.astype("datetime64[us]")
        self._start = since.replace(hour=0, minute=0, second=0, microsecond=0)
        self._was_broken = False

    def findings(self, now: datetime) -> list[Finding]:
        """What the weeks whose labels have all matured since the last look have shown."""
        found = []
        delay = self._history.declaration.dataset.label_delay
        while delay.after(self._start + WEEK) <= now:
            finding = self._look(self._start, self._start + WEEK, now)
            self._start += WEEK
            if finding is not None:
                found.append(finding)
            self._was_broken = finding is not None and finding.monitor == BROKEN_LABELS
        return found

    def _look(self, start: datetime, end: datetime, now: datetime) -> Finding | None:
        low, high = self._history.arrived(start), self._history.arrived(end)
        counts = np.array(self._reference.bins.counts(self._values(self._history.y[low:high])))
        n_rows = int(np.diff(np.searchsorted(self._table_times, [as_time(start), as_time(end)]))[0])
        counts[-1] += n_rows - (high - low)
        finding = label_finding(self._reference, counts, start, end, now, self._alpha)
        if finding is None or finding.level != "page":
            return finding
        return replace(finding, monitor=BROKEN_LABELS, level="chart" if self._was_broken else "page")

    def _values(self, labels: np.ndarray) -> np.ndarray:
        return labels.astype(float) if self._is_number else labels.astype(str).astype(object)


def _reference(history: History, champion: FittedModel) -> Reference:
    positions = np.concatenate([history.rows[start:end] for start, end in champion.pieces])
    rows = history.table.take(positions).select(history.features)
    times = np.concatenate([history.times[start:end] for start, end in champion.pieces])
    return reference_of(rows, times)
