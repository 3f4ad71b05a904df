"""The history of a dataset: its snapshots, what each added to the store, and what was made of it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime

from clew.datasets import snapshot_log
from clew.storage import Store


@dataclass(frozen=True, slots=True)
class DataLogEntry:
    """A snapshot that became the newest of its dataset.

    Attributes
    ----------
    n_more_rows
        How many rows it has more than the one before; None for the first.
    n_runs
        Runs that learned from it, whenever it was the newest.
    versions
        What these runs made, as ``busy_hour@7``; those of backtests are not told.
    """

    number: int
    snapshot: str
    taken_at: datetime
    source: str
    code: str | None
    n_rows: int
    n_more_rows: int | None
    n_columns: int
    first_time: datetime | None
    last_time: datetime | None
    n_bytes: int
    n_new_bytes: int
    n_runs: int
    versions: tuple[str, ...]


def data_log(store: Store, dataset: str) -> list[DataLogEntry]:
    """The history of a dataset, the newest entry first.

    Raises
    ------
    NotFound
        When there is no such dataset.
    """
    entries = snapshot_log(store, dataset)
    n_runs, versions = _made_of(store, dataset)
    before = [entry.snapshot.n_rows for entry in entries[1:]]
    told = []
    for place, entry in enumerate(entries):
        snapshot = entry.snapshot
        told.append(
            DataLogEntry(
                number=entry.number,
                snapshot=snapshot.id,
                taken_at=entry.taken_at,
                source=entry.source,
                code=snapshot.code,
                n_rows=snapshot.n_rows,
                n_more_rows=snapshot.n_rows - before[place] if place < len(before) else None,
                n_columns=len(snapshot.columns),
                first_time=snapshot.first_time,
                last_time=snapshot.last_time,
                n_bytes=entry.n_bytes,
                n_new_bytes=entry.n_new_bytes,
                n_runs=n_runs[snapshot.id],
                versions=tuple(versions[snapshot.id]),
            )
        )
    return told


def _made_of(store: Store, dataset: str) -> tuple[dict[str, int], dict[str, list[str]]]:
    """By snapshot how many runs learned from it, and the versions that they made."""
    n_runs: dict[str, int] = defaultdict(int)
    versions: dict[str, list[str]] = defaultdict(list)
    with store.read() as reader:
        snapshot_of = {row["id"]: row["snapshot"] for row in reader.find("runs", {"dataset": dataset})}
        live = {row["name"] for row in reader.find("deployments", {"kind": "live"})}
        for snapshot in snapshot_of.values():
            n_runs[snapshot] += 1
        for row in reader.find("versions", order_by=["deployment", "number"]):
            snapshot = snapshot_of.get(row["run"])
            if snapshot is not None and row["deployment"] in live:
                versions[snapshot].append(f"{row['deployment']}@{row['number']}")
    return n_runs, versions
