"""Routes: which versions answer a deployment's requests. Only the loop and people's commands move them.

Every change takes the next number of one sequence for the whole store, so that a prediction worker needs to
read a single row to know that nothing has changed.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from clew.entities import Route
from clew.registry.audit import record_audit

if TYPE_CHECKING:
    from clew.storage import Reader, Transaction

GENERATION_KEY = "routing_generation"


def routing_generation(reader: Reader) -> int:
    """The number of the newest change of any route; 0 before the first."""
    row = reader.get("meta", key=GENERATION_KEY)
    return int(row["value"]) if row else 0


def list_routes(reader: Reader) -> list[Route]:
    """The routes of all deployments that were ever served, by name."""
    return [
        Route(
            deployment=row["deployment"],
            generation=row["generation"],
            champion=row["champion"],
            candidate=row["candidate"],
            stage=row["stage"],
            share=row["share"] or 0.0,
            salt=row["salt"] or "",
        )
        for row in reader.find("routes")
    ]


def get_route(reader: Reader, deployment: str) -> Route | None:
    """The route of one deployment; None when it never had one."""
    return next((route for route in list_routes(reader) if route.deployment == deployment), None)


def move_route(tx: Transaction, route: Route, now: datetime, *, actor: str, reason: str) -> int:
    """Write a route, whose `generation` is left out of account, and give the change its number and audit row.

    A route that stands so already is left alone, and its number returned: a job that was killed after its
    move can repeat it.
    """
    there = get_route(tx, route.deployment)
    values = {
        "champion": route.champion,
        "candidate": route.candidate,
        "stage": route.stage,
        "share": route.share,
        "salt": route.salt,
    }
    if there is not None and all(getattr(there, name) == value for name, value in values.items()):
        return there.generation
    generation = next_generation(tx)
    key = {"deployment": route.deployment}
    moved = values | {"generation": generation, "moved_at": now}
    if there is None:
        tx.insert("routes", key | moved)
    else:
        tx.update("routes", key, moved)
    before = None if there is None else {name: getattr(there, name) for name in values}
    evidence = {"from": before, "to": values, "generation": generation}
    about = {"actor": actor, "action": "move route", "subject": route.deployment, "reason": reason}
    record_audit(tx, now=now, evidence=evidence, **about)
    return generation


def next_generation(tx: Transaction) -> int:
    """Number another change of what workers hold: a route, or who may ask."""
    generation = routing_generation(tx) + 1
    row = {"key": GENERATION_KEY, "value": str(generation)}
    if not tx.update("meta", {"key": GENERATION_KEY}, row):
        tx.insert("meta", row)
    return generation
