"""How everything stands: a line a model, the clock, the workers; with and without a running system.

What it tells comes from the store and from the files that a running system leaves in ``run``, so it needs no
server that answers.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from clew.entities import Route
from clew.loop.acts import acts_of_people
from clew.loop.commands import is_paused
from clew.loop.recording import newest_decision
from clew.registry.routes import list_routes
from clew.server.clock import read_clock
from clew.server.figures import Lately, VersionLately, living_figures
from clew.server.presence import Presence, running_up
from clew.serving.upgrades import RECORDED, newest_check

if TYPE_CHECKING:
    from clew.storage import Reader, Store

STATUS_FILE = "status.json"

TOLD_OF_MODELS = ("metric", "value", "n", "status", "sentence")
"""What the loop writes of each model into that file."""


LOOKED_AT = 50
"""Of the newest acts and decisions, to find what was done last."""


@dataclass(frozen=True, slots=True)
class LastDecision:
    """What the loop decided last, or a person did after that."""

    id: str
    at: datetime
    kind: str
    sentence: str


@dataclass(frozen=True, slots=True)
class ModelLine:
    """How a model stands.

    Attributes
    ----------
    version, stage, candidate, share
        Of its route: who answers, and how far a rollout is. The stage ``waits`` is that of a model that
        could not go live or go on, or that waits for a person.
    waits_for
        What it waits for, in a sentence; empty when for nothing.
    served_from
        Why its champion answers from an environment of its own, in a sentence; empty when it does not.
    metric, value, n
        The metric of late, over `n` matured rows; None while the loop knows none.
    lately
        Requests of the last minute; None when nothing runs.
    versions
        The same by version, of those that were asked anything.
    """

    deployment: str
    version: int | None
    stage: str
    candidate: int | None
    share: float
    is_paused: bool
    metric: str | None
    value: float | None
    n: int
    last_decision: LastDecision | None
    lately: Lately | None
    waits_for: str = ""
    served_from: str = ""
    versions: tuple[VersionLately, ...] = ()


@dataclass(frozen=True, slots=True)
class WorkerLine:
    """A worker that runs."""

    worker: int
    pid: int
    memory_bytes: int
    cpu_seconds: float
    in_flight: int


@dataclass(frozen=True, slots=True)
class Overview:
    """How everything stands.

    `clock_trouble` says why a real clock stands still; None while it goes. `loop_age_seconds` says how long
    ago the loop last gave sign of life; None when it never did.
    """

    up: Presence | None
    clock_mode: str
    clock_now: datetime
    clock_trouble: str | None
    next_due: datetime | None
    loop_age_seconds: float | None
    models: tuple[ModelLine, ...]
    workers: tuple[WorkerLine, ...]


def overview(store: Store, now: datetime) -> Overview:
    """How everything stands at `now` by the system's clock."""
    up, run, clock = running_up(store), store.folder / "run", read_clock(store)
    told, age = _told(run)
    with store.read() as reader:
        names = [row["name"] for row in reader.find("deployments", {"kind": "live"})]
        routes = {route.deployment: route for route in list_routes(reader)}
        lines = tuple(_line(reader, name, routes.get(name), told, is_up=up is not None) for name in names)
    due = told.get("next_due")
    return Overview(
        up=up,
        clock_mode=clock.mode if clock else "real",
        clock_now=now,
        clock_trouble=told.get("clock_trouble") if up else None,
        next_due=datetime.fromisoformat(due) if due else None,
        loop_age_seconds=age,
        models=lines,
        workers=_workers(store) if up else (),
    )


def _told(run: Path) -> tuple[Mapping[str, Any], float | None]:
    """What the loop wrote of itself last, and how many seconds ago."""
    path = run / STATUS_FILE
    try:
        return msgspec.json.decode(path.read_bytes()), max(time.time() - path.stat().st_mtime, 0.0)
    except (FileNotFoundError, msgspec.DecodeError):
        return {}, None


def _line(
    reader: Reader, name: str, route: Route | None, told: Mapping[str, Any], *, is_up: bool
) -> ModelLine:
    route = route or Route(name, 0, None)
    of_loop = told.get("models", {}).get(name, {})
    lately = told.get("lately", {}).get(name)
    waits_for = of_loop.get("sentence") or ""
    check = newest_check(reader, name, route.champion)
    stage = "not live" if not route.generation else route.stage
    versions = told.get("lately_by_version", {}).get(name, []) if is_up else []
    return ModelLine(
        deployment=name,
        version=route.champion,
        stage="waits" if waits_for and stage != "retired" else stage,
        candidate=route.candidate,
        share=route.share,
        is_paused=is_paused(reader, name),
        metric=of_loop.get("metric"),
        value=of_loop.get("value"),
        n=of_loop.get("n", 0),
        last_decision=_last_decision(reader, name),
        lately=Lately(**lately) if lately and is_up else None,
        waits_for=waits_for,
        served_from=check.sentence if check is not None and check.verdict == RECORDED else "",
        versions=tuple(VersionLately(**each) for each in versions),
    )


def _last_decision(reader: Reader, deployment: str) -> LastDecision | None:
    newest, acts = newest_decision(reader, deployment), acts_of_people(reader, deployment, LOOKED_AT)
    if acts and (newest is None or acts[-1].at > newest["at"]):
        act = acts[-1]
        return LastDecision(f"audit/{act.row}", act.at, act.kind, act.sentence)
    if newest is None:
        return None
    return LastDecision(newest["id"], newest["at"], newest["kind"], newest["sentence"])


def _workers(store: Store) -> tuple[WorkerLine, ...]:
    return tuple(
        WorkerLine(each.worker, each.pid, each.memory_bytes, each.cpu_seconds, each.n_in_flight)
        for each in living_figures(store)
    )
