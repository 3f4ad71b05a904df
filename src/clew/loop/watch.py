"""Watching new rows: have features drifted, or features and labels broken, since the champion learned?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

import numpy as np

from clew.entities import Duration, Finding
from clew.loop.history import History
from clew.loop.standing import FittedModel
from clew.monitoring import ContractMonitor, DriftMonitor, label_finding, page_alpha, ticket_alpha
from clew.monitoring.days import DayRows
from clew.monitoring.reference import MERGE_DAYS, ColumnReference, Reference, reference_of

WEEK = timedelta(days=7)
LOOKS_PER_QUARTER = 13
BROKEN_LABELS = "broken labels"
"""Monitor of findings that say: nothing may be learned from the labels of this window."""

FALSE_TICKETS_PER_QUARTER = 1.0
"""Over all models: a ticket costs a look, and one a quarter that was for nothing is bearable."""


@dataclass(slots=True)
class FeatureWatch:
    """Drift and contract of the rows after a champion's fit, held against the rows it learned from.

    Rows are counted into bins as they come; `findings` looks only at days that are over.
    """

    reference: Reference
    drift: DriftMonitor
    contract: ContractMonitor
    next_day: datetime

    @classmethod
    def begin(
        cls, reference: Reference, before: DayRows | None, since: datetime, n_models: int
    ) -> FeatureWatch:
        """Watch from `since` on.

        Windows reach back over the days `before` the champion came, or they would begin with a few hours.
        """
        alpha = ticket_alpha(FALSE_TICKETS_PER_QUARTER, n_models, n_monitors=2)
        drift = DriftMonitor.start(reference, alpha)
        today = since.replace(hour=0, minute=0, second=0, microsecond=0)
        watch = cls(reference, drift, ContractMonitor.start(reference, alpha), today)
        if before is not None:
            watch.see(before.between(today - timedelta(days=max(MERGE_DAYS)), today))
        return watch

    def see(self, days: DayRows) -> None:
        """Days that nobody is told about."""
        for place in range(len(days)):
            self.drift = self.drift.observe(days.starts(place), days.counts[place])

    def findings(self, days: DayRows, now: datetime) -> list[Finding]:
        """What the days that ended since the last look have shown; `days` may hold others too."""
        over = now.replace(hour=0, minute=0, second=0, microsecond=0)
        new = days.between(self.next_day, over)
        found: list[Finding] = []
        for place in range(len(new)):
            self.drift = self.drift.observe(new.starts(place), new.counts[place])
            self.drift, drifted = self.drift.check(new.starts(place) + timedelta(days=1))
            found += [drifted] if drifted is not None else []
        if len(new):
            self.contract, broken = self.contract.check(new, now)
            found += broken
            self.next_day = max(self.next_day, over)
        return found


class LabelledRows(Protocol):
    """Where the labels of a window come from."""

    def labels_between(self, start: datetime, end: datetime) -> tuple[np.ndarray, int]:
        """The labels known of rows in a window, shape ``(n,)``, and how many rows it has in all."""
        ...


@dataclass(slots=True)
class LabelWatch:
    """Weeks of matured labels, held against those the champion learned from.

    A week whose labels are certainly broken (one class only, unknown classes, an impossible shift) is
    reported as a page the first time; weeks that go on so are kept as charts.
    """

    reference: ColumnReference
    is_number: bool
    label_delay: Duration
    alpha: float
    start: datetime
    was_broken: bool = False

    @classmethod
    def begin(cls, history: History, champion: FittedModel, since: datetime, n_models: int) -> LabelWatch:
        labels = np.concatenate([history.y[start:end] for start, end in champion.pieces])
        times = np.concatenate([history.times[start:end] for start, end in champion.pieces])
        dataset, is_number = history.declaration.dataset, history.declaration.task == "regression"
        reference = reference_of({dataset.label: _label_values(labels, is_number)}, times).columns[0]
        start = since.replace(hour=0, minute=0, second=0, microsecond=0)
        alpha = page_alpha(1.0, n_models, 1) / LOOKS_PER_QUARTER
        return cls(reference, is_number, dataset.label_delay, alpha, start)

    def findings(self, rows: LabelledRows, now: datetime) -> list[Finding]:
        """What the weeks whose labels have all matured since the last look have shown."""
        found = []
        while self.label_delay.after(self.start + WEEK) <= now:
            finding = self._look(rows, self.start, self.start + WEEK, now)
            self.start += WEEK
            if finding is not None:
                found.append(finding)
            self.was_broken = finding is not None and finding.monitor == BROKEN_LABELS
        return found

    def _look(self, rows: LabelledRows, start: datetime, end: datetime, now: datetime) -> Finding | None:
        labels, n_rows = rows.labels_between(start, end)
        counts = np.array(self.reference.bins.counts(_label_values(labels, self.is_number)))
        counts[-1] += n_rows - len(labels)
        finding = label_finding(self.reference, counts, start, end, now, self.alpha)
        if finding is None or finding.level != "page":
            return finding
        return replace(finding, monitor=BROKEN_LABELS, level="chart" if self.was_broken else "page")


def _label_values(labels: np.ndarray, is_number: bool) -> np.ndarray:
    return labels.astype(float) if is_number else labels.astype(str).astype(object)


def reference_of_training(history: History, champion: FittedModel) -> Reference:
    """What the features of the rows looked like that a champion learned from."""
    positions = np.concatenate([history.rows[start:end] for start, end in champion.pieces])
    rows = history.table.take(positions).select(history.features)
    times = np.concatenate([history.times[start:end] for start, end in champion.pieces])
    return reference_of(rows, times)
