"""The labelled rows of a deployment's life, in the order in which they became known.

Life begins with the matured rows of the first snapshot. From then on a row is added when its label is known
and complete, with the features that were logged when it was answered; rows that nobody asked about come from
the table. Rows are named by their ordinal, and no ordinal ever changes its meaning: a label that comes late
is added at the end, and counts as of the time at which it came.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clew.entities import DatasetDeclaration, ModelDeclaration
from clew.loop.history import History, as_moment, as_time, column_values, matured_times
from clew.storage.records import Label, Prediction

KEPT_WITHOUT_LABEL = timedelta(days=190)
"""How long an answer waits for its label at least; the label delay is added."""

COMBINED_EVERY = 256
"""Pieces of the table after which it is written together: many small ones make every look slower."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a version answered about a row, and when."""

    answered_at: int
    predicted: Any
    probabilities: tuple[float, ...] | None


@dataclass(slots=True)
class Waiting:
    """A row that was asked about and whose label is not known yet, or not complete.

    `answers` are by version, the last one before the label; `features` are those of the newest request.
    """

    event_time: int
    entity: Any
    names: tuple[str, ...]
    features: tuple[Any, ...]
    answers: dict[int, Answer] = field(default_factory=dict)
    ids: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Added:
    """Rows that were added at once: ``start`` to ``end``, with what versions had answered about them.

    `answers` holds by version the ordinals and its answers to them.
    """

    start: int
    end: int
    answers: Mapping[int, tuple[list[int], list[Answer]]]


class LiveRows:
    """Takes in predictions and labels, and knows the labelled rows.

    Attributes
    ----------
    history
        The labelled rows so far. All of them have matured.
    waiting
        By key the rows without a complete label.
    labels
        By key the labels of rows that are not in the history yet: the value, and when it came.
    corrected
        By key labels that changed after their row was judged: fits to come learn from the new one.
    stand_ins
        Keys of rows that stand where a forgotten person's stood.
    """

    def __init__(self, history: History) -> None:
        self.history = history
        self.waiting: dict[Any, Waiting] = {}
        self.labels: dict[Any, tuple[Any, int]] = {}
        self.corrected: dict[Any, Any] = {}
        self.stand_ins: set[Any] = set()
        self._keys: dict[Any, int] = {}
        self._key_of_id: dict[str, Any] = {}
        self._know_keys(0)

    @property
    def declaration(self) -> ModelDeclaration:
        return self.history.declaration

    def __len__(self) -> int:
        return len(self.history)

    def has(self, key: Any) -> bool:
        return key in self._keys

    def keys(self, start: int, end: int) -> list[Any]:
        """Keys of rows ``start`` to ``end``."""
        name = self.declaration.dataset.key
        return list(self.history.table.column(name).slice(start, end - start).to_pylist())

    # -- what comes in ---------------------------------------------------------------------------------

    def take_prediction(self, identity: str, record: Prediction) -> None:
        """An answer was given, or a shadow's kept."""
        key = self._own(record.key)
        if key in self._keys:
            return  # its label is known: what is answered afterwards is no prediction
        row = self.waiting.get(key)
        if row is None:
            row = self.waiting[key] = Waiting(record.event_time, record.entity, record.names, record.features)
        row.event_time, row.names, row.features = record.event_time, record.names, record.features
        row.answers[record.version] = Answer(record.answered_at, record.predicted, record.probabilities)
        row.ids.append(identity)
        self._key_of_id[identity] = key

    def take_label(self, record: Label) -> None:
        """A label came, changed, or was taken back."""
        key = self._key_of_id.get(record.prediction) if record.prediction else self._own(record.key)
        if key is None:
            return
        if key in self._keys:
            self.corrected[key] = record.label
        elif record.label is None:
            self.labels.pop(key, None)
        else:
            self.labels[key] = (record.label, record.received_at)

    def take_table(self, table: pa.Table, now: datetime) -> Added:
        """Labels that the dataset's table, in order of time, knows by `now`: of rows asked about and others.

        Rows are only taken when their label has matured; nothing of the future is looked at.
        """
        dataset = self.declaration.dataset
        times = table.column(dataset.time).to_numpy().astype("datetime64[us]")
        known = pc.is_valid(table.column(dataset.label)).to_numpy()
        matured = matured_times(times, dataset.label_delay) <= as_time(now)
        keys = table.column(dataset.key).to_pylist()
        rows = [row for row in np.flatnonzero(known & matured).tolist() if keys[row] not in self._keys]
        labels = table.column(dataset.label)
        unasked = []
        for row in rows:
            if keys[row] in self.waiting:
                self.labels.setdefault(keys[row], (labels[row].as_py(), _microseconds(now)))
            else:
                unasked.append(row)
        return self._append(table.take(pa.array(unasked, pa.int64())), [], now)

    def expect(self, table: pa.Table, now: datetime) -> None:
        """Rows of the dataset's table, in order of time, whose labels are not complete at `now`.

        Nobody may ever ask about them, and yet their labels will tell.
        """
        dataset = self.declaration.dataset
        times = table.column(dataset.time).to_numpy().astype("datetime64[us]")
        first = int(np.searchsorted(matured_times(times, dataset.label_delay), as_time(now), side="right"))
        recent = table.slice(first)
        names = tuple(name for name in self.history.table.column_names if name not in _subject(dataset))
        moments = times[first:].astype("int64").tolist()
        for row, time in zip(recent.to_pylist(), moments, strict=True):
            key = row[dataset.key]
            if key not in self._keys and key not in self.waiting:
                entity = None if dataset.entity is None else row[dataset.entity]
                values = tuple(row[name] for name in names)
                self.waiting[key] = Waiting(time, entity, names, values)

    def mature(self, now: datetime) -> Added:
        """Add the rows whose label is known and complete by `now`, in order of time and key."""
        due = [
            key
            for key in self.labels.keys() & self.waiting.keys()
            if self._matures(np.datetime64(self.waiting[key].event_time, "us")) <= as_time(now)
        ]
        due.sort(key=lambda key: (self.waiting[key].event_time, str(key)))
        table = self._logged(due, [self.labels[key][0] for key in due])
        rows = [self.waiting[key] for key in due]
        added = self._append(table, rows, now)
        for key, row in zip(due, rows, strict=True):
            del self.waiting[key], self.labels[key]
            self.let_go(row.ids)
        return added

    def forget_old(self, now: datetime) -> None:
        """Let go of answers whose label will hardly come any more."""
        dataset = self.declaration.dataset
        oldest = _microseconds(dataset.label_delay.before(now - KEPT_WITHOUT_LABEL))
        for key in [key for key, row in self.waiting.items() if row.event_time < oldest]:
            self.let_go(self.waiting.pop(key).ids)

    def let_go(self, ids: Iterable[str]) -> None:
        """No label that names one of these answers counts any more."""
        for identity in ids:
            self._key_of_id.pop(identity, None)

    def n_unlabelled(self, now: datetime, grace: timedelta) -> int:
        """Rows whose label should be known since `grace`, and is not."""
        due = as_time(now - grace)
        return sum(
            key not in self.labels and bool(self._matures(np.datetime64(row.event_time, "us")) <= due)
            for key, row in self.waiting.items()
        )

    # -- tables ----------------------------------------------------------------------------------------

    def features_of(self, records: Sequence[Prediction]) -> pa.Table:
        """The features of logged answers, as a model learns from them."""
        schema = self.history.table.schema
        columns = [[_value(record, name) for record in records] for name in self.history.features]
        arrays = [
            typed(values, schema.field(name).type)
            for name, values in zip(self.history.features, columns, strict=True)
        ]
        return pa.table(arrays, names=list(self.history.features))

    def completed(self, table: pa.Table) -> pa.Table:
        """The dataset's table with what only the log knows: labels that were sent, rows it does not have."""
        dataset = self.declaration.dataset
        keys = table.column(dataset.key).to_pylist()
        table = self._with_labels(table, keys)
        there = {*keys, *self.stand_ins}
        missing = [ordinal for key, ordinal in self._keys.items() if key not in there]
        if not missing:
            return table
        rows = self.history.table.take(pa.array(sorted(missing), pa.int64()))
        arrays = [
            rows.column(name).cast(table.schema.field(name).type)
            if name in rows.column_names
            else pa.nulls(rows.num_rows, table.schema.field(name).type)
            for name in table.column_names
        ]
        return pa.concat_tables([table, pa.table(arrays, names=table.column_names)])

    def _with_labels(self, table: pa.Table, keys: Sequence[Any]) -> pa.Table:
        dataset = self.declaration.dataset
        labels = table.column(dataset.label).to_pylist()
        mine = self.history.table.column(dataset.label)
        changed = False
        for row, (key, label) in enumerate(zip(keys, labels, strict=True)):
            if key in self.corrected:
                labels[row], changed = self.corrected[key], True
            elif label is None and key in self._keys:
                labels[row], changed = mine[self._keys[key]].as_py(), True
            elif label is None and key in self.labels:
                labels[row], changed = self.labels[key][0], True
        if not changed:
            return table
        place = table.column_names.index(dataset.label)
        return table.set_column(place, dataset.label, typed(labels, table.schema.field(place).type))

    def _logged(self, keys: Sequence[Any], labels: Sequence[Any]) -> pa.Table:
        dataset, schema = self.declaration.dataset, self.history.table.schema
        rows = [self.waiting[key] for key in keys]
        known: dict[str, list[Any]] = {
            dataset.key: list(keys),
            dataset.label: list(labels),
            dataset.time: [np.datetime64(row.event_time, "us") for row in rows],
        }
        if dataset.entity is not None:
            known[dataset.entity] = [row.entity for row in rows]
        arrays = []
        for column in schema:
            values = known.get(column.name)
            if values is None:
                values = [_value(row, column.name) for row in rows]
            arrays.append(typed(values, column.type))
        return pa.table(arrays, schema=schema)

    def _append(self, table: pa.Table, rows: Sequence[Waiting], now: datetime) -> Added:
        start, history, dataset = len(self), self.history, self.declaration.dataset
        if not table.num_rows:
            return Added(start, start, {})
        whole = pa.concat_tables([history.table, table.select(history.table.column_names)])
        if whole.column(0).num_chunks > COMBINED_EVERY:
            whole = whole.combine_chunks()
        times = table.column(dataset.time).to_numpy().astype("datetime64[us]")
        matured = np.array([self._matures(time) for time in times], dtype="datetime64[us]")
        late = matured < (history.matured_at[-1] if start else matured[0])
        # A label that comes late is known from now on, and no row may mature before one that is before it.
        matured[late] = as_time(now)
        self.history = History(
            declaration=history.declaration,
            table=whole,
            rows=np.arange(whole.num_rows),
            times=np.maximum.accumulate(np.concatenate([history.times, times])),
            matured_at=np.maximum.accumulate(np.concatenate([history.matured_at, matured])),
            y=np.concatenate([history.y, column_values(table.column(dataset.label))]),
            features=history.features,
        )
        self._know_keys(start)
        answers: dict[int, tuple[list[int], list[Answer]]] = {}
        for ordinal, row in enumerate(rows, start):
            for version, answer in row.answers.items():
                ordinals, given = answers.setdefault(version, ([], []))
                ordinals.append(ordinal)
                given.append(answer)
        return Added(start, len(self), answers)

    def know_keys_anew(self) -> None:
        """To be called when rows were replaced."""
        self._keys.clear()
        self._know_keys(0)

    def _know_keys(self, start: int) -> None:
        for ordinal, key in enumerate(self.keys(start, len(self)), start):
            self._keys[key] = ordinal

    def _matures(self, time: np.datetime64) -> np.datetime64:
        delay = self.declaration.dataset.label_delay
        if not delay.months:
            return time + np.timedelta64(delay.exact)
        return as_time(delay.after(as_moment(time)))

    def _own(self, key: Any) -> Any:
        return own_key(key, self.history.table.schema.field(self.declaration.dataset.key).type)

    # -- life beyond a process -------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        history = self.history
        return {
            "declaration": history.declaration,
            "table": history.table,
            "times": history.times,
            "matured_at": history.matured_at,
            "features": history.features,
            "waiting": self.waiting,
            "labels": self.labels,
            "corrected": self.corrected,
            "stand_ins": self.stand_ins,
        }

    @classmethod
    def restored(cls, state: Mapping[str, Any]) -> LiveRows:
        """The rows that gave this state."""
        table, declaration = state["table"], state["declaration"]
        history = History(
            declaration=declaration,
            table=table,
            rows=np.arange(table.num_rows),
            times=state["times"],
            matured_at=state["matured_at"],
            y=column_values(table.column(declaration.dataset.label)),
            features=state["features"],
        )
        rows = cls(history)
        rows.waiting, rows.labels, rows.corrected = state["waiting"], state["labels"], state["corrected"]
        rows.stand_ins = state.get("stand_ins", set())
        rows._key_of_id = {identity: key for key, row in rows.waiting.items() for identity in row.ids}
        return rows


def matured_history(history: History, now: datetime) -> History:
    """The rows of a snapshot whose labels are complete at `now`, as the beginning of a life."""
    n = history.matured(now)
    table = history.table.take(pa.array(history.rows[:n], pa.int64())).combine_chunks()
    return History(
        declaration=history.declaration,
        table=table,
        rows=np.arange(n),
        times=history.times[:n],
        matured_at=history.matured_at[:n],
        y=history.y[:n],
        features=history.features,
    )


def own_key(key: Any, kind: pa.DataType) -> Any:
    """A key as the table has it, whose keys are of this type: a day or moment travels as text.

    What cannot be one is left as it is: nobody's row has that key, so it waits in vain and harms nobody.
    """
    if not isinstance(key, str) or not pa.types.is_temporal(kind):
        return key
    try:
        moment = datetime.fromisoformat(key)
    except ValueError:
        return key
    if pa.types.is_date(kind):
        return moment.date()
    return moment.replace(tzinfo=moment.tzinfo or UTC)


def positions_of(keys: Iterable[Any], places: Mapping[Any, int]) -> list[tuple[int, int]]:
    """Runs of positions in a snapshot, in its order, of rows by key; keys it does not have are left out.

    Examples
    --------
    >>> positions_of(["c", "a", "b", "x"], {"a": 0, "b": 1, "c": 5})
    [(0, 2), (5, 6)]
    """
    found = sorted(places[key] for key in keys if key in places)
    runs: list[tuple[int, int]] = []
    for place in found:
        if runs and runs[-1][1] == place:
            runs[-1] = (runs[-1][0], place + 1)
        else:
            runs.append((place, place + 1))
    return runs


def _subject(dataset: DatasetDeclaration) -> set[str | None]:
    """The columns that say what a row is about, and not what it is like."""
    return {dataset.key, dataset.time, dataset.label, dataset.entity}


def _value(row: Prediction | Waiting, name: str) -> Any:
    try:
        return row.features[row.names.index(name)]
    except ValueError:
        return None


def typed(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Values as a column of this type; nothing but nulls becomes one too."""
    given = pa.array(values)
    return pa.nulls(len(given), kind) if pa.types.is_null(given.type) else given.cast(kind)


def _microseconds(moment: datetime) -> int:
    return int(as_time(moment).astype("int64"))
