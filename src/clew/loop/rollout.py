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

MOST_EXTENSIONS = 3
"""A stage that saw too few requests is lengthened by its own length this often; then time alone decides, as a
deployment that is hardly used would otherwise never change."""

SMALLEST_HORIZON = 100
"""Rows over which the starts of the rollback evidence are spread: a rollout is short."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """A rollout under way.

    `stage` counts through `steps`; at ``len(steps)`` it is complete. `harm` is the evidence, over labelled
    rows that matured since it began, that the candidate is worse than the champion by more than the margin.
    `n_requests` are those that the candidate was asked in this stage, of `min_requests` that it needs;
    `n_extensions` says how often the stage was lengthened for want of them.

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
    min_requests: int = 0
    n_requests: int = 0
    n_extensions: int = 0

    @classmethod
    def begin(
        cls, candidate: str, steps: tuple[RolloutStep, ...], now: datetime, min_requests: int = 0
    ) -> Rollout:
        # One unit of stake for all of it: a fresh one every hundred rows would add up in a busy rollout.
        harm = paired_betting(SMALLEST_HORIZON, alpha=ROLLBACK_ALPHA, restart=False)
        return cls(candidate, steps, 0, now, harm, min_requests)

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

    @property
    def ends(self) -> datetime | None:
        """When the time of the stage is over, as far as is known now; None when there is none left."""
        if self.is_complete:
            return None
        over = self.stage_since
        for _ in range(1 + self.n_extensions):
            over = self.steps[self.stage].length.after(over)
        return over

    @property
    def saw_enough(self) -> bool:
        """Whether the candidate was asked often enough in this stage to say anything of it."""
        return self.n_requests >= self.min_requests

    def asked(self, n_requests: int) -> Rollout:
        """Count requests that the candidate was asked in this stage."""
        return replace(self, n_requests=self.n_requests + n_requests)

    def advanced(self, now: datetime) -> Rollout:
        """The rollout at `now`: a stage whose time is over gives way to the next, or is lengthened.

        Examples
        --------
        >>> from datetime import UTC
        >>> from clew.declare import parse_rollout
        >>> now = datetime(2026, 3, 1, tzinfo=UTC)
        >>> rollout = Rollout.begin("version 8", parse_rollout("shadow 1d"), now, min_requests=20)
        >>> [rollout.asked(2).advanced(now.replace(day=day)).is_complete for day in (2, 3, 4, 5)]
        [False, False, False, True]
        >>> rollout.asked(20).advanced(now.replace(day=2)).is_complete
        True
        """
        rollout = self
        while (over := rollout.ends) is not None and over <= now:
            if (
                not rollout.saw_enough
                and rollout.n_extensions < MOST_EXTENSIONS
                and over > rollout.stage_since
            ):
                rollout = replace(rollout, n_extensions=rollout.n_extensions + 1)
            else:
                rollout = rollout._in_next_stage(over)
        return rollout

    def _in_next_stage(self, since: datetime) -> Rollout:
        return replace(self, stage=self.stage + 1, stage_since=since, n_requests=0, n_extensions=0)

    def in_force(self, since: datetime) -> Rollout:
        """The stage counts from the moment in which all who answer follow it."""
        return replace(self, stage_since=max(self.stage_since, since))

    def observed(self, champion: FloatArray, candidate: FloatArray, margin: float) -> Rollout:
        """Take in losses, as shares of the loss bound, of rows that both answered."""
        # Divided and not clipped into the range: clipping would favour one side, and break the promise.
        worse = (candidate - champion - margin) / (1 + margin)
        return replace(self, harm=self.harm.extended(worse)[0])
