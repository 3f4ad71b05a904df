"""Small real projects, and rows to fit on, for the tests."""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np
import pyarrow as pa

from clew.entities import Column

N_ROWS = 240

DATASET = """
import clew

@clew.dataset("rides.parquet", time="ts", key="hour_id", label="busy", label_delay="1d", frame="pyarrow")
def rides(table):
    return table

class Cut:
    def __init__(self, cut):
        self.cut = cut
    def predict(self, X):
        return (X["warmth"].to_numpy() > self.cut).astype(int)
"""
MODEL = """
@clew.model(rides, metric="accuracy", margin=0.01)
def busy_hour(train, cut=0.0):
    return Cut(cut)
"""


def rides(n_rows: int = N_ROWS) -> pa.Table:
    """Hourly rides: busy above a warmth of 0.5, unknown in each tenth hour."""
    random = np.random.default_rng(0)
    warmth = random.normal(size=n_rows)
    hours = np.datetime64("2026-01-01", "us") + np.arange(n_rows) * np.timedelta64(1, "h")
    busy = [None if hour % 10 == 9 else int(value > 0.5) for hour, value in enumerate(warmth)]
    return pa.table(
        {
            "ts": pa.array(hours).cast(pa.timestamp("us", "UTC")),
            "hour_id": [f"h{hour}" for hour in range(n_rows)],
            "warmth": warmth,
            "city": np.array(["Bonn", "Kiel", "Ulm"])[np.arange(n_rows) % 3].tolist(),
            "busy": pa.array(busy, pa.int64()),
        }
    )


def columns(table: pa.Table) -> tuple[Column, ...]:
    return tuple(Column(field.name, str(field.type), field.name == "city") for field in table.schema)


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(content), encoding="utf-8")
    return folder


def project(folder: Path, *parts: str) -> Path:
    """A project of one file ``bikes.py``: a dataset, and what `parts` add."""
    return write(folder, {"bikes.py": DATASET + "".join(map(textwrap.dedent, parts or (MODEL,)))})
