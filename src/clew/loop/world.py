"""What the loop of a model acts on: history in a backtest, running servers in life.

The loop asks and tells through this door only, so that the same code lives through both.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

import numpy as np

from clew.entities import Decision, Finding
from clew.loop.standing import FittedModel, Pieces, Scorer, Segment


@dataclass(frozen=True, slots=True)
class Candidate:
    """What goes to the gate: a recipe to be refitted on `pieces`, or the fixed version `model`.

    `judged` says which fits answered the rows it is judged on. `evidence` is given when it was proven
    better, and None when it takes a tie or returns.
    """

    name: str
    why: str
    pieces: Pieces
    model: FittedModel | None
    judged: tuple[Segment, ...]
    evidence: float | None
    evidence_needed: float | None
    must_be_better: bool


@dataclass(frozen=True, slots=True)
class ReleaseOutcome:
    """How a release ended: ``promoted`` with the model that answers now, ``refused`` or ``rolled back``."""

    kind: Literal["promoted", "refused", "undecided", "rolled back"]
    candidate: str
    model: FittedModel | None


class World(Scorer, Protocol):
    """What the loop of a model acts on."""

    def arrived(self, now: datetime) -> int: ...
    def matured(self, now: datetime) -> int: ...
    def time_of(self, row: int) -> datetime: ...
    def times(self, start: int, end: int) -> np.ndarray: ...
    def constant_loss(self, start: int, end: int) -> float:
        """Mean loss, as a share of the bound, of the best constant answer on these rows."""
        ...

    def fit(self, purpose: str, pieces: Pieces, now: datetime) -> FittedModel:
        """Fit on these rows; raises TrainingFailed."""
        ...

    def watch(self, now: datetime) -> list[Finding]:
        """What the features of new rows have shown against the champion's: drift, a broken contract."""
        ...

    def forget(self, model: FittedModel) -> None:
        """This fit will not be asked again, unless it was given an office."""
        ...

    def version_number(self, model: FittedModel) -> int:
        """The number of a model that is or was champion."""
        ...

    def found(self, finding: Finding) -> str:
        """Store a finding; its id."""
        ...

    def decided(self, decision: Decision, about: FittedModel | None) -> None:
        """Store a decision, and the model it is about; called before anything acts on it."""
        ...

    def begin_release(
        self, candidate: Candidate, champion: FittedModel, anchor: FittedModel, now: datetime
    ) -> None: ...
    def advance_release(self, now: datetime) -> ReleaseOutcome | None:
        """Move the release under way as far as it can go now; its outcome once it is over."""
        ...
