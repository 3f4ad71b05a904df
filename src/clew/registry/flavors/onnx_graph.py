"""An ONNX graph in ONNX Runtime: which columns go into which input, and what comes out.

Two forms of graphs are known. One input of several columns takes all features in their order, as numbers;
several inputs take a feature each, by its name, as numbers or text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import pyarrow as pa

from clew.errors import DataError, MissingExtra, PackageError
from clew.registry.features import N_ROWS_NAMED, FeatureColumn

TEXT = "tensor(string)"
_TYPES: Mapping[str, type[np.generic]] = {
    "tensor(float16)": np.float16,
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(int8)": np.int8,
    "tensor(int16)": np.int16,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
}
_PROBABILITIES = {"tensor(float)", "tensor(double)"}


@dataclass(frozen=True, slots=True)
class Answered:
    """What a graph answered: `numbers` has a row each, and `keys` names its columns where the graph does."""

    labels: np.ndarray | None
    numbers: np.ndarray | None
    keys: tuple[Any, ...] | None = None


class Graph:
    """A graph that answers, on one thread; several threads may ask at once.

    Raises
    ------
    PackageError
        When ONNX Runtime cannot read it, or its inputs are not the columns.
    MissingExtra
        When ONNX Runtime is not installed.
    """

    def __init__(self, content: bytes, columns: Sequence[FeatureColumn]) -> None:
        self._session = open_session(content)
        self._names = tuple(column.name for column in columns)
        self._inputs = _inputs(self._session, columns)
        self._label, self._numbers = _outputs(self._session)

    @property
    def is_text(self) -> tuple[bool, ...]:
        """Which columns go in as text."""
        return tuple(kind == TEXT for _, kind, _ in self._of_columns())

    @property
    def has_numbers(self) -> bool:
        return self._numbers is not None

    def ask(self, by_column: Sequence[Sequence[Any] | np.ndarray]) -> Answered:
        """Answer for rows, given as the values of each column: text where `is_text` says so, else numbers.

        Raises
        ------
        DataError
            When an input of whole numbers would get a missing value.
        """
        names = [output for output in (self._label, self._numbers) if output is not None]
        given = dict(zip(names, self._session.run(names, self._feed(by_column)), strict=True))
        labels = None if self._label is None else np.asarray(given[self._label]).reshape(len(by_column[0]))
        numbers = None if self._numbers is None else given[self._numbers]
        if isinstance(numbers, list):  # a dictionary for each row, as converters write them by default
            keys = tuple(numbers[0])
            table = np.array([[row[key] for key in keys] for row in numbers], np.float64)
            return Answered(labels, table, keys)
        if numbers is None:
            return Answered(labels, None)
        return Answered(labels, np.asarray(numbers, np.float64).reshape(len(by_column[0]), -1))

    def _feed(self, by_column: Sequence[Any]) -> dict[str, np.ndarray]:
        if self._is_matrix():
            name, kind, _ = self._inputs[0]
            typed = [_typed(values, kind, name) for values, name in zip(by_column, self._names, strict=True)]
            return {name: np.column_stack(typed)}
        return {
            name: _typed(values, kind, name).reshape(-1, *[1] * (rank - 1))
            for values, (name, kind, rank) in zip(by_column, self._inputs, strict=True)
        }

    def _is_matrix(self) -> bool:
        return len(self._inputs) == 1 and self._inputs[0][0] not in self._names

    def _of_columns(self) -> list[tuple[str, str, int]]:
        return self._inputs * len(self._names) if self._is_matrix() else self._inputs


def open_session(content: bytes) -> Any:
    """An ONNX Runtime session on one thread."""
    try:
        import onnxruntime
    except ImportError:
        raise MissingExtra("onnxruntime", "onnx", "An ONNX model") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    # ONNX Runtime has an exception class for each way in which a graph can be wrong, none of them public.
    except Exception as error:
        said = str(error).partition("\n")[0]
        raise PackageError(f"ONNX Runtime {version('onnxruntime')} cannot read the model: {said}") from error


def _inputs(session: Any, columns: Sequence[FeatureColumn]) -> list[tuple[str, str, int]]:
    """Name, type and rank of each input, in the order of the columns; one entry for a matrix."""
    given = {each.name: each for each in session.get_inputs()}
    names = [column.name for column in columns]
    for column in columns:
        if pa.types.is_temporal(column.arrow_type):
            raise PackageError(
                f"Feature {column.name!r} is a time, which ONNX cannot take. Let the dataset's function turn"
                " it into numbers."
            )
    if set(given) == set(names):
        return [(name, _known(given[name]), len(given[name].shape)) for name in names]
    if len(given) == 1:
        (only,) = given.values()
        if len(only.shape) == 2 and (only.shape[1] == len(columns) or not isinstance(only.shape[1], int)):
            if _known(only) == TEXT:
                raise PackageError("The model takes one table of text; features are numbers and text.")
            return [(only.name, only.type, 2)]
    raise PackageError(
        f"The model has the inputs {', '.join(f'{n} {list(e.shape)}' for n, e in given.items())}, and the"
        f" features are {', '.join(names)}. Convert it with one input of {len(columns)} columns, or with one"
        " input for each feature, named like it."
    )


def _known(given: Any) -> str:
    if given.type != TEXT and given.type not in _TYPES:
        raise PackageError(f"The model's input {given.name!r} is a {given.type}, which no feature is.")
    return str(given.type)


def _outputs(session: Any) -> tuple[str | None, str | None]:
    """Which output is the label, and which the probabilities or the number."""
    given = session.get_outputs()
    numbers = [each for each in given if each.type in _PROBABILITIES or each.type.startswith("seq(map")]
    if len(numbers) > 1:
        numbers = [each for each in numbers if "prob" in each.name.lower()]
    labels = [each for each in given if each.type == TEXT or each.type in ("tensor(int64)", "tensor(bool)")]
    if len(numbers) > 1 or len(labels) > 1 or not (numbers or labels):
        told = ", ".join(f"{each.name} ({each.type})" for each in given)
        raise PackageError(
            f"The model has the outputs {told}, and it is not clear which is the answer. Convert it with one"
            " output of numbers, and for classes perhaps one of labels beside it."
        )
    return (labels[0].name if labels else None), (numbers[0].name if numbers else None)


def _typed(values: Any, kind: str, name: str) -> np.ndarray:
    """A column as an input of this type takes it."""
    if kind == TEXT:
        return np.asarray(values, object)
    given, wanted = np.asarray(values), _TYPES[kind]
    if given.dtype.kind == "f" and not issubclass(wanted, np.floating):
        rows = np.flatnonzero(~np.isfinite(given))
        if len(rows):  # ONNX has no missing whole number
            raise DataError(
                f"The model takes whole numbers for {name!r}, which has none in row {rows[0]}. Send the"
                " value, or convert the model with an input of floats.",
                name,
                [int(row) for row in rows[:N_ROWS_NAMED]],
            )
    with np.errstate(over="ignore"):
        return given.astype(wanted)
