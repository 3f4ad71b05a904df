"""Rows for models that are asked with a frame: each call builds Arrow columns of its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from clew.errors import DataError
from clew.registry.features import FeatureColumn
from clew.registry.models import LoadedModel
from clew.registry.row_values import Reader, RowColumn, missing_field, values_getter
from clew.registry.signature import Signature

if TYPE_CHECKING:
    from clew.storage.records import Value


class ArrowRow:
    """How a row of JSON becomes a row that `ArrowRows` answers; needs the signature alone."""

    def __init__(self, signature: Signature) -> None:
        self.names, self.classes = signature.names, signature.classes
        self._values_of = values_getter(signature.names)
        self._readers = []
        for column in signature.columns:
            plain = RowColumn(column.name, column.type, column.levels)
            reader = time_reader(column) if plain.is_time else plain.reader()
            self._readers.append((column.name, reader, plain.codes()))

    def encode(self, row: Mapping[str, Value]) -> tuple[tuple[Any, ...], tuple[str, ...]]:
        """See :meth:`clew.registry.row_models.RowModel.encode`."""
        try:
            given = self._values_of(row)
        except KeyError:
            raise missing_field(row, self.names) from None
        unseen: tuple[str, ...] = ()
        values: list[Any] = []
        for value, (name, read, codes) in zip(given, self._readers, strict=True):
            if value is None:
                values.append(None)
                continue
            own = read(value)
            # Kept as it is: whoever builds the frame makes it missing, and can still name it.
            values.append(own)
            if codes is not None and own not in codes:
                unseen += (name,)
        return tuple(values), unseen


class ArrowRows(ArrowRow):
    """A loaded model that answers rows; see :class:`clew.registry.row_models.RowModel`."""

    def __init__(self, model: LoadedModel) -> None:
        super().__init__(model.signature)
        self._model = model
        self._types = {column.name: column.arrow_type for column in model.signature.columns}

    def answer(self, rows: Sequence[Sequence[Any]]) -> tuple[list[Value], list[tuple[float, ...]] | None]:
        by_column = zip(*rows, strict=True) if rows else [()] * len(self._types)
        columns = {
            name: pa.array(values, kind)
            for (name, kind), values in zip(self._types.items(), by_column, strict=True)
        }
        answers = self._model.engine.answer(columns)
        probabilities = answers.probabilities
        return (
            answers.predicted.tolist(),
            None if probabilities is None else list(map(tuple, probabilities.tolist())),
        )


def time_reader(column: FeatureColumn) -> Reader:
    """How ISO 8601 text becomes a time: as the number that Arrow keeps, for Python's end at microseconds."""

    def read(given: Any) -> int:
        try:
            return int(column.read(pa.array([given], pa.string()))[0].value)
        except (DataError, pa.ArrowException, UnicodeEncodeError):
            raise RowColumn(column.name, column.type).wrong(given) from None

    return read
