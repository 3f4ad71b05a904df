"""What a deployment really answered: its rows from the prediction log, each with its truth and its loss.

A row counts once, with the last answer that its caller had before its label was known and complete. What a
shadow answered reached nobody, and is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clew.datasets import feature_names, get_snapshot, latest_snapshot, read_rows
from clew.entities import DatasetDeclaration, Duration, ModelDeclaration, RowRange
from clew.errors import DataError, TrainingFailed
from clew.loop.fitter import row_losses
from clew.loop.history import Times, as_time, column_values, matured_times
from clew.loop.live.rows import own_key, typed
from clew.loop.policy import metric_of
from clew.loop.result import OnProgress, Progress
from clew.registry import Predictions, get_version
from clew.stats.arrays import FloatArray
from clew.storage import Store
from clew.storage.log_columns import FEATURE, values_of
from clew.storage.log_reading import scan
from clew.tracking import get_run

Ask: TypeAlias = Callable[[int, pa.Table], Predictions]
"""What a version of the deployment answers for a table of features."""

STRETCH = Duration(months=1)
"""This much of the log is held in memory at a time."""


@dataclass(frozen=True, slots=True)
class Answered:
    """Rows in the order of their event time; arrays of shape ``(n,)``.

    Attributes
    ----------
    times, versions
        When the thing predicted happened, and who gave the answer that counts.
    losses
        Row losses of these answers; NaN where no label is known and complete.
    frozen
        Row losses of the first champion on the same rows; NaN also where it cannot answer.
    """

    times: Times
    versions: np.ndarray
    losses: FloatArray
    frozen: FloatArray

    @property
    def is_known(self) -> np.ndarray:
        return ~np.isnan(self.losses)


class Labels:
    """The labels of a deployment by key: those that were sent, and the table's for rows without one."""

    def __init__(self, store: Store, deployment: str, dataset: DatasetDeclaration) -> None:
        snapshot = latest_snapshot(store, dataset.name)
        assert snapshot is not None  # noqa: S101 - what went live has learned from one
        table = read_rows(store, snapshot, columns=[dataset.key, dataset.label])
        self._key_type, self.type = table.schema.types
        labelled = table.filter(pc.is_valid(table.column(dataset.label)))
        self._of_table = dict(zip(*(labelled.column(place).to_pylist() for place in (0, 1)), strict=True))
        self._sent: dict[Any, tuple[int, Any]] = {}
        self._sent_for: dict[str, tuple[int, Any]] = {}
        sent = scan(store, deployment, "l")
        columns = (values_of(sent, name) for name in ("key", "prediction", "received_at", "label"))
        for key, prediction, received_at, label in zip(*columns, strict=True):
            if prediction:
                self._sent_for[prediction] = (received_at, label)
            else:
                self._sent[self.own(key)] = (received_at, label)

    def own(self, key: Any) -> Any:
        """A key of the log as the table has it."""
        return own_key(key, self._key_type)

    def meet(self, prediction: str, key: Any) -> None:
        """Learn which row an answer was about: its label may have been sent for the answer alone."""
        sent = self._sent_for.get(prediction)
        if sent is not None and sent[0] >= self._sent.get(key, sent)[0]:
            self._sent[key] = sent

    def of(self, key: Any) -> tuple[Any, int]:
        """The label of a row, None when it is unknown, and since when it is known, as far as that is told."""
        received_at, label = self._sent.get(key, (0, None))
        return (self._of_table.get(key), 0) if label is None else (label, received_at)


class LogReader:
    """Reads the answers of one deployment, a stretch of event time after the other.

    Parameters
    ----------
    first
        The first champion, which is asked about every row, as if nobody had ever replaced it.
    now
        Labels of rows that are younger than the label delay are not complete, and do not count yet.
    ask
        Has a version answer once more.
    """

    def __init__(
        self,
        store: Store,
        deployment: str,
        declaration: ModelDeclaration,
        first: int,
        now: datetime,
        ask: Ask,
    ) -> None:
        self._store, self._deployment, self._declaration = store, deployment, declaration
        self._first = first
        self._now, self._ask = int(as_time(now).astype("int64")), ask
        self._metric = metric_of(declaration)
        self._labels = Labels(store, deployment, declaration.dataset)
        self._features = _feature_schema(store, deployment, declaration, first)
        self._classes: dict[int, tuple[Any, ...]] = {}
        self._answered_at: dict[Any, int] = {}
        self._place: dict[Any, int] = {}
        self._parts: list[Answered] = []
        self._replaced: list[int] = []

    def read(self, start: datetime, end: datetime, on_progress: OnProgress) -> Answered:
        """All rows with an event time from `start` to `end`."""
        stretches = list(STRETCH.windows(start, end))
        for place, (low, high) in enumerate(stretches):
            on_progress(Progress(place / len(stretches), low, self._value_of_late(), sentence="reading"))
            self._take(scan(self._store, self._deployment, "p", low, high))
        names = ("times", "versions", "losses", "frozen")
        whole = (np.concatenate([getattr(part, name) for part in self._parts]) for name in names)
        return Answered(*(np.delete(column, self._replaced) for column in whole))

    def _value_of_late(self) -> float | None:
        losses = self._parts[-1].losses[self._parts[-1].is_known] if self._parts else np.empty(0)
        return self._metric.value(losses) if len(losses) else None

    # -- which answers count -------------------------------------------------------------------------------

    def _take(self, logged: pa.Table) -> None:
        table = logged.filter(pc.not_equal(logged.column("role"), "shadow"))
        counted = self._counted(table)
        n_before = sum(len(part.times) for part in self._parts)
        for place, key in enumerate(counted, n_before):
            if key in self._place:  # it was asked about again under another event time
                self._replaced.append(self._place[key])
            self._place[key] = place
        rows = table.take(pa.array([row for row, _ in counted.values()], pa.int64()))
        self._parts.append(self._scored(rows, [label for _, label in counted.values()]))

    def _counted(self, table: pa.Table) -> dict[Any, tuple[int, Any]]:
        """By key the position of the answer that counts, and the label; None where that is not complete."""
        keys = [self._labels.own(key) for key in values_of(table, "key")]
        for prediction, key in zip(table.column("id").to_pylist(), keys, strict=True):
            self._labels.meet(prediction, key)
        complete = matured_times(_times_of(table), self._declaration.dataset.label_delay)
        moments = zip(values_of(table, "answered_at"), complete.astype("int64").tolist(), strict=True)
        found: dict[Any, tuple[int, Any]] = {}
        for row, (key, (answered_at, matured_at)) in enumerate(zip(keys, moments, strict=True)):
            label, known_since = self._labels.of(key)
            if matured_at > self._now:
                label = None
            is_too_late = label is not None and answered_at > max(matured_at, known_since)
            if not is_too_late and answered_at >= self._answered_at.get(key, answered_at):
                found[key] = (row, label)
                self._answered_at[key] = answered_at
        return dict(sorted(found.items(), key=lambda each: each[1][0]))

    # -- what they were worth ------------------------------------------------------------------------------

    def _scored(self, table: pa.Table, labels: Sequence[Any]) -> Answered:
        versions = table.column("version").to_numpy()
        losses, frozen = np.full((2, len(versions)), np.nan)
        known = np.array([label is not None for label in labels], dtype=bool)
        if known.any():
            given = typed([label for label in labels if label is not None], self._labels.type)
            y = column_values(pa.chunked_array([given]))
            labelled = table.filter(pa.array(known))
            losses[known] = self._losses(labelled, y)
            frozen[known] = self._frozen_losses(labelled, y, losses[known])
        return Answered(_times_of(table), versions, losses, frozen)

    def _losses(self, table: pa.Table, y: np.ndarray) -> FloatArray:
        versions, losses = table.column("version").to_numpy(), np.empty(len(y))
        for version in np.unique(versions).tolist():
            mine = np.flatnonzero(versions == version)
            losses[mine] = row_losses(self._metric, y[mine], self._given(version, table.take(mine), y.dtype))
        return losses

    def _given(self, version: int, table: pa.Table, kind: np.dtype[Any]) -> Predictions:
        """The logged answers of one version."""
        kind = np.dtype(np.float64) if self._metric.task == "regression" else kind
        predicted = np.array(values_of(table, "predicted")).astype(kind)
        if not self._metric.needs_probabilities:
            return Predictions(predicted)
        if version not in self._classes:
            self._classes[version] = self._ask(version, self._asked(table.slice(0, 1))).classes or ()
        probabilities = np.array(values_of(table, "probabilities"), dtype=np.float64)
        return Predictions(predicted, probabilities, self._classes[version])

    def _frozen_losses(self, table: pa.Table, y: np.ndarray, losses: FloatArray) -> FloatArray:
        """Where the first champion itself answered, that is what it would have answered."""
        frozen = losses.copy()
        others = np.flatnonzero(table.column("version").to_numpy() != self._first)
        if len(others):
            frozen[others] = self._losses_of_first(self._asked(table.take(others)), y[others])
        return frozen

    def _losses_of_first(self, features: pa.Table, y: np.ndarray) -> FloatArray:
        """A row that it cannot answer is not known; the others of its batch are."""
        try:
            return row_losses(self._metric, y, self._ask(self._first, features))
        except (DataError, TrainingFailed):
            if len(y) == 1:
                return np.array([np.nan])
            middle = len(y) // 2
            halves = ((features.slice(0, middle), y[:middle]), (features.slice(middle), y[middle:]))
            return np.concatenate([self._losses_of_first(*half) for half in halves])

    def _asked(self, table: pa.Table) -> pa.Table:
        """The features that rows were asked with, in the types that the first champion learned from."""
        columns = [
            _cast(table.column(FEATURE + field.name), field.type)
            if FEATURE + field.name in table.column_names
            else pa.nulls(table.num_rows, field.type)
            for field in self._features
        ]
        return pa.table(columns, names=self._features.names)


def _times_of(table: pa.Table) -> Times:
    times: Times = table.column("event_time").to_numpy().astype("datetime64[us]")
    return times


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    try:
        return column.cast(kind)
    except pa.ArrowInvalid:
        return column  # whoever is asked says which values it cannot take


def _feature_schema(store: Store, deployment: str, declaration: ModelDeclaration, number: int) -> pa.Schema:
    run = get_run(store, get_version(store, deployment, number).run)
    snapshot = get_snapshot(store, run.snapshot)
    schema = read_rows(store, snapshot, RowRange(0, 0)).schema
    known = [name for name in declaration.not_features if name in schema.names]
    return pa.schema(
        [schema.field(name) for name in feature_names(snapshot.columns, declaration.dataset, known)]
    )
