"""Watching the features of new rows: have they drifted, or broken, since the champion learned?"""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np

from clew.entities import Finding
from clew.loop.history import History, as_time
from clew.loop.standing import FittedModel
from clew.monitoring import ContractMonitor, DriftMonitor, ticket_alpha
from clew.monitoring.reference import MERGE_DAYS, Reference, reference_of

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


def _reference(history: History, champion: FittedModel) -> Reference:
    positions = np.concatenate([history.rows[start:end] for start, end in champion.pieces])
    rows = history.table.take(positions).select(history.features)
    times = np.concatenate([history.times[start:end] for start, end in champion.pieces])
    return reference_of(rows, times)
