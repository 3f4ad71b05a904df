"""What a training logs and saves, taken into its run's record as it comes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from clew.storage import Store
from clew.tracking import keep_artifacts, log_metrics
from clew.training import Listener, Logged


class Keeper:
    """Records for one run from now on; `last` is the newest number of each name."""

    def __init__(self, store: Store, run: str, clock: Callable[[], datetime]) -> None:
        self._store, self._run, self._clock, self._start = store, run, clock, clock()
        self.last: dict[str, float] = {}

    @property
    def listener(self) -> Listener:
        """To be told by the child that trains."""
        return Listener(self._on_logged, self._on_artifacts)

    def _on_logged(self, rows: Sequence[Logged]) -> None:
        at = [self._start + timedelta(seconds=row.seconds) for row in rows]
        log_metrics(self._store, self._run, [row[:3] for row in rows], self._clock(), at)
        self.last |= {row.name: row.value for row in rows}

    def _on_artifacts(self, files: Mapping[str, Path]) -> None:
        keep_artifacts(self._store, self._run, files, now=self._clock())
