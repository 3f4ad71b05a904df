"""Declarations, rows and policies in small, for the tests of the loop's pure parts."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from clew.entities import DatasetDeclaration, Duration, Margin, ModelDeclaration
from clew.loop.history import History
from clew.loop.policy import Policy, metric_of

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)

RIDES = DatasetDeclaration(
    name="rides",
    time="ts",
    key="hour_id",
    label="busy",
    label_delay=Duration.parse("1d"),
    source="rides.parquet",
    frame="pyarrow",
)
BUSY_HOUR = ModelDeclaration("busy_hour", RIDES, "accuracy", Margin(0.02))


def declared(**changes: Any) -> ModelDeclaration:
    """The model `BUSY_HOUR` with other arguments; ``label_delay`` and ``entity`` go to its dataset."""
    of_dataset = {name: changes.pop(name) for name in ("label_delay", "entity") if name in changes}
    return replace(BUSY_HOUR, dataset=replace(RIDES, **of_dataset), **changes)


def policy(**changes: Any) -> Policy:
    """A policy with W = 200 rows, a margin of 0.02 and a first champion that saved half of the loss."""
    declaration = changes.pop("declaration", BUSY_HOUR)
    facts: dict[str, Any] = {
        "declaration": declaration,
        "metric": metric_of(declaration),
        "window": 200,
        "bound": 1.0,
        "margin": 0.02,
        "skill": 0.5,
        "quarter_rows": 2000,
        "page_alpha": 0.01,
        "tick": DAY,
    }
    return Policy(**{**facts, **changes})


def hours(n: int, start: datetime = START, step: timedelta = timedelta(hours=1)) -> list[datetime]:
    return [start + place * step for place in range(n)]


def table(times: list[datetime], **columns: Any) -> pa.Table:
    """Rows at `times`; without other columns every tenth label is unknown, the others are 0 and 1 in turn."""
    n = len(times)
    labels = [None if place % 10 == 9 else place % 2 for place in range(n)]
    facts: dict[str, Any] = {
        "ts": pa.array(times, pa.timestamp("us", "UTC")),
        "hour_id": [f"h{place:05d}" for place in range(n)],
        "warmth": np.linspace(0.0, 1.0, n),
        "busy": pa.array(labels, pa.int64()),
    }
    return pa.table({**facts, **columns})


def history(rows: pa.Table, declaration: ModelDeclaration = BUSY_HOUR) -> History:
    dataset = declaration.dataset
    roles = {dataset.time, dataset.key, dataset.label, dataset.entity}
    return History.of(declaration, rows, tuple(name for name in rows.column_names if name not in roles))
