"""Models made elsewhere: read in the child, and written at once into a package in a native format.

A pickle runs what is in it when it is read. So it is read only where the project says so, in a process of its
own, and never again: what is kept is the package.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from clew.entities import Json, Task
from clew.errors import MissingExtra, PackageError
from clew.registry import Signature, reference_profile, save_package, wrap_model
from clew.registry.flavors import lightgbm_text, xgboost_file
from clew.registry.flavors.onnx_file import OnnxBytes
from clew.registry.flavors.onnx_graph import open_session
from clew.registry.flavors.trust import origins

PICKLES = (".joblib", ".pickle", ".pkl")
N_EXAMPLE_ROWS = 100
# Libraries whose types a skops file from elsewhere may bring to life; any other could be anything.
_KNOWN = {"lightgbm", "numpy", "pandas", "python", "scikit-learn", "scipy", "xgboost", "xgboost-cpu"}
_MLFLOW_TYPES = {
    "boolean": pa.bool_(),
    "double": pa.float64(),
    "float": pa.float32(),
    "integer": pa.int32(),
    "long": pa.int64(),
    "string": pa.string(),
}


def adopt(asked: Json, tables: Sequence[pa.Table]) -> Json:
    """Read the model in ``asked["path"]`` and write it as a package into ``asked["folder"]``.

    Parameters
    ----------
    asked
        Also ``allow_pickle``, ``allow_code``, ``frame``, ``task``, ``label``, ``classes`` and
        ``categorical``: what is declared, None for what the model has to say itself.
    tables
        Rows that show which columns the model takes, and the rows of the reference profile; none when
        nobody has such rows.

    Raises
    ------
    PackageError
        When it cannot be read, may not, or does not say which columns it takes.
    """
    path = Path(asked["path"])
    folder = path if path.is_dir() else None
    about = read_mlmodel(folder) if folder is not None else {}
    file = path if folder is None else folder / model_file(about)
    kind, model = _read(file, asked)
    example = tables[0] if tables else _example_of(model, about, path)
    label = asked["label"]
    features = example.drop_columns([label]) if label in example.column_names else example
    task: Task = asked["task"] or ("classification" if _answers_classes(model) else "regression")
    classes = (asked["classes"] or _own_classes(model)) if task == "classification" else None
    categorical = asked["categorical"]
    if categorical is None:
        categorical = [name for name in features.column_names if _is_text(features.schema.field(name).type)]
    signature = Signature.of(features, categorical, asked["frame"], task, classes)
    profile = _profile(model, signature, tables[-1], label) if tables else None
    info = save_package(
        model,
        Path(asked["folder"]),
        signature=signature,
        example=features.slice(0, N_EXAMPLE_ROWS),
        allow_code=asked["allow_code"],
        run=asked["run"],
        profile=profile,
    )
    wrapped = wrap_model(model, signature).signature
    return {
        "kind": kind,
        "flavor": info.flavor,
        "model_digest": info.model_digest,
        "columns": list(wrapped.names),
        "n_profile_rows": tables[-1].num_rows if tables else 0,
    }


def _profile(model: Any, signature: Signature, rows: pa.Table, label: str | None) -> Json:
    wrapped = wrap_model(model, signature)
    labels = rows.column(label).to_pylist() if label in rows.column_names else None
    features = rows.select(signature.names)
    return reference_profile(features, wrapped.predict(features), labels=labels, model=wrapped)


# -- reading -------------------------------------------------------------------------------------------


def _read(file: Path, asked: Json) -> tuple[str, Any]:
    """The kind of file, in words, and the model in it."""
    if not file.is_file():
        raise PackageError(f"There is no file {file}.")
    if file.suffix in PICKLES:
        return "pickle", _unpickled(file, asked["allow_pickle"])
    content = file.read_bytes()
    readers: Mapping[str, tuple[Callable[[], bool], Callable[[], Any]]] = {
        "LightGBM text": (lambda: content[:5] == b"tree\n", lambda: _lightgbm(content)),
        "skops": (lambda: zipfile.is_zipfile(file), lambda: _skops(file)),
        "ONNX": (lambda: file.suffix == ".onnx", lambda: OnnxBytes(content)),
        "XGBoost": (lambda: content[:1] == b"{", lambda: xgboost_file.read_booster(content)),
    }
    for kind, (fits, read) in readers.items():
        if fits():
            return kind, read()
    raise PackageError(
        f"{file.name} is no model that Clew can read. It reads LightGBM's text, XGBoost's .json and .ubj,"
        " .skops, .onnx, and where allow_pickle is true .pkl and .joblib."
    )


def _lightgbm(content: bytes) -> Any:
    try:
        import lightgbm
    except ImportError:
        raise MissingExtra("lightgbm", "lightgbm", "This model") from None
    try:
        return lightgbm.Booster(model_str=content.decode())
    except (lightgbm.basic.LightGBMError, UnicodeDecodeError) as error:
        raise PackageError(f"LightGBM {lightgbm.__version__} cannot read the model: {error}") from None


def _skops(file: Path) -> Any:
    try:
        import skops.io
    except ImportError:
        raise MissingExtra("skops", "sklearn", "A skops file") from None
    wanted = origins(skops.io.get_untrusted_types(file=file))
    strange = [name for name, origin in wanted.items() if origin not in _KNOWN]
    if strange:
        raise PackageError(
            f"{file.name} brings {', '.join(strange)} to life, which could do anything. Only types of"
            f" {', '.join(sorted(_KNOWN - {'python'}))} are taken from a file that was made elsewhere."
        )
    return skops.io.load(file, trusted=sorted(wanted))


def _unpickled(file: Path, is_allowed: bool) -> Any:
    if not is_allowed:
        raise PackageError(
            f"{file.name} is a pickle, which runs whatever code is in it when it is read. Save the model in a"
            " format of its own instead: booster.save_model() of LightGBM and XGBoost, skops.io.dump() of"
            " scikit-learn, or ONNX. If you trust where it comes from, write allow_pickle = true into"
            " clew.toml: it is read once, in a process of its own, and kept in a native format."
        )
    try:
        import joblib  # comes with scikit-learn, and reads plain pickles too
    except ImportError:
        raise MissingExtra("joblib", "sklearn", "A pickle") from None
    return joblib.load(file)


# -- folders that MLflow wrote ---------------------------------------------------------------------------


def read_mlmodel(folder: Path) -> Json:
    """What a folder's MLmodel file says: YAML as MLflow writes it, or JSON as Clew does.

    Raises
    ------
    PackageError
        When there is none, or it cannot be read.
    MissingExtra
        When it is YAML and PyYAML is not installed.
    """
    file = folder / "MLmodel"
    if not file.is_file():
        raise PackageError(f"{folder} holds no model: it has no file MLmodel.")
    text = file.read_text(encoding="utf-8")
    try:
        return dict(json.loads(text))
    except ValueError:
        pass
    try:
        import yaml
    except ImportError:
        raise MissingExtra("pyyaml", "mlflow", "A model in MLflow's format") from None
    try:
        return dict(yaml.safe_load(text))
    except (yaml.YAMLError, TypeError, ValueError) as error:
        raise PackageError(f"{file} cannot be read: {error}") from None


def model_file(about: Json) -> str:
    """The file in the folder that holds the model, in the most native of its flavors.

    Raises
    ------
    PackageError
        When no flavor is one that Clew reads, naming those that are there.
    """
    flavors: Json = about.get("flavors") or {}
    for flavor, entry in (
        ("lightgbm", "data"),
        ("xgboost", "data"),
        ("onnx", "data"),
        ("sklearn", "pickled_model"),
    ):
        if flavor in flavors and flavors[flavor].get(entry):
            return str(flavors[flavor][entry])
    raise PackageError(
        f"The model has the flavors {', '.join(flavors) or 'none'}; Clew reads lightgbm, xgboost, onnx and"
        " sklearn."
    )


def _example_of(model: Any, about: Json, path: Path) -> pa.Table:
    """A table with the columns that the model takes, and rows where the model brings some."""
    typed = _signature_of(about)
    rows = _input_example(about, path)
    if typed is not None:
        return typed.empty_table() if rows is None else pa.Table.from_pylist(rows, typed)
    names = _own_names(model)
    if rows is not None and (names is None or set(names) <= set(rows[0])):
        return pa.Table.from_pylist(rows)
    if names is None:
        raise PackageError(
            f"{path.name} does not say which columns the model takes. Show them: --example FILE.csv, with"
            " some rows as it gets them."
        )
    return pa.schema([(name, kind) for name, kind in names.items()]).empty_table()


def _signature_of(about: Json) -> pa.Schema | None:
    try:
        inputs = json.loads((about.get("signature") or {})["inputs"])
        return pa.schema([(each["name"], _MLFLOW_TYPES[each["type"]]) for each in inputs])
    except (KeyError, TypeError, ValueError):
        return None  # a tensor, or none: the model itself may know


def _input_example(about: Json, path: Path) -> list[Json] | None:
    try:
        given = about["saved_input_example_info"]
        example = json.loads((path / given["artifact_path"]).read_bytes())
        return [dict(zip(example["columns"], row, strict=True)) for row in example["data"]] or None
    except (OSError, KeyError, TypeError, ValueError):
        return None  # an example in another form helps as little as none


def _own_names(model: Any) -> Mapping[str, pa.DataType] | None:
    """Names and types of the columns, where the model keeps them and they are numbers."""
    if isinstance(model, OnnxBytes):
        inputs = open_session(model.content).get_inputs()
        kinds = {"tensor(string)": pa.string(), "tensor(int64)": pa.int64(), "tensor(bool)": pa.bool_()}
        named = {each.name: kinds.get(each.type, pa.float64()) for each in inputs}
        return named if len(named) > 1 else None
    if type(model).__name__ == "Booster" and hasattr(model, "feature_types"):
        if model.feature_names is None or "c" in (model.feature_types or ()):
            return None  # which levels a category has must be seen
        kinds = {"int": pa.int64(), "i": pa.bool_()}
        types = model.feature_types or [""] * len(model.feature_names)
        return {
            name: kinds.get(kind, pa.float64()) for name, kind in zip(model.feature_names, types, strict=True)
        }
    if type(model).__name__ == "Booster":
        return None if model.pandas_categorical else dict.fromkeys(model.feature_name(), pa.float64())
    names = getattr(model, "feature_names_in_", None)
    # What a pipeline's columns hold, its first step alone knows.
    if names is None or hasattr(model, "steps"):
        return None
    return dict.fromkeys(map(str, names), pa.float64())


def _answers_classes(model: Any) -> bool:
    if isinstance(model, OnnxBytes):
        outputs = open_session(model.content).get_outputs()
        return any(each.type.startswith(("seq(map", "tensor(string", "tensor(int64")) for each in outputs)
    if type(model).__name__ == "Booster" and hasattr(model, "save_config"):
        objective = json.loads(model.save_config())["learner"]["objective"]["name"]
        return str(objective) in xgboost_file.PROBABILITY_OBJECTIVES
    if type(model).__name__ == "Booster":
        return lightgbm_text.objective_of(model) in lightgbm_text.PROBABILITY_OBJECTIVES
    return hasattr(model, "classes_")


def _own_classes(model: Any) -> list[int] | None:
    """The classes of a graph that answers for 0, 1, 2, …; other models know theirs.

    Raises
    ------
    PackageError
        When a graph's labels are other ones, which it does not list.
    """
    if not isinstance(model, OnnxBytes):
        return None
    outputs = open_session(model.content).get_outputs()
    is_number = {"tensor(float)", "tensor(double)"}
    widths = [each.shape[-1] for each in outputs if each.type in is_number and len(each.shape) == 2]
    has_words = any(each.type == "tensor(string)" for each in outputs)
    if has_words or len(widths) != 1 or not isinstance(widths[0], int):
        raise PackageError(
            "The graph does not say which classes it answers for. Show them: --data FILE.csv --label COLUMN,"
            " with rows of every class."
        )
    return list(range(max(2, widths[0])))


def _is_text(kind: pa.DataType) -> bool:
    is_text = (pa.types.is_string, pa.types.is_large_string, pa.types.is_dictionary)
    return any(fits(kind) for fits in is_text)
