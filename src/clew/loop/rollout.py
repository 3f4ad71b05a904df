"""The staged move to another version: shadow, canary, full, or rolled back.

Pure values: which stage a rollout is in at a moment, and which requests its candidate answers. The same
functions serve a backtest and a live system, each with its own clock.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from clew.entities import RolloutStep
from clew.stats.arrays import FloatArray
from clew.stats.betting import paired_betting
from clew.stats.evidence import Evidence

ROLLBACK_ALPHA = 0.01
"""Chance that a candidate that is worse by no more than the margin is rolled back, however long it takes."""

SMALLEST_HORIZON = 100
"""Rows over which the starts of the rollback evidence are spread: a rollout is short."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """A rollout under way.

    `stage` counts through `steps`; at ``len(steps)`` it is complete. `harm` is the evidence, over labelled
    rows that matured since it began, that the candidate is worse than the champion by more than the margin.

    Examples
    --------
    >>> from datetime import UTC
    >>> from clew.declare import parse_rollout
    >>> now = datetime(2026, 3, 1, tzinfo=UTC)
    >>> rollout = Rollout.begin("version 8", parse_rollout("shadow 1d, canary 10% 1d"), now)
    >>> [rollout.advanced(now.replace(day=day)).share for day in (1, 2, 3)]
    [0.0, 0.1, 1.0]
    """

    candidate: str
    steps: tuple[RolloutStep, ...]
    stage: int
    stage_since: datetime
    harm: Evidence

    @classmethod
    def begin(cls, candidate: str, steps: tuple[RolloutStep, ...], now: datetime) -> Rollout:
        # One unit of stake for all of it: a fresh one every hundred rows would add up in a busy rollout.
        harm = paired_betting(SMALLEST_HORIZON, alpha=ROLLBACK_ALPHA, restart=False)
        return cls(candidate, steps, 0, now, harm)

    @property
    def is_complete(self) -> bool:
        return self.stage >= len(self.steps)

    @property
    def must_roll_back(self) -> bool:
        return self.harm.is_alarm

    @property
    def share(self) -> float:
        """The share of requests that the candidate answers now."""
        return 1.0 if self.is_complete else self.steps[self.stage].share

    def advanced(self, now: datetime) -> Rollout:
        """The rollout at `now`: a stage whose time is over gives way to the next."""
        rollout = self
        while not rollout.is_complete:
            over = rollout.steps[rollout.stage].length.after(rollout.stage_since)
            if over > now:
                break
            rollout = replace(rollout, stage=rollout.stage + 1, stage_since=over)
        return rollout

    def observed(self, champion: FloatArray, candidate: FloatArray, margin: float) -> Rollout:
        """Take in losses, as shares of the loss bound, of rows that both answered."""
        # Divided and not clipped into the range: clipping would favour one side, and break the promise.
        worse = (candidate - champion - margin) / (1 + margin)
        return replace(self, harm=self.harm.extended(worse)[0])
