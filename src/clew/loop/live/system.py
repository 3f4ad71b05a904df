"""A running system: the loops of all models of a project, driven by one clock."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import datetime
from types import TracebackType
from typing import TypeVar

from clew.config import BudgetSettings
from clew.entities import Param
from clew.loop.live.checkpoints import all_positions
from clew.loop.live.declared import note_declarations
from clew.loop.live.model import LiveModel
from clew.loop.live.surroundings import LiveStatus, Surroundings
from clew.registry import audit_log, record_audit
from clew.storage import Compaction, Store, compact
from clew.tracking import fail_lost_runs

T = TypeVar("T")

IDLE_SECONDS = 120.0
"""After this long without work the training children end, and memory is given back."""


class Live:
    """The loops of all models of a project.

    Each model lives its own moments in order; models live beside each other, so a long fit of one does not
    hold up the checks of another.
    """

    def __init__(self, around: Surroundings, params: Mapping[str, Mapping[str, Param]]) -> None:
        self._models = [
            LiveModel(around, described, params[described.model.name])
            for described in around.project.described
        ]
        self._store, self._clock, self._limits = around.store, around.clock, around.settings.budget
        self._declared = [described.model for described in around.project.described]
        self._on_event = around.on_event
        self._threads = ThreadPoolExecutor(max(1, len(self._models)), thread_name_prefix="clew loop")
        self._advancing = threading.Lock()

    def start(self, now: datetime) -> None:
        """Go live: models that lived before go on, the others get their first champions."""
        fail_lost_runs(self._store, "live/", self._clock())
        note_limits(self._store, self._limits, now)
        note_declarations(self._store, self._declared, now, self._on_event)
        self._each(lambda model: model.start(now))

    @property
    def next_due(self) -> datetime | None:
        """When the next check, fit, gate or rollout step is due; None when nothing is."""
        return min((due for model in self._models if (due := model.next_due) is not None), default=None)

    def advance(self, until: datetime) -> None:
        """Do everything due by then, each at its own moment; repeating it does nothing twice."""
        with self._advancing:
            self._each(lambda model: model.advance(until))

    def look(self, now: datetime) -> None:
        """Between checks: watch the requests of rollouts, and let idle children go."""
        with self._advancing:
            self._each(lambda model: model.look(now))
            self._each(lambda model: model.rest(IDLE_SECONDS))

    def compact(self, now: datetime) -> Compaction:
        """Move what every loop has read of the log into Parquet files of one model and day each."""
        consumed = list(all_positions(self._store).values())
        return compact(self._store, consumed=consumed, now=now)

    def run_commands(self, now: datetime) -> int:
        """Carry out what people asked for; how much that was."""
        return sum(self._each(lambda model: model.run_commands(now)))

    def status(self, now: datetime) -> list[LiveStatus]:  # noqa: ARG002 - a model knows its own moment
        """Where each model stands."""
        return [model.describe() for model in self._models]

    def close(self) -> None:
        """End the children; what was lived is kept."""
        self._threads.shutdown(wait=True)
        for model in self._models:
            model.close()

    def __enter__(self) -> Live:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _each(self, work: Callable[[LiveModel], T]) -> list[T]:
        return list(self._threads.map(work, self._models))


def note_limits(store: Store, limits: BudgetSettings, now: datetime) -> None:
    """Record how often the loop may be wrong and how much it may compute, when people set that otherwise."""
    action, subject, said = "set limits", "clew.toml", asdict(limits)
    last = audit_log(store, subject, 1, action=action)
    before = last[0].evidence["to"] if last else None
    if before == said:
        return
    with store.write() as tx:
        record_audit(
            tx, now=now, actor="clew up", action=action, subject=subject, reason="read at the start",
            evidence={"from": before, "to": said},
        )  # fmt: skip
