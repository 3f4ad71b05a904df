"""A small table of rides, and models fitted on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from clew.entities import FrameKind, Task
from clew.registry import Signature

N_ROWS = 300
CITIES = ("Bonn", "Kiel", "Ulm")


def rides(n_rows: int = N_ROWS, seed: int = 0, *, has_gaps: bool = False) -> pa.Table:
    """Features: a float, an int, a flag and a city; with `has_gaps` some floats and cities are missing."""
    random = np.random.default_rng(seed)
    warmth = random.normal(size=n_rows)
    city = random.choice(CITIES, n_rows).astype(object)
    if has_gaps:
        warmth[::17] = np.nan
        city[::13] = None
    return pa.table(
        {
            "warmth": pa.array(warmth, from_pandas=True),
            "hour": pa.array(random.integers(0, 24, n_rows)),
            "holiday": pa.array(random.random(n_rows) < 0.1),
            "city": pa.array(city, pa.string()),
        }
    )


def busy(table: pa.Table, classes: Sequence[Any] = (0, 1)) -> np.ndarray:
    """Labels that depend on every feature, as evenly spread over `classes` as the rows allow."""
    warmth = np.nan_to_num(table["warmth"].to_numpy())
    in_ulm = np.array([city == "Ulm" for city in table["city"].to_pylist()])
    score = warmth + in_ulm + np.sin(table["hour"].to_numpy()) - 2 * table["holiday"].to_numpy()
    ranks = score.argsort().argsort()
    labels: np.ndarray = np.asarray(classes)[ranks * len(classes) // len(score)]
    return labels


def signature_of(
    table: pa.Table,
    classes: Sequence[Any] | None = (0, 1),
    frame: FrameKind = "pandas",
) -> Signature:
    task: Task = "regression" if classes is None else "classification"
    return Signature.of(table, {"city"}, frame, task, classes)


def encoder(**settings: Any) -> Any:
    """One column for each city; the other features pass."""
    from sklearn.compose import ColumnTransformer
    from sklearn.preprocessing import OneHotEncoder

    settings = {"handle_unknown": "ignore", "sparse_output": False} | settings
    return ColumnTransformer([("city", OneHotEncoder(**settings), ["city"])], remainder="passthrough")


def pipeline(final: Any, **settings: Any) -> Any:
    from sklearn.pipeline import make_pipeline

    return make_pipeline(encoder(**settings), final)
