"""Rows asked through a model's table interface: slow for one row, right for every flavor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa

from clew.errors import DataError, did_you_mean
from clew.registry import LoadedModel, load_package
from clew.storage.records import Value

Encoded: TypeAlias = tuple[Value, ...]


class TableRowModel:
    """A package's model behind the interface that asks for rows."""

    def __init__(self, model: LoadedModel) -> None:
        self._model = model
        self.names = model.signature.names
        self.classes = model.signature.classes

    def encode(self, row: Mapping[str, Value]) -> tuple[Encoded, tuple[str, ...]]:
        for name in self.names:
            if name not in row:
                raise DataError(f"There is no {name!r}. {did_you_mean(name, row)}", name)
        values = tuple(row[name] for name in self.names)
        flags = self._model.signature.flags(self._table([values]))
        return values, tuple(name for name, found in flags.items() if found["unseen"])

    def answer(self, rows: Sequence[Encoded]) -> tuple[list[Any], list[tuple[float, ...]] | None]:
        answers = self._model.predict(self._table(rows))
        probabilities = answers.probabilities
        return answers.predicted.tolist(), None if probabilities is None else [
            tuple(row) for row in probabilities.tolist()
        ]

    def _table(self, rows: Sequence[Encoded]) -> pa.Table:
        columns = zip(*rows, strict=True)
        return pa.table({name: pa.array(values) for name, values in zip(self.names, columns, strict=True)})


def open_row_model(folder: Path, *, code_folder: Path | None = None, expected_digest: str) -> TableRowModel:
    return TableRowModel(load_package(folder, code_folder=code_folder, expected_digest=expected_digest))
