"""Backtests that several tests look at, each lived through once in a test run."""

from __future__ import annotations

import fcntl
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import msgspec

from clew.entities import Duration
from clew.loop.backtest import BacktestOptions
from clew.loop.result import BacktestResult
from clew.workspace import open_workspace
from tests.loop import streams
from tests.loop.streams import Stream


def lived(
    folder: Path, *, start: datetime | None = None, end: datetime | None = None, window: str = "1mo"
) -> BacktestResult:
    """Live through the history of the project in `folder`."""
    options = BacktestOptions(start=start, end=end, window=Duration.parse(window))
    with open_workspace(None, folder) as workspace:
        return workspace.backtest(options=options)


class Lives:
    """Results by name, in a folder that all processes of a test run share."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def of_stream(
        self, name: str, make: Callable[[], Stream], shift_days: int = 0, window: str = "1mo"
    ) -> BacktestResult:
        """The life of the learner on a stream, beginning `shift_days` after the usual start."""

        def live(folder: Path) -> BacktestResult:
            streams.write_project(folder, make())
            return lived(folder, start=streams.start_of_life(shift_days), window=window)

        return self.once(f"{name}-{shift_days}-{window}", live)

    def once(self, name: str, live: Callable[[Path], BacktestResult]) -> BacktestResult:
        """What `live` makes of an empty folder; another process that asks for the same waits for it."""
        home = self._folder / name
        home.mkdir(parents=True, exist_ok=True)
        with (home / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            kept = home / "result.json"
            if not kept.exists():
                kept.write_bytes(msgspec.json.encode(live(home / "project")))
            return msgspec.json.decode(kept.read_bytes(), type=BacktestResult)
