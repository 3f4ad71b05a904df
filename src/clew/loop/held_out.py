"""What a model did on the held-out rows, kept with its run, so that two runs can be compared row by row."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clew.entities import Run
from clew.errors import NotFound
from clew.stats.arrays import FloatArray
from clew.stats.intervals import mean_interval
from clew.stats.metrics import Metric
from clew.storage import Store
from clew.tracking import list_artifacts, read_artifact

LOSSES = "clew/held-out-losses.parquet"
"""The artifact of a run that holds the losses."""


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """What was found out within a run before its fit: metrics, their intervals, files to keep."""

    metrics: Mapping[str, float] = field(default_factory=dict)
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    artifacts: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Row losses in `metric` on labelled rows ``start`` to ``end`` of a snapshot."""

    metric: str
    start: int
    end: int
    losses: FloatArray

    def is_on_rows_of(self, other: HeldOut) -> bool:
        """Whether two models were measured alike, on the same rows."""
        return (self.metric, self.start, self.end) == (other.metric, other.start, other.end)


def rehearsed(metric: Metric, held_out: HeldOut) -> Rehearsed:
    """The metric on the held-out rows with its 95 % interval, and the losses themselves."""
    return Rehearsed(
        {metric.name: metric.value(held_out.losses)},
        {metric.name: metric_interval(metric, held_out.losses)},
        {LOSSES: _packed(held_out)},
    )


def metric_interval(metric: Metric, losses: FloatArray) -> tuple[float, float]:
    """The 95 % interval of a metric over these rows."""
    interval = mean_interval(losses)
    lower, upper = sorted(metric.value_of_loss(max(edge, 0.0)) for edge in (interval.lower, interval.upper))
    return lower, upper


def read_held_out(store: Store, run: Run) -> HeldOut | None:
    """What a run kept; None for one that kept none."""
    try:
        packed = read_artifact(store, run.id, LOSSES)
    except NotFound:
        return None
    table = pq.read_table(io.BytesIO(packed))
    told = {name.decode(): value.decode() for name, value in (table.schema.metadata or {}).items()}
    losses = table.column("loss").to_numpy()
    return HeldOut(told["metric"], int(told["start"]), int(told["end"]), losses)


def has_held_out(store: Store, run: Run) -> bool:
    """Whether a run kept its losses."""
    return any(each.name == LOSSES for each in list_artifacts(store, run.id))


def _packed(held_out: HeldOut) -> bytes:
    told = {"metric": held_out.metric, "start": str(held_out.start), "end": str(held_out.end)}
    table = pa.table({"loss": np.asarray(held_out.losses, np.float64)}).replace_schema_metadata(told)
    file = io.BytesIO()
    pq.write_table(table, file, compression="zstd")
    return file.getvalue()
