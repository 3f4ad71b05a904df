"""What the control process drives: a system that lives the loop, and a bell that workers hear.

Told as protocols, so that the doors hang on no more of the loop than they use.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol


class LiveStatus(Protocol):
    """What only the loop knows of a model: its metric of late, over `n` matured rows; None for none."""

    @property
    def deployment(self) -> str: ...
    @property
    def metric(self) -> str: ...
    @property
    def value(self) -> float | None: ...
    @property
    def n(self) -> int: ...


class LiveSystem(Protocol):
    """The loop of all models of a project. One thread at a time calls it."""

    def start(self, now: datetime) -> None:
        """Go live: models that have no champion get their first."""
        ...

    @property
    def next_due(self) -> datetime | None:
        """When the next check, fit, gate or rollout step is due; None when nothing is."""
        ...

    def advance(self, until: datetime) -> None:
        """Do everything that is due by then, each at its own moment; repeating it does nothing twice."""
        ...

    def look(self, now: datetime) -> None:
        """Between checks: watch the requests of rollouts, and give back what idles."""
        ...

    def compact(self, now: datetime) -> object:
        """Move what was read of the prediction log out of the way."""
        ...

    def forget(self, now: datetime) -> object:
        """Take people who were forgotten out of the loops."""
        ...

    def run_commands(self, now: datetime) -> object:
        """Execute the orders of people that wait."""
        ...

    def status(self, now: datetime, /) -> Sequence[LiveStatus]: ...

    def close(self) -> None: ...


class Bell(Protocol):
    """How workers hear at once of a new route or a moved clock."""

    def ring(self, generation: int) -> None: ...

    def set_clock(self, now: datetime | None) -> None:
        """Tell where a replay stands; None for the real clock."""
        ...
