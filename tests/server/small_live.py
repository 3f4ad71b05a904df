"""A live system in small: real records, real commands, one check an hour, and no models to fit."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from clew.entities import Route
from clew.loop.commands import execute_here, waiting
from clew.loop.result import Event
from clew.registry import aliases, ensure_deployment, move_alias, register
from clew.registry.routes import move_route
from clew.storage import Store
from clew.workspace import Workspace

HOUR = timedelta(hours=1)
N_VERSIONS = 3


@dataclass(frozen=True)
class SmallStatus:
    deployment: str
    metric: str
    value: float | None
    n: int
    status: str = "running"
    sentence: str = ""


class SmallLive:
    """Checks the model ``dice`` once an hour, which leaves a decision each; obeys files in `folder`.

    While there is a file ``fail``, checks raise; while there is ``slow``, each takes so many seconds.
    """

    def __init__(
        self, store: Store, folder: Path, on_event: Callable[[Event], None] = lambda _: None
    ) -> None:
        self.store, self.folder, self.on_event = store, folder, on_event
        self.next_due: datetime | None = None
        self.is_closed = False

    def start(self, now: datetime) -> None:
        if (self.folder / "refuse").exists():
            raise RuntimeError((self.folder / "refuse").read_text())
        make_dice(self.store, now)
        with self.store.read() as reader:
            newest = reader.find("decisions", {"deployment": "dice"}, ["-sequence"], limit=1)
        self.next_due = newest[0]["at"] + HOUR if newest else now + HOUR
        self.on_event(Event(now, "live", "dice is live"))

    def advance(self, until: datetime) -> None:
        while self.next_due is not None and self.next_due <= until:
            if (self.folder / "fail").exists():
                raise OSError("the source is gone")
            if (self.folder / "slow").exists():
                time.sleep(float((self.folder / "slow").read_text()))
            self._check(self.next_due)
            self.next_due += HOUR

    def look(self, now: datetime) -> None:
        """Dice have no rollouts to be watched."""

    def compact(self, now: datetime) -> None:
        """Dice are asked nothing."""

    def run_commands(self, now: datetime) -> None:
        for command in waiting(self.store):
            execute_here(self.store, command.id, now)

    def status(self, _now: datetime) -> list[SmallStatus]:
        return [SmallStatus("dice", "accuracy", 0.75, 40)]

    def close(self) -> None:
        self.is_closed = True

    def _check(self, at: datetime) -> None:
        with self.store.write() as tx:
            n_before = tx.count("decisions", {"deployment": "dice"})
            decision = {"deployment": "dice", "kind": "check", "at": at, "sentence": "dice are fair"}
            name = {"id": f"dice-{at:%Y%m%d%H%M%S}", "sequence": n_before, "evidence": {}, "findings": []}
            tx.insert_if_absent("decisions", decision | name)


def make_dice(store: Store, now: datetime) -> None:
    """The model ``dice`` with three versions, the first of them champion; once."""
    ensure_deployment(store, "dice", "live", "dice", None, now)
    for number in range(1, N_VERSIONS + 1):
        register(
            store,
            deployment="dice",
            model="dice",
            run=f"run{number}",
            package=f"{number:064d}",
            flavor="lightgbm",
            metrics={},
            now=now,
            actor="loop",
            reason="for the test",
        )
    if "champion" not in aliases(store, "dice"):
        move_alias(
            store, "dice", "champion", 1, expected=None, actor="loop", reason="first champion", now=now
        )
        with store.write() as tx:
            move_route(tx, Route("dice", 0, 1), now, actor="loop", reason="first champion")


@contextmanager
def open_small_live(workspace: Workspace, on_event: Callable[[Event], None]) -> Iterator[SmallLive]:
    live = SmallLive(workspace.store, workspace.settings.root, on_event)
    yield live
    live.close()
