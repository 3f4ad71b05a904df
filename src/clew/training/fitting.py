"""One fit, in the child: rows to ``train``, the user's function, a model that is sure to predict."""

from __future__ import annotations

import hashlib
import random
import resource
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clew.declare import ModelSpec
from clew.entities import Json, RowRange
from clew.errors import ClewError, TrainingFailed, UsageError, did_you_mean
from clew.registry import LoadedModel, Predictions, Signature, wrap_model
from clew.registry.flavors.onnx_file import is_onnx, take_in
from clew.training.faults import function_fault, user_traceback
from clew.training.journal import JournalWriter
from clew.training.protocol import pack_array
from clew.training.train import Train

N_DIGEST_ROWS = 1_000
_CLASS_KINDS = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_boolean,
)
SEED_ARGUMENTS = ("seed", "random_state")


@dataclass(frozen=True)
class Rows:
    """A snapshot's rows, mapped from a file, and the model that learns from them."""

    table: pa.Table
    spec: ModelSpec
    features: tuple[str, ...]
    categorical: frozenset[str]
    files: Mapping[str, Path]

    @classmethod
    def open(
        cls,
        path: str,
        spec: ModelSpec,
        features: Sequence[str],
        categorical: Iterable[str],
        files: Mapping[str, str],
    ) -> Rows:
        table = pa.ipc.open_file(pa.memory_map(path)).read_all()
        folders = {name: Path(folder) for name, folder in files.items()}
        return cls(table, spec, tuple(features), frozenset(categorical) & frozenset(features), folders)

    def parts(self, rows: Sequence[RowRange]) -> pa.Table:
        """The rows of several ranges, one after the other, without a copy."""
        return pa.concat_tables([self.part(each) for each in rows or [RowRange(0, 0)]])

    def part(self, rows: RowRange) -> pa.Table:
        """The rows of a range, without a copy.

        Raises
        ------
        UsageError
            When the range reaches beyond the table.
        """
        if not 0 <= rows.start <= rows.end <= self.table.num_rows:
            raise UsageError(f"Rows {rows.start} to {rows.end} were asked for, of {self.table.num_rows}.")
        return self.table.slice(rows.start, len(rows))


@dataclass(frozen=True)
class Fitted:
    """A model as the user's function returned it, ready to predict, and what to tell the parent."""

    model: Any
    loaded: LoadedModel
    signature: Signature
    rows: tuple[RowRange, ...]
    report: Json


def fit(
    data: Rows,
    rows: tuple[RowRange, ...],
    params: Mapping[str, Any],
    seed: int,
    code_folder: Path,
    journal: JournalWriter | None = None,
) -> Fitted:
    """Call the user's function on the labelled ones of `rows`; what it logs and saves goes to `journal`.

    Raises
    ------
    TrainingFailed
        When there is nothing to learn, the function raises, or what it returns cannot predict.
    UsageError
        When `params` has a name that the function does not take.
    """
    spec = data.spec
    arguments = call_arguments(spec, params, seed)
    labelled = _labelled(data.parts(rows), spec)
    classes = _classes(labelled, rows, spec)
    features = labelled.select(data.features)
    frame = spec.declaration.dataset.frame
    signature = Signature.of(features, data.categorical, frame, spec.declaration.task, classes)
    train = _train(signature, features, labelled, data, journal)
    seed_everything(seed)
    forget_peak_memory()
    start = time.perf_counter()
    model = _call(spec, train, arguments, code_folder)
    seconds = time.perf_counter() - start
    peak = peak_memory_bytes()
    loaded, digest = _sure_to_predict(model, signature, features, spec, code_folder)
    report = {
        "params": dict(spec.declaration.params) | arguments,
        "model_digest": digest,
        "seconds": seconds,
        "peak_memory_bytes": peak,
        "classes": classes,
        "n_rows": labelled.num_rows,
    }
    return Fitted(model, loaded, signature, rows, report)


# -- what the function is called with ------------------------------------------------------------------


def call_arguments(spec: ModelSpec, params: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """The keyword arguments: `params`, and the seed for a function that takes one.

    Raises
    ------
    UsageError
        When the function has no such hyperparameter.
    """
    defaults = spec.declaration.params
    for name in params:
        if name not in defaults:
            raise UsageError(f"{spec.name}() has no hyperparameter {name!r}. {did_you_mean(name, defaults)}")
    seeds = {name: seed for name in SEED_ARGUMENTS if name in defaults}
    return seeds | {name: _as_default(value, defaults[name]) for name, value in params.items()}


def _as_default(value: Any, default: Any) -> Any:
    # JSON and TOML know lists only; a function whose default is a tuple expects one.
    return tuple(value) if isinstance(default, tuple) and isinstance(value, list) else value


def seed_everything(seed: int) -> None:
    """Seed the generators that user code may draw from without naming one."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - scikit-learn draws from the global generator by default
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(seed)


def _labelled(part: pa.Table, spec: ModelSpec) -> pa.Table:
    label = part.column(spec.declaration.dataset.label)
    is_unknown = pc.is_null(label, nan_is_null=pa.types.is_floating(label.type))
    labelled = part if not pc.any(is_unknown).as_py() else part.filter(pc.invert(is_unknown))
    if labelled.num_rows == 0:
        raise TrainingFailed(
            f"{spec.name}() has nothing to learn from: none of the {part.num_rows} rows has a label in column"
            f" {spec.declaration.dataset.label!r}."
        )
    return labelled


def _classes(labelled: pa.Table, rows: tuple[RowRange, ...], spec: ModelSpec) -> tuple[Any, ...] | None:
    if spec.declaration.task == "regression":
        return None
    label = spec.declaration.dataset.label
    kind = labelled.schema.field(label).type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not any(is_kind(kind) for is_kind in _CLASS_KINDS):
        raise TrainingFailed(
            f"{spec.name}() cannot learn the classes in {label!r}, which are of type {kind}. Classes are"
            " strings, numbers or booleans; let the dataset's function turn them into one of these."
        )
    classes = tuple(sorted(pc.unique(labelled.column(label)).to_pylist()))
    if len(classes) < 2:
        raise TrainingFailed(
            f"{spec.name}() cannot learn to tell classes apart: all {labelled.num_rows} labelled rows of rows"
            f" {rows[0].start} to {rows[-1].end} have {label} = {classes[0]!r}. Fit on more rows."
        )
    return classes


def _train(
    signature: Signature, features: pa.Table, labelled: pa.Table, data: Rows, journal: JournalWriter | None
) -> Train:
    dataset = data.spec.declaration.dataset
    return Train(
        X=signature.to_frame(features),
        y=_array(labelled.column(dataset.label)),
        times=_array(labelled.column(dataset.time).cast(pa.int64())).view("datetime64[us]"),
        keys=_array(labelled.column(dataset.key)),
        label_delay=dataset.label_delay,
        files=data.files,
        journal=journal,
    )


def _array(column: pa.ChunkedArray) -> np.ndarray[Any, Any]:
    # A copy of its own: the mapped file is read-only, and some libraries insist on writing.
    return np.array(column.to_numpy(zero_copy_only=False))


# -- the call, and what comes back ---------------------------------------------------------------------


def _call(spec: ModelSpec, train: Train, arguments: Mapping[str, Any], code_folder: Path) -> Any:
    try:
        model = spec.function(train, **arguments)
    # The user's code may raise anything, sys.exit() included; the process and other models live on.
    except BaseException as error:  # noqa: BLE001
        raise function_fault(spec.name, error, code_folder) from None
    if model is None:
        raise TrainingFailed(f"{spec.name}() returned None. End it with: return the fitted model.")
    if is_onnx(model):
        # Now, as the next fit may write to the same file.
        return take_in(model)
    if not hasattr(model, "predict"):
        raise TrainingFailed(
            f"{spec.name}() returned {type(model).__name__!r}, which has no predict(). End it with: return"
            " the fitted model."
        )
    return model


def _sure_to_predict(
    model: Any, signature: Signature, features: pa.Table, spec: ModelSpec, code_folder: Path
) -> tuple[LoadedModel, str]:
    spread = np.linspace(0, features.num_rows - 1, min(features.num_rows, N_DIGEST_ROWS)).astype(np.int64)
    try:
        loaded = wrap_model(model, signature)
        return loaded, digest_of(loaded.predict(features.take(spread)))
    except ClewError as error:
        raised = user_traceback(error.__cause__, code_folder) if error.__cause__ else ""
        raise TrainingFailed(f"{spec.name}() returned a model that cannot be used: {error}", raised) from None
    # A model of the user's may raise anything when asked.
    except BaseException as error:  # noqa: BLE001
        raise function_fault(
            f"The model that {spec.name}() returned cannot predict: predict", error, code_folder
        ) from None


def digest_of(predictions: Predictions) -> str:
    """SHA-256 over predictions, bit by bit."""
    found = hashlib.sha256(pack_array(predictions.predicted))
    if predictions.probabilities is not None:
        found.update(pack_array(np.ascontiguousarray(predictions.probabilities)))
    return found.hexdigest()


# -- memory --------------------------------------------------------------------------------------------


def forget_peak_memory() -> None:
    """Begin a new high-water mark, where the system has one that can be reset (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return


def peak_memory_bytes() -> int:
    """The most memory that was resident since `forget_peak_memory`, or else since the start."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(
            line for line in status.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM")
        )
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
