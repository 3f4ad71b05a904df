"""Rows for models that take numbers alone: categories as positions among their levels, missing as NaN."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from clew.entities import Json
from clew.errors import PackageError
from clew.registry.row_values import RowColumn, missing_field, values_getter

if TYPE_CHECKING:
    from clew.storage.records import Value


class NumberRows:
    """How a row of JSON becomes doubles, and outputs become labels; a flavor's own class answers.

    Attributes
    ----------
    n_bytes
        The length of an encoded row.
    """

    def __init__(self, signature: Json) -> None:
        columns = [RowColumn.from_json(column) for column in signature["columns"]]
        self.names = tuple(column.name for column in columns)
        self.classes = None if signature["classes"] is None else tuple(signature["classes"])
        self.n_bytes = 8 * len(columns)
        self._values_of = values_getter(self.names)
        self._readers = [(column.name, column.reader(), column.codes()) for column in columns]
        self._pack = struct.Struct(f"{len(columns)}d").pack

    def encode(self, row: Mapping[str, Value]) -> tuple[bytes, tuple[str, ...]]:
        """See :meth:`clew.registry.row_models.RowModel.encode`."""
        try:
            given = self._values_of(row)
        except KeyError:
            raise missing_field(row, self.names) from None
        unseen: tuple[str, ...] = ()
        numbers: list[float] = []
        for value, (name, read, codes) in zip(given, self._readers, strict=True):
            if value is None:
                numbers.append(math.nan)
            elif codes is None:
                numbers.append(read(value))
            elif (code := codes.get(read(value))) is None:
                numbers.append(math.nan)
                unseen += (name,)
            else:
                numbers.append(code)
        return self._pack(*numbers), unseen

    def labelled(
        self, numbers: list[float], n_outputs: int
    ) -> tuple[list[Value], list[tuple[float, ...]] | None]:
        """Labels and probabilities of outputs that stand one row after another; numbers for regression."""
        classes = self.classes
        if classes is None:
            return list(numbers), None
        # A model that saw one class only has a second column that no class belongs to.
        if n_outputs == 1:
            probabilities = [(1.0 - number, number)[: len(classes)] for number in numbers]
        else:
            starts = range(0, len(numbers), n_outputs)
            probabilities = [tuple(numbers[start : start + n_outputs][: len(classes)]) for start in starts]
        return [classes[row.index(max(row))] for row in probabilities], probabilities

    def require_length(self, rows: Sequence[bytes]) -> None:
        """Refuse a row of other length, beyond whose end a library would read.

        Raises
        ------
        ValueError
            When another model encoded a row.
        """
        for row in rows:
            if len(row) != self.n_bytes:
                raise ValueError(
                    f"a row of {len(row) // 8} numbers was encoded by another model; this one takes"
                    f" {len(self.names)}"
                )

    def require_shape(self, n_columns: int, n_outputs: int) -> None:
        """Refuse a model that is not the one its signature describes.

        Raises
        ------
        PackageError
            When it takes another number of columns, or answers several numbers for one.
        """
        if n_columns != len(self.names) or (self.classes is None and n_outputs != 1):
            raise PackageError(
                f"The model takes {n_columns} columns and answers {n_outputs} numbers, which its signature of"
                f" {len(self.names)} columns does not say. Register the model again."
            )
