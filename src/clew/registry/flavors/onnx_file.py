"""ONNX models, answered by ONNX Runtime."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from clew.errors import ClewError, PackageError
from clew.registry.classes import label_values
from clew.registry.features import FeatureColumn
from clew.registry.flavors.faults import explain
from clew.registry.flavors.fitted_columns import listing
from clew.registry.flavors.onnx_graph import Answered, Graph, open_session
from clew.registry.flavors.saved import SavedModel
from clew.registry.predictions import Predictions, from_labels, from_numbers, from_probabilities
from clew.registry.signature import Signature

NAME = "onnx"
MODEL_FILE = "model.onnx"


@dataclass(frozen=True, slots=True)
class OnnxBytes:
    """A graph as the bytes of its file."""

    content: bytes = field(repr=False)


@dataclass(frozen=True)
class OnnxModel:
    """A graph that answers from columns."""

    graph: Graph
    content: bytes = field(repr=False)
    signature: Signature
    flavor: str = NAME
    importance: dict[str, float] | None = None

    def answer(self, values: Mapping[str, pa.Array]) -> Predictions:
        columns = self.signature.columns
        if len(values[columns[0].name]) == 0:
            return self._no_answers()
        try:
            given = self.graph.ask(
                [
                    _values(column, values[column.name], is_text)
                    for column, is_text in zip(columns, self.graph.is_text, strict=True)
                ]
            )
        except ClewError:
            raise
        # ONNX Runtime has an exception class for each way in which a graph can fail, none of them public.
        except Exception as error:
            raise explain(error, columns, values) from error
        return predictions(given, self.signature)

    def _no_answers(self) -> Predictions:
        classes = self.signature.classes
        if classes is None:
            return Predictions(np.empty(0))
        probabilities = np.empty((0, len(classes))) if self.graph.has_numbers else None
        return Predictions(np.asarray(classes)[:0], probabilities, classes)

    def save(self, folder: Path, allow_code: bool) -> SavedModel:  # noqa: ARG002 - a graph needs no code
        (folder / MODEL_FILE).write_bytes(self.content)
        entry = {"data": MODEL_FILE, "onnx_version": "", "providers": ["CPUExecutionProvider"]}
        digest = hashlib.sha256(self.content).hexdigest()
        return SavedModel(NAME, entry, digest, ("numpy", "onnxruntime"))


def is_onnx(model: object) -> bool:
    """Whether `model` is a graph, in memory or as the path of a file."""
    if isinstance(model, OnnxBytes):
        return True
    if isinstance(model, str | Path):
        return str(model).endswith(".onnx")
    return type(model).__module__.startswith("onnx.") and type(model).__name__ == "ModelProto"


def take_in(model: Any) -> OnnxBytes:
    """The bytes of a graph, whatever becomes of its file.

    Raises
    ------
    PackageError
        When there is no such file.
    """
    if isinstance(model, OnnxBytes):
        return model
    if not isinstance(model, str | Path):
        return OnnxBytes(model.SerializeToString(deterministic=True))
    try:
        return OnnxBytes(Path(model).read_bytes())
    except OSError as error:
        raise PackageError(f"The ONNX file {model} cannot be read: {error.strerror}.") from None


def wrap(model: Any, signature: Signature) -> OnnxModel:
    """A graph that answers.

    Raises
    ------
    PackageError
        When its inputs are not the features, or its outputs not the label.
    """
    content = take_in(model).content
    used = signature.only(_used_names(content, signature))
    return OnnxModel(Graph(content, used.columns), content, used)


def load(folder: Path, signature: Signature) -> OnnxModel:
    content = (folder / MODEL_FILE).read_bytes()
    return OnnxModel(Graph(content, signature.columns), content, signature)


def predictions(given: Answered, signature: Signature) -> Predictions:
    """What a graph answered, in the label's own type.

    Raises
    ------
    PackageError
        When it is none of the label's values, or has another shape.
    """
    if signature.task == "regression":
        return from_numbers(given.labels if given.numbers is None else given.numbers)
    known = label_values(signature)
    if given.numbers is None:
        return from_labels(given.labels, known)
    classes = tuple(known.values())
    numbers = _of_classes(given, classes)
    answers = from_probabilities(np.ascontiguousarray(numbers), classes)
    if given.labels is None:
        return answers
    return replace(answers, predicted=from_labels(given.labels, known).predicted)


def _of_classes(given: Answered, classes: tuple[Any, ...]) -> np.ndarray:
    numbers = given.numbers
    assert numbers is not None  # noqa: S101 - asked before
    if given.keys is not None:
        if set(given.keys) != set(classes):
            raise PackageError(
                f"The model answers for the classes {listing(given.keys)}, but the label's values are"
                f" {listing(classes)}."
            )
        return numbers[:, [given.keys.index(each) for each in classes]]
    if numbers.shape[1] == 1 and len(classes) == 2:
        return np.column_stack((1.0 - numbers, numbers))
    if numbers.shape[1] != len(classes):
        raise PackageError(
            f"The model answers {numbers.shape[1]} numbers a row, but the label has the {len(classes)} values"
            f" {listing(classes)}. It has to answer the probability of each, in this order."
        )
    return numbers


def _used_names(content: bytes, signature: Signature) -> list[str]:
    """The features that the graph takes by name; all of them when it takes one table."""
    named = {each.name for each in open_session(content).get_inputs()}
    if len(named) > 1 or named <= set(signature.names):
        return [name for name in signature.names if name in named] or list(signature.names)
    return list(signature.names)


def _values(column: FeatureColumn, values: pa.Array, is_text: bool) -> Any:
    """A column as the graph's input has it: a category that training never had counts as missing."""
    if is_text:
        known = values if column.levels is None else _only_levels(column, values)
        return ["" if value is None else str(value) for value in known.to_pylist()]
    if column.levels is not None and column.type != "string":
        return FeatureColumn(column.name, column.type).numbers(_only_levels(column, values))
    if pa.types.is_integer(values.type) and not values.null_count:
        return np.asarray(values.to_numpy(zero_copy_only=False))
    return column.numbers(values)


def _only_levels(column: FeatureColumn, values: pa.Array) -> pa.Array:
    codes = column.codes(values)
    return column.level_values.take(pa.array(codes, mask=codes < 0))
