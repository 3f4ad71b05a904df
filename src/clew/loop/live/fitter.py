"""Fits of a running system: on the table as it is, kept as packages, asked about rows as they were logged."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa

from clew.entities import RowRange
from clew.errors import ClewError, DataError, TrainingFailed
from clew.loop.fitter import Fitter, Judgement, Packaged, Rehearsal, Thread
from clew.loop.live.rows import Answer, LiveRows
from clew.loop.live.workshop import Workshop
from clew.loop.standing import FittedModel, Pieces, Scored
from clew.registry import Predictions
from clew.stats.metrics import Metric
from clew.storage import Store


class LiveFitter(Fitter):
    """A `Fitter` whose rows grow and whose models outlive their process.

    Parameters
    ----------
    slot
        Held while something is fitted, so that no more fits run at once than the project allows.
    """

    def __init__(
        self,
        store: Store,
        workshop: Workshop,
        rows: LiveRows,
        thread: Thread,
        metric: Metric,
        key_prefix: str,
        clock: Callable[[], datetime],
        slot: AbstractContextManager[Any],
    ) -> None:
        super().__init__(store, workshop.child, rows.history, thread, metric, key_prefix, clock)
        self.workshop, self.rows, self._slot = workshop, rows, slot
        self.packages: dict[str, Packaged] = {}
        self._classes: dict[str, tuple[Any, ...]] = {}

    def wake(self) -> None:
        """Take the child and the rows of the moment: both may be others than at the last look."""
        self.child, self.history = self.workshop.child, self.rows.history

    # -- fits --------------------------------------------------------------------------------------------

    def refresh(self, now: datetime) -> bool:
        """Let the fits to come learn from the table as it is now; whether it is another one than before.

        Raises
        ------
        TrainingFailed
            When the table cannot be had.
        """
        try:
            is_new = self.workshop.refresh(now)
        except ClewError as error:
            name = self.declaration.dataset.name
            raise TrainingFailed(f"the table of {name} cannot be read: {error}") from error
        snapshot = self.workshop.snapshot
        assert snapshot is not None  # noqa: S101 - there is one from the first refresh on
        self.thread = replace(self.thread, snapshot=snapshot, folders=self.workshop.folders)
        return is_new

    def fit(
        self,
        purpose: str,
        pieces: Pieces,
        first_row: int,
        rehearse: Rehearsal | None = None,
        judge: Judgement | None = None,
    ) -> FittedModel:
        """See `Fitter.fit`. What was fitted is packaged at once, so that it outlives this process."""
        with self._slot:
            model = super().fit(purpose, pieces, first_row, rehearse, judge)
        self.package(model, {})
        return model

    def package(self, model: FittedModel, metrics: Mapping[str, float]) -> Packaged:
        self._hold(model)
        # One that came from its package can be packaged no better than it was.
        if self.child.has_fitted(model.name):
            self.packages[model.name] = super().package(model, metrics)
        return self.packages[model.name]

    def ranges(self, pieces: Pieces) -> tuple[RowRange, ...]:
        keys = [key for start, end in pieces for key in self.rows.keys(start, end)]
        found = self.workshop.positions(keys)
        if not found:
            name = self.declaration.dataset.name
            raise TrainingFailed(f"none of the {len(keys):,} rows to learn from is in the table of {name}")
        return found

    def _key(self, name: str, pieces: Pieces) -> str:
        # A moment that is lived again after a crash may see more rows than the first time: then its fit is
        # another run.
        inputs = "/".join([self.thread.snapshot.id, *(folder.id for folder in self.thread.folders)])
        identity = f"{inputs}/{self.thread.code}/{pieces}"
        return f"{super()._key(name, pieces)}/{hashlib.sha256(identity.encode()).hexdigest()[:16]}"

    # -- answers -----------------------------------------------------------------------------------------

    def predictions(self, model: FittedModel, start: int, end: int) -> Predictions:
        rows = self.history.table.slice(start, end - start).select(list(self.history.features))
        return self.predicted(model, rows)

    def _score(self, model: FittedModel, scored: Scored, start: int, end: int) -> None:
        """A row that a model cannot answer is one that it got wrong; the others of its batch are not."""
        try:
            super()._score(model, scored, start, end)
        except (DataError, TrainingFailed):
            if end - start > 1:
                middle = (start + end) // 2
                self._score(model, scored, start, middle)
                self._score(model, scored, middle, end)
                return
            scored.raw[start:end], scored.losses[start:end] = self.bound, 1.0
            scored.correct[start:end], scored.confidence[start:end] = 0.0, np.nan

    def predicted(self, model: FittedModel, features: pa.Table) -> Predictions:
        """What a model answers for a table of features."""
        self._hold(model)
        return self.child.predict(model.name, features)

    def _hold(self, model: FittedModel) -> None:
        """Have the child of the moment hold a model that an earlier one made."""
        if not self.child.knows(model.name):
            self.workshop.load(model.name, self.packages[model.name].digest)

    def forget(self, model: FittedModel) -> None:
        self._scored.pop(model.name, None)
        if self.child.knows(model.name):
            self.child.release(model.name)
        self.packages.pop(model.name, None)

    def note_answers(self, model: FittedModel, rows: Sequence[int], answers: Sequence[Answer]) -> None:
        """A version is judged by what it really answered, wherever that was logged."""
        is_number = self.metric.task == "regression"
        kind = np.dtype(np.float64) if is_number else self.history.y.dtype
        predicted = np.array([answer.predicted for answer in answers]).astype(kind)
        probabilities = [answer.probabilities for answer in answers if answer.probabilities is not None]
        if len(probabilities) == len(answers):
            classes = self._classes_of(model)
            known = Predictions(predicted, np.array(probabilities, dtype=np.float64), classes)
        else:
            known = Predictions(predicted)
        self._note(self._track(model), np.array(rows), known)

    def _classes_of(self, model: FittedModel) -> tuple[Any, ...]:
        if model.name not in self._classes:
            self._classes[model.name] = self.predictions(model, 0, 1).classes or ()
        return self._classes[model.name]

    # -- life beyond a process ---------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """What another process needs to go on; scores are left out, since they can be had again."""
        return {
            "bound": self.bound,
            "n_fits": self.n_fits,
            "nondeterministic": self.nondeterministic,
            "digests": self._digests,
            "packages": self.packages,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self.bound, self.n_fits = state["bound"], state["n_fits"]
        self.nondeterministic, self._digests = state["nondeterministic"], state["digests"]
        self.packages = state["packages"]
