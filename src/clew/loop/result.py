"""What a backtest, a life and a try hand back: plain values for the command line, the report and programs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

from clew.entities import GateReport, Json, Run, Version
from clew.tracking import OpenedFile


@dataclass(frozen=True, slots=True)
class Event:
    """Something the loop saw or did, in one sentence; `evidence` holds the numbers behind it."""

    time: datetime
    kind: str
    sentence: str
    evidence: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Band:
    """A metric in a window with its 95 % interval; all None when no labelled row fell into it."""

    value: float | None
    lower: float | None
    upper: float | None


@dataclass(frozen=True, slots=True)
class Window:
    """A window of the report: the metric of each policy over its `n` labelled rows.

    `version` is the one that answered most of its rows. A metric is None without labelled rows, and where
    nobody lived by that policy.
    """

    start: datetime
    end: datetime
    n: int
    clew: float | None
    frozen: float | None
    blind: float | None
    version: int
    clew_band: Band
    frozen_band: Band
    blind_band: Band


@dataclass(frozen=True, slots=True)
class VersionSpan:
    """A champion's time in office, and what it was made of. `end` is None for the last one."""

    number: int
    start: datetime
    end: datetime | None
    recipe: str
    n_rows: int
    trained_from: datetime
    trained_to: datetime
    run: str


@dataclass(frozen=True, slots=True)
class StalenessPoint:
    """The metric of models at an age, in days since the newest row that each had learned from."""

    age_from: float
    age_to: float
    n: int
    value: float
    lower: float
    upper: float


@dataclass(frozen=True, slots=True)
class GateRecord:
    """A gate that was held: for which candidate, when, and every check with its numbers."""

    time: datetime
    candidate: str
    report: GateReport


@dataclass(frozen=True, slots=True)
class Summary:
    """A result in one line. `clew`, `frozen` and `blind` are means over rows, in the metric's unit.

    What nobody lived by is None: a running model has no blind twin.
    """

    clew: float
    frozen: float | None
    blind: float | None
    fits: int
    blind_fits: int | None
    promotions: int
    refusals: int
    undecided: int
    pages: int
    tickets: int
    rollbacks: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Lived:
    """What a model lived through from `start` to `end`; `notes` say what that cannot know."""

    id: str
    model: str
    metric: str
    greater_is_better: bool
    margin: float
    start: datetime
    end: datetime
    windows: tuple[Window, ...]
    events: tuple[Event, ...]
    summary: Summary
    versions: tuple[VersionSpan, ...]
    gates: tuple[GateRecord, ...]
    staleness: tuple[StalenessPoint, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BacktestResult(Lived):
    """Everything a backtest found out."""

    seed: int
    snapshot: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveResult(Lived):
    """What a running model really answered, and what that was worth.

    Attributes
    ----------
    n_answered
        Rows that were answered, whether their label is known or not.
    counts
        By version how many of them it answered.
    """

    n_answered: int
    counts: dict[str, int]


@dataclass(frozen=True, slots=True)
class TryResult:
    """One training, its gate's report, and the version made of it; `is_new` is False when nothing changed.

    `opened` are files outside of its code that the training read: nobody keeps them.
    """

    run: Run
    report: GateReport
    version: Version
    is_new: bool
    opened: tuple[OpenedFile, ...] = ()


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a long piece of work stands: the simulated time, the metric of late, and perhaps an event."""

    done: float
    at: datetime | None = None
    metric_now: float | None = None
    event: Event | None = None
    sentence: str = ""


OnProgress: TypeAlias = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class ThreadNode:
    """A knot of the thread: a record, what is known about it, and the records beside it on the way.

    Attributes
    ----------
    causes
        What it came from, where the thread is followed back.
    effects
        What came of it, where it is followed forward.
    """

    kind: str
    id: str
    sentence: str
    facts: Json = field(default_factory=dict)
    causes: tuple[ThreadNode, ...] = ()
    effects: tuple[ThreadNode, ...] = ()


@dataclass(frozen=True, slots=True)
class Reason:
    """A decision and why it was taken, in plain sentences."""

    decision: str
    at: datetime
    kind: str
    sentence: str
    because: tuple[str, ...]
