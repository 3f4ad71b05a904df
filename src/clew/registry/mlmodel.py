"""The file ``MLmodel``: what a package says about itself.

It is JSON, and so also YAML, with the keys that MLflow reads; Clew's own facts are under ``clew``.
"""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa

from clew.entities import Json
from clew.registry.features import FeatureColumn
from clew.registry.flavors.saved import SavedModel
from clew.registry.models import LoadedModel
from clew.registry.package_checks import FORMAT
from clew.registry.package_files import EXAMPLE_FILE
from clew.registry.recorded_answers import MOST_ROWS, moved_on
from clew.registry.signature import Signature

N_EXAMPLE_ROWS = 5


def describe(
    saved: SavedModel,
    flavor: str,
    signature: Signature,
    *,
    code: str | None,
    metrics: Mapping[str, float],
    run: str,
    created_at: datetime | None,
) -> Json:
    """The content of the file; the same model, run and metrics give the same content."""
    own = {
        "format": FORMAT,
        "flavor": flavor,
        "signature": signature.to_json(),
        "model_digest": saved.model_digest,
        "trusted_types": dict(saved.trusted_types),
        "requirements": {name: version(name) for name in saved.distributions},
        "python": platform.python_version(),
        "code": code,
        "metrics": {name: value if math.isfinite(value) else None for name, value in metrics.items()},
    }
    known: Json = {
        "flavors": {saved.mlflow_flavor: saved.entry},
        "model_uuid": saved.model_digest[:32],
        "run_id": run,
        "signature": _mlflow_signature(signature),
        "saved_input_example_info": {
            "artifact_path": EXAMPLE_FILE,
            "type": "dataframe",
            "pandas_orient": "split",
        },
        "clew": own,
    }
    return (
        known if created_at is None else {**known, "utc_time_created": f"{created_at:%Y-%m-%d %H:%M:%S.%f}"}
    )


def write_json(path: Path, content: Json) -> None:
    # Sorted, and not in ASCII: YAML does not know the pairs of escapes that JSON writes rare letters in.
    text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    path.write_bytes(f"{text}\n".encode())


def example_rows(signature: Signature, example: pa.Table) -> Json:
    """A few rows as MLflow keeps them."""
    few = example.slice(0, N_EXAMPLE_ROWS)
    values = signature.read(few)
    columns = [[_plain(value) for value in values[name].to_pylist()] for name in signature.names]
    return {"columns": list(signature.names), "data": [list(row) for row in zip(*columns, strict=True)]}


def recorded_answers(model: LoadedModel, example: pa.Table) -> Json:
    """Rows mixed from the example's, and what the model answers for them; see `recorded_answers`."""
    signature = model.signature
    values = signature.read(example.slice(0, MOST_ROWS))
    rows = moved_on({name: list(map(_finite, values[name].to_pylist())) for name in signature.names})
    schema = pa.schema([(column.name, column.arrow_type) for column in signature.columns])
    named = [dict(zip(signature.names, row, strict=True)) for row in rows]
    answers = model.predict(pa.Table.from_pylist(named, schema))
    probabilities = answers.probabilities
    return {
        "columns": list(signature.names),
        "data": [[_plain(value) for value in row] for row in rows],
        "predicted": answers.predicted.tolist(),
        "probabilities": None if probabilities is None else probabilities.tolist(),
    }


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: what is none of a number is missing."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _plain(value: Any) -> Any:
    value = _finite(value)
    return value if value is None or isinstance(value, str | bool | int | float) else str(value)


def _mlflow_signature(signature: Signature) -> Json:
    inputs = [
        {"name": column.name, "type": _mlflow_type(column), "required": not column.has_missing}
        for column in signature.columns
    ]
    return {
        "inputs": json.dumps(inputs, ensure_ascii=False),
        "outputs": json.dumps([{"type": _mlflow_output(signature)}]),
        "params": None,
    }


def _mlflow_type(column: FeatureColumn) -> str:
    kind = column.arrow_type
    if pa.types.is_boolean(kind):
        return "boolean"
    if pa.types.is_string(kind):
        return "string"
    if pa.types.is_floating(kind):
        return "double" if pa.types.is_float64(kind) else "float"
    if pa.types.is_integer(kind):
        return "long" if kind.bit_width > 32 or kind == pa.uint32() else "integer"
    return "datetime"


def _mlflow_output(signature: Signature) -> str:
    kinds = {bool: "boolean", str: "string", int: "long"}
    return kinds.get(type(signature.classes[0]), "double") if signature.classes else "double"
