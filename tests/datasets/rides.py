"""The dataset of these tests, light enough for their child processes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from clew.entities import DatasetDeclaration, Duration


def declare(name: str = "rides", **given: Any) -> DatasetDeclaration:
    """A declaration with the columns ts, id and y, but for what is given."""
    said: dict[str, Any] = {"time": "ts", "key": "id", "label": "y", "source": "rides.parquet"}
    return DatasetDeclaration(name, label_delay=Duration.parse("1d"), **said | given)


def many_rides(n: int) -> pa.Table:
    random = np.random.default_rng(7)
    return pa.table(
        {
            "ts": np.datetime64("2025-01-01", "us") + np.arange(n) * np.timedelta64(1, "m"),
            "id": np.arange(n),
            "y": random.integers(0, 2, n),
            "x": random.normal(size=n),
            "z": random.normal(size=n),
        }
    )
