"""What requests show of a candidate before labels come: that it fails, is slow, or answers otherwise.

Pure values: they take in what was logged of requests that both the champion and the candidate were asked, and
say when the candidate is certainly at fault, however often one looks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from clew.entities import Finding
from clew.loop.rollout import ROLLBACK_ALPHA, SMALLEST_HORIZON
from clew.loop.standing import evidence_ratio
from clew.stats.betting import paired_betting
from clew.stats.evidence import Evidence, new_evidence

TOLERATED_FAILURES = 0.01
"""A candidate may fail in one request of a hundred more than the champion: single faults of a machine."""

SLOW_FACTOR, SLOW_MICROSECONDS = 2.0, 20_000
"""A request is slow when the candidate takes twice the champion's time and 20 ms more: less than that nobody
who waits for an answer over a network notices."""

SLOW_BETS = (0.1, 0.2, 0.4, 0.8, 1.6)
"""On "most requests are slow": gains lie between -1/2 and 1/2, so bets may go up to 2."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request that a candidate was asked beside the champion; None for microseconds when it failed.

    `difference` is how far apart the two answers lie when both answered: of numbers in their unit, of labels
    1 for another one.
    """

    champion_microseconds: int | None
    candidate_microseconds: int | None
    error: str = ""
    difference: float = 0.0


@dataclass(frozen=True, slots=True)
class TrialPeriod:
    """What a rollout's requests have shown so far.

    Attributes
    ----------
    n_requests
        Requests that the candidate was asked.
    n_failed, last_error
        Of these it failed in so many, the last time with this.
    failing, slow
        Evidence that it fails more often than the champion and is tolerated, and that most of its answers
        are slow.
    champion_microseconds, candidate_microseconds
        Sums over requests that both answered, `n_timed` of them.
    difference
        Sum of the differences of these answers.

    Examples
    --------
    >>> period = TrialPeriod.begin().after([Request(30, None, "ValueError: no")] * 40)
    >>> from datetime import UTC
    >>> period.fault("version 8", datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 2, tzinfo=UTC)).sentence
    'version 8 failed in 40 of 40 requests that the champion answered; the last time: ValueError: no'
    """

    n_requests: int
    n_failed: int
    last_error: str
    failing: Evidence
    slow: Evidence
    n_timed: int
    champion_microseconds: int
    candidate_microseconds: int
    difference: float = 0.0

    @classmethod
    def begin(cls) -> TrialPeriod:
        failing = paired_betting(SMALLEST_HORIZON, alpha=ROLLBACK_ALPHA, restart=False)
        slow = new_evidence(SLOW_BETS, SMALLEST_HORIZON, ROLLBACK_ALPHA, -0.5, 0.5, restart=False)
        return cls(0, 0, "", failing, slow, 0, 0, 0)

    def after(self, requests: Iterable[Request]) -> TrialPeriod:
        """The period with these requests taken in, in their order."""
        asked = list(requests)
        if not asked:
            return self
        failed = np.array([each.candidate_microseconds is None for each in asked], float)
        theirs = np.array([each.champion_microseconds is None for each in asked], float)
        # Divided and not clipped, as for labels: clipping would favour one side.
        excess = (failed - theirs - TOLERATED_FAILURES) / (1 + TOLERATED_FAILURES)
        timed = [
            (each.champion_microseconds, each.candidate_microseconds)
            for each in asked
            if each.champion_microseconds is not None and each.candidate_microseconds is not None
        ]
        is_slow = [new > SLOW_FACTOR * old + SLOW_MICROSECONDS for old, new in timed]
        errors = [each.error for each in asked if each.error]
        return replace(
            self,
            n_requests=self.n_requests + len(asked),
            n_failed=self.n_failed + int(failed.sum()),
            last_error=errors[-1] if errors else self.last_error,
            failing=self.failing.extended(excess)[0],
            slow=self.slow.extended(np.array(is_slow, float) - 0.5)[0],
            n_timed=self.n_timed + len(timed),
            champion_microseconds=self.champion_microseconds + sum(old for old, _ in timed),
            candidate_microseconds=self.candidate_microseconds + sum(new for _, new in timed),
            difference=self.difference + sum(each.difference for each in asked),
        )

    def fault(self, name: str, since: datetime, now: datetime) -> Finding | None:
        """What is certainly wrong with the candidate, or None as long as nothing is."""
        if self.failing.is_alarm:
            sentence = (
                f"{name} failed in {self.n_failed} of {self.n_requests} requests that the champion answered;"
                f" the last time: {self.last_error}"
            )
            return fault_finding("rollout errors", name, sentence, self.failing, self.n_requests, since, now)
        if self.slow.is_alarm:
            mine, theirs = (
                total / max(self.n_timed, 1) / 1000
                for total in (self.candidate_microseconds, self.champion_microseconds)
            )
            sentence = (
                f"{name} takes {mine:.1f} ms an answer where the champion takes {theirs:.1f} ms, over"
                f" {self.n_timed} requests"
            )
            return fault_finding("rollout latency", name, sentence, self.slow, self.n_timed, since, now)
        return None


def fault_finding(
    monitor: str,
    name: str,
    sentence: str,
    evidence: Evidence | None,
    n: int,
    since: datetime,
    now: datetime,
) -> Finding:
    """A finding about a candidate; without `evidence` a single look was proof enough."""
    return Finding(
        monitor=monitor,
        level="ticket",
        subject=name,
        window_start=since,
        window_end=now,
        found_at=now,
        value=evidence_ratio(evidence) if evidence else float(n),
        lower=1 / ROLLBACK_ALPHA if evidence else float(n),
        upper=float("inf"),
        n=n,
        method="betting e-process over requests" if evidence else "comparison",
        sentence=sentence,
    )
