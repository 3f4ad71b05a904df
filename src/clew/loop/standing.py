"""Who competes for the champion's place, and what each has shown so far.

A contestant is a *recipe* (which rows to learn from) with its chain of fits, or one fixed version that once
was champion. It is scored only on rows whose event came after its fit, so no row is ever used twice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

import numpy as np

from clew.loop.policy import EVIDENCE_SPREAD, REFERENCE_CONFIDENCE, Policy
from clew.stats.arrays import FloatArray
from clew.stats.betting import paired_betting
from clew.stats.evidence import Evidence
from clew.stats.intervals import mean_interval

Pieces: TypeAlias = tuple[tuple[int, int], ...]
"""Runs of labelled rows, each from a first (inclusive) to a last (exclusive) ordinal, in order."""

Origin: TypeAlias = Literal["recipe", "onset", "retired", "anchor", "ordered"]


@dataclass(frozen=True, slots=True)
class FittedModel:
    """A fit that can answer: `first_row` is the first labelled row whose event came after it."""

    name: str
    run: str
    pieces: Pieces
    first_row: int

    @property
    def n_rows(self) -> int:
        return sum(end - start for start, end in self.pieces)


@dataclass(frozen=True, slots=True)
class Scored:
    """How a model did on a run of rows, arrays of shape ``(n,)``.

    `losses` are shares of the loss bound, `raw` are in the metric's own row loss. `confidence` is the
    probability given to the predicted class, NaN for models without probabilities.
    """

    losses: FloatArray
    raw: FloatArray
    correct: np.ndarray
    confidence: FloatArray


class Scorer(Protocol):
    """Answers how a model did on rows that have matured."""

    def scored(self, model: FittedModel, start: int, end: int) -> Scored: ...


@dataclass(frozen=True, slots=True)
class Segment:
    """Rows that one fit of a contestant's chain answered."""

    start: int
    end: int
    model: FittedModel


@dataclass(slots=True)
class Contestant:
    """One who competes. `length` is a recipe's number of newest rows (infinite: all); None for a version."""

    name: str
    origin: Origin
    evidence: Evidence
    losses: FloatArray
    length: float | None = None
    fits: list[FittedModel] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)
    n_scored: int = 0
    waits_until: int = 0
    n_refusals: int = 0
    n_looks: int = 0

    @property
    def model(self) -> FittedModel:
        return self.fits[-1]

    def score(self, start: int, end: int, scorer: Scorer) -> None:
        """Take in matured rows ``start`` to ``end``: each is answered by the newest fit made before it."""
        for place, fit in enumerate(self.fits):
            until = self.fits[place + 1].first_row if place + 1 < len(self.fits) else end
            low, high = max(start, fit.first_row), min(end, until)
            if low < high:
                self.losses[low:high] = scorer.scored(fit, low, high).losses
                self.segments.append(Segment(low, high, fit))
        while len(self.fits) > 1 and self.fits[1].first_row <= end:
            self.fits.pop(0)

    def bet_against(self, champion: FloatArray, start: int, end: int) -> None:
        """Let evidence grow on rows that both it and the champion answered."""
        gains = champion[start:end] - self.losses[start:end]
        known = gains[~np.isnan(gains)]
        self.n_scored += len(known)
        self.evidence = self.evidence.extended(known)[0]

    def begin_again(self, policy: Policy) -> None:
        """Forget the evidence: there is a new champion to beat."""
        self.evidence, self.n_scored = fresh_evidence(policy), 0

    def answered(self, start: int, end: int) -> tuple[Segment, ...]:
        """Which fit answered which of the rows ``start`` to ``end``."""
        cut = (Segment(max(s.start, start), min(s.end, end), s.model) for s in self.segments)
        return tuple(segment for segment in cut if segment.start < segment.end)


def fresh_evidence(policy: Policy) -> Evidence:
    return paired_betting(max(1, policy.rows(EVIDENCE_SPREAD)))


def evidence_ratio(evidence: Evidence) -> float:
    """Evidence as the r of "1:r"; capped, since beyond a million nothing is gained by more digits."""
    return math.exp(min(evidence.log_evidence, math.log(1e6)))


def upper_level(losses: FloatArray) -> float:
    """The 99 % upper bound of a healthy mean loss, as a share of the loss bound; 1 when nothing is known."""
    return min(1.0, mean_interval(losses, REFERENCE_CONFIDENCE).upper) if len(losses) else 1.0


def newest_pieces(matured: int, length: float, quarantined: Sequence[tuple[int, int]]) -> Pieces:
    """The newest `length` rows before `matured`, leaving out quarantined runs.

    Examples
    --------
    >>> newest_pieces(1000, 300, [])
    ((700, 1000),)
    >>> newest_pieces(1000, 300, [(800, 900)])
    ((600, 800), (900, 1000))
    >>> newest_pieces(1000, float("inf"), [(0, 100)])
    ((100, 1000),)
    """
    pieces: list[tuple[int, int]] = []
    end, wanted = matured, length
    # The latest end first, so that a run within a longer one cannot cut into it.
    for bad_start, bad_end in [*sorted(quarantined, key=lambda bad: bad[1], reverse=True), (0, 0)]:
        if wanted <= 0:
            break
        start = min(end, bad_end)
        if wanted < end - start:
            start = end - int(wanted)
        if start < end:
            pieces.append((start, end))
            wanted -= end - start
        end = min(end, bad_start)
    return tuple(reversed(pieces))


def n_new_rows(pieces: Pieces, old: Pieces) -> int:
    """How many rows of `pieces` are not in `old`.

    Examples
    --------
    >>> n_new_rows(((600, 800), (900, 1000)), old=((500, 750),))
    150
    """
    kept = sum(max(0, min(b, d) - max(a, c)) for a, b in pieces for c, d in old)
    return sum(b - a for a, b in pieces) - kept
