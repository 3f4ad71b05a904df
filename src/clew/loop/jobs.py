"""Jobs: long pieces of work as rows that move one idempotent step at a time.

A job has a unique key, so that asking twice makes one; a step, so that a process that dies leaves off at
a known place; and an owner, so that two processes never move the same job. Whoever holds the job moves it
with `advance(job, now)`, each with its own clock: a live system, a replay, a backtest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal, TypeAlias

from clew.entities import Json
from clew.errors import ClewError, StoreBusy
from clew.storage import Store
from clew.tracking import is_alive, this_owner

JobStatus: TypeAlias = Literal["running", "done", "refused", "failed"]

LEASE = timedelta(hours=6)
"""How long a claim is honoured when its owner lives on another machine and cannot be asked whether it is
alive. It is renewed with every step, and a single step may take hours."""


@dataclass(frozen=True, slots=True)
class Job:
    """A piece of work and where it stands. `state` is what its steps hand on, as plain JSON."""

    id: str
    key: str
    kind: str
    deployment: str
    step: str
    status: JobStatus = "running"
    state: Json = field(default_factory=dict)
    result: str | None = None

    @property
    def is_over(self) -> bool:
        return self.status != "running"

    def then(self, step: str, **state: object) -> Job:
        """This job at another step, with more state."""
        return replace(self, step=step, state={**self.state, **state})

    def ended(self, status: JobStatus, **state: object) -> Job:
        return replace(self, step="end", status=status, state={**self.state, **state})


Step: TypeAlias = Callable[[Job, datetime], Job]


def open_job(
    store: Store, *, key: str, kind: str, deployment: str, step: str, owner: str, now: datetime
) -> Job:
    """The job with this key, claimed for `owner`; made at `step` when there is none.

    A job that its owner left unfinished is taken over where it stands.

    Raises
    ------
    StoreBusy
        When another living process holds it, naming that process.
    """
    job_id = hashlib.sha256(key.encode()).hexdigest()[:16]
    fresh = {"id": job_id, "key": key, "kind": kind, "deployment": deployment, "step": step}
    with store.write() as tx:
        tx.insert_if_absent(
            "jobs",
            fresh | {"status": "running", "state": {}, "lease_owner": owner, "lease_until": now + LEASE,
                     "created_at": now, "updated_at": now},
        )  # fmt: skip
        row = tx.get("jobs", id=job_id)
        assert row is not None  # noqa: S101 - it was inserted above, in this transaction
        holder = row["lease_owner"]
        if row["status"] == "running" and holder not in (None, owner) and _is_held(row, now):
            raise StoreBusy(
                f"{kind} {deployment!r} is being run by process {holder}, which was last heard of at"
                f" {row['updated_at']:%Y-%m-%d %H:%M} UTC. Wait for it, or end that process and repeat."
            )
        claim = {"lease_owner": owner, "lease_until": now + LEASE, "updated_at": now}
        tx.update("jobs", {"id": job_id}, claim)
    return Job(job_id, key, kind, deployment, row["step"], row["status"], row["state"], row["result"])


@contextmanager
def handed_back(store: Store, job: Job, owner: str) -> Iterator[None]:
    """Hand the job, and the releases of its deployment, back when the block fails.

    Whoever corrects the fault may then go on at once, though the process that met it lives on.
    """
    try:
        yield
    except ClewError:
        with store.write() as tx:
            held = {"deployment": job.deployment, "lease_owner": owner}
            tx.update("jobs", held, {"lease_owner": None})
        raise


def _is_held(row: Mapping[str, Any], now: datetime) -> bool:
    """Whether its owner still works on it: here that can be seen, elsewhere its word holds for the lease."""
    owner = str(row["lease_owner"])
    if _machine(owner) != _machine(this_owner()):
        until: datetime = row["lease_until"]
        return now < until
    return is_alive(owner)


def _machine(owner: str) -> str:
    return owner.rsplit(":", 2)[0]


def advance(store: Store, job: Job, steps: Mapping[str, Step], now: datetime) -> Job:
    """Do the job's present step and record where it stands then; a job that is over stays as it is.

    A step may return the job unchanged: it waits, and will be asked again at a later `now`. The step's
    effects must be idempotent, since a process may die after them and before the record.
    """
    if job.is_over:
        return job
    moved = steps[job.step](job, now)
    if moved != job:
        record(store, moved, now)
    return moved


def run_to_end(store: Store, job: Job, steps: Mapping[str, Step], clock: Callable[[], datetime]) -> Job:
    """Advance until the job is over."""
    while not job.is_over:
        job = advance(store, job, steps, clock())
    return job


def record(store: Store, job: Job, now: datetime) -> None:
    """Write down where the job stands."""
    with store.write() as tx:
        values = {"step": job.step, "status": job.status, "state": job.state, "result": job.result}
        tx.update("jobs", {"id": job.id}, values | {"updated_at": now, "lease_until": now + LEASE})


def restarted(store: Store, job: Job, step: str, now: datetime) -> Job:
    """The job back at `step`, for work that is replayed from its beginning because it is deterministic."""
    again = replace(job, step=step, status="running", state={}, result=None)
    record(store, again, now)
    return again
