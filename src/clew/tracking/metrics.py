"""What a run logged while it trained: numbers by name and step, in the order they came."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from clew.storage import Store


@dataclass(frozen=True, slots=True)
class LoggedMetric:
    """One number of ``train.log``; `step` is None when none was given."""

    name: str
    step: int | None
    value: float
    at: datetime


def log_metrics(
    store: Store, run_id: str, rows: Iterable[tuple[str, int | None, float]], now: datetime
) -> None:
    """Add logged numbers to a run, in one batch after those it has.

    Parameters
    ----------
    rows
        ``(name, step, value)``; a value may be NaN or infinite, as a loss that diverges is.
    """
    given = list(rows)
    with store.write() as tx:
        newest = tx.find("run_metrics", {"run": run_id}, order_by=["-sequence"], limit=1)
        first = newest[0]["sequence"] + 1 if newest else 0
        tx.insert_many(
            "run_metrics",
            [
                {
                    "run": run_id,
                    "sequence": sequence,
                    "name": name,
                    "step": step,
                    "value": float(value),
                    "at": now,
                }
                for sequence, (name, step, value) in enumerate(given, start=first)
            ],
        )


def read_metrics(store: Store, run_id: str, name: str | None = None) -> list[LoggedMetric]:
    """What a run logged, in order; of one `name` only, if given."""
    where = {"run": run_id} if name is None else {"run": run_id, "name": name}
    with store.read() as reader:
        rows = reader.find("run_metrics", where, order_by=["sequence"])
    return [LoggedMetric(row["name"], row["step"], row["value"], row["at"]) for row in rows]
