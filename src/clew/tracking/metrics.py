"""What a run logged while it trained: numbers by name and step, in the order they came."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from clew.storage import Store
from clew.storage.series import SeriesSummary, summarise_series


@dataclass(frozen=True, slots=True)
class LoggedMetric:
    """One number of ``train.log``; `step` is None when none was given."""

    name: str
    step: int | None
    value: float
    at: datetime


def log_metrics(
    store: Store,
    run_id: str,
    rows: Sequence[tuple[str, int | None, float]],
    now: datetime,
    at: Sequence[datetime] | None = None,
) -> None:
    """Add logged numbers to a run, in one batch after those it has.

    Parameters
    ----------
    rows
        ``(name, step, value)``; a value may be NaN or infinite, as a loss that diverges is.
    at
        When each was logged; `now` for all of them by default.
    """
    if not rows:
        return
    n = len(rows)
    names, steps, values = zip(*rows, strict=True)
    with store.write() as tx:
        newest = tx.find("run_metrics", {"run": run_id}, order_by=["-sequence"], limit=1)
        first = newest[0]["sequence"] + 1 if newest else 0
        tx.insert_columns(
            "run_metrics",
            {
                "run": [run_id] * n,
                "sequence": range(first, first + n),
                "name": names,
                "step": steps,
                "value": values,
                "at": [now] * n if at is None else at,
            },
        )


def read_metrics(store: Store, run_id: str, name: str | None = None) -> list[LoggedMetric]:
    """What a run logged, in order; of one `name` only, if given."""
    where = {"run": run_id} if name is None else {"run": run_id, "name": name}
    with store.read() as reader:
        rows = reader.find("run_metrics", where, order_by=["sequence"])
    return [LoggedMetric(row["name"], row["step"], row["value"], row["at"]) for row in rows]


def summarise_metrics(store: Store, run_id: str, n_points: int = 40) -> list[SeriesSummary]:
    """Each series that a run logged, in a few numbers: however long it is, little of it is read."""
    with store.read() as reader:
        return summarise_series(reader, run_id, n_points)
