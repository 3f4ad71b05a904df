"""What several benchmarks serve: a LightGBM model of ten numbers and two categories, with 100 trees."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from lightgbm import LGBMClassifier

from clew.registry import Signature, save_package

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
NUMBERS = tuple(f"x{n}" for n in range(10))
CATEGORIES = {"region": ("east", "north", "south", "west"), "channel": ("branch", "broker", "online")}
FEATURES = (*NUMBERS, *CATEGORIES)
CLASSES = ("approve", "refuse")


def applications(n_rows: int) -> pa.Table:
    """Rows of features."""
    rng = np.random.default_rng(0)
    numbers = {name: rng.normal(size=n_rows) for name in NUMBERS}
    categories = {name: rng.choice(levels, n_rows) for name, levels in CATEGORIES.items()}
    return pa.table(numbers | categories)


def signature_of(table: pa.Table) -> Signature:
    return Signature.of(table, set(CATEGORIES), "pandas", "classification", CLASSES)


def fitted(table: pa.Table) -> Any:
    score = table["x0"].to_numpy() * table["x1"].to_numpy() + np.sin(3 * table["x2"].to_numpy())
    labels = np.array(CLASSES)[(score + (table["region"].to_numpy() == "west") > 0.3).astype(int)]
    model = LGBMClassifier(n_estimators=100, num_leaves=31, n_jobs=1, verbose=-1)
    return model.fit(signature_of(table).to_frame(table), labels)


def packaged(folder: Path, n_rows: int = 5000) -> tuple[Any, str]:
    """Fit the model and keep it as a package in `folder`; the model and the package's digest."""
    table = applications(n_rows)
    model = fitted(table)
    return model, save_package(
        model, folder, signature=signature_of(table), example=table.slice(0, 20)
    ).digest
