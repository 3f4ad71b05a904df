"""What a model takes and answers: columns, types, levels, classes, and the frame it was fitted on."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clew.entities import FrameKind, Json, Task
from clew.registry.features import FeatureColumn
from clew.registry.frames import Frame, build_frame, pick_columns


@dataclass(frozen=True)
class Signature:
    """What a model takes and answers.

    Attributes
    ----------
    columns
        The features, in the order the model was fitted on.
    frame
        The library whose frames the model was fitted on.
    classes
        The label's values that the model can answer, sorted; None for regression.

    Examples
    --------
    >>> rows = pa.table({"income": [31000, 52000], "city": ["Ulm", "Bonn"]})
    >>> signature = Signature.of(rows, {"city"}, "pyarrow", "classification", (False, True))
    >>> signature.columns[1].levels
    ('Bonn', 'Ulm')
    >>> signature.flags(pa.table({"income": [None, 40000], "city": ["Ulm", "Rom"]}))
    {'income': {'unseen': 0, 'missing': 1}, 'city': {'unseen': 1, 'missing': 0}}
    """

    columns: tuple[FeatureColumn, ...]
    frame: FrameKind
    task: Task
    classes: tuple[Any, ...] | None = None

    @classmethod
    def of(
        cls,
        table: pa.Table,
        categorical: Collection[str],
        frame: FrameKind,
        task: Task,
        classes: Iterable[Any] | None = None,
    ) -> Signature:
        """Describe the training rows `table`, which has the feature columns only.

        Raises
        ------
        DataError
            When a column has a type that no model can take.
        """
        columns = (
            FeatureColumn.of(name, table.column(name), name in categorical) for name in table.column_names
        )
        return cls(tuple(columns), frame, task, None if classes is None else tuple(classes))

    @classmethod
    def from_json(cls, given: Json) -> Signature:
        columns = tuple(FeatureColumn.from_json(column) for column in given["columns"])
        classes = given["classes"]
        return cls(columns, given["frame"], given["task"], None if classes is None else tuple(classes))

    def to_json(self) -> Json:
        return {
            "columns": [column.to_json() for column in self.columns],
            "frame": self.frame,
            "task": self.task,
            "classes": None if self.classes is None else list(self.classes),
        }

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    def only(self, names: Sequence[str]) -> Signature:
        """The signature of a model that was fitted on some of the columns, in the order `names`."""
        by_name = {column.name: column for column in self.columns}
        return replace(self, columns=tuple(by_name[name] for name in names))

    def read(self, table: Frame) -> dict[str, pa.Array]:
        """The feature columns of a frame, each in its training type; other columns are ignored.

        Raises
        ------
        DataError
            When a feature is missing, or a value is of a kind the model was not trained on: the message
            names column, rows and values.
        """
        given = pick_columns(table, self.names)
        return {column.name: column.read(given[column.name]) for column in self.columns}

    def to_frame(self, table: Frame) -> Frame:
        """The native feature frame X: categories at the training levels, an unseen one as missing."""
        return build_frame(self.columns, self.read(table), self.frame)

    def flags(self, table: Frame) -> dict[str, dict[str, int]]:
        """Per column with something to say: how many values are unseen, and how many are missing.

        Missing counts only where training had none.
        """
        given = self.read(table)
        found = {column.name: _flags(column, given[column.name]) for column in self.columns}
        return {name: flags for name, flags in found.items() if any(flags.values())}


def unseen(column: FeatureColumn, values: pa.Array) -> np.ndarray:
    """Which values are categories that training never had, shape ``(n_rows,)`` bool."""
    if column.levels is None:
        return np.zeros(len(values), bool)
    is_unseen: np.ndarray = (column.codes(values) < 0) & ~missing(values)
    return is_unseen


def missing(values: pa.Array) -> np.ndarray:
    """Which values are null or NaN, shape ``(n_rows,)`` bool."""
    return np.asarray(pc.is_null(values, nan_is_null=True).to_numpy(zero_copy_only=False))


def _flags(column: FeatureColumn, values: pa.Array) -> dict[str, int]:
    n_missing = 0 if column.has_missing else int(missing(values).sum())
    return {"unseen": int(unseen(column, values).sum()), "missing": n_missing}
