"""Which prediction workers there are, and which routes each of them serves by.

A worker's number is given once and never again: the ids of its predictions begin with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from clew.entities import Json
from clew.tracking import is_alive, this_owner

if TYPE_CHECKING:
    from clew.storage import Store


@dataclass(frozen=True, slots=True)
class WorkerState:
    """A worker whose process runs.

    Attributes
    ----------
    generation
        Of the routes that it serves by; 0 before it has loaded any.
    failures
        What it could not load, by ``deployment@version``, each as a sentence; there the route before that
        is still in force.
    """

    id: int
    owner: str
    generation: int
    failures: Mapping[str, str] = field(default_factory=dict)


def join(store: Store, now: datetime) -> int:
    """Enter this process as a worker; returns its number, which no other worker ever had."""
    with store.write() as tx:
        newest = tx.find("workers", order_by=["-id"], limit=1)
        worker = newest[0]["id"] + 1 if newest else 1
        row: Json = {"id": worker, "owner": this_owner(), "generation": 0, "failures": {}, "started_at": now}
        tx.insert("workers", row)
    return worker


def acknowledge(
    store: Store,
    worker: int,
    generation: int,
    failures: Mapping[str, str],
    now: datetime,  # noqa: ARG001 - a later store may keep since when
) -> None:
    """Say that every request from now on is answered by the routes of `generation`.

    Raises
    ------
    LookupError
        When the worker never joined, or has left.
    """
    with store.write() as tx:
        changed = {"generation": generation, "failures": dict(failures)}
        if not tx.update("workers", {"id": worker, "ended_at": None}, changed):
            raise LookupError(f"there is no running worker {worker}")


def leave(store: Store, worker: int, now: datetime) -> None:
    """Say that the worker answers nothing any more; repeating it changes nothing."""
    with store.write() as tx:
        tx.update("workers", {"id": worker, "ended_at": None}, {"ended_at": now})


def running(store: Store) -> list[WorkerState]:
    """The workers that joined, did not leave, and whose process is alive, by number."""
    with store.read() as reader:
        rows = reader.find("workers", {"ended_at": None})
    return [
        WorkerState(row["id"], row["owner"], row["generation"] or 0, row["failures"] or {})
        for row in rows
        if is_alive(row["owner"])
    ]
