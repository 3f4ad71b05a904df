"""Runs: each execution of a training function is opened once, worked on by one process, closed once."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

from clew.entities import Json, Param, RowRange, Run, RunStatus
from clew.errors import NotFound, StoreBusy, StoreError
from clew.storage import Store, Transaction, Where, link
from clew.storage.run_values import search_runs, value_rows
from clew.tracking.opened_files import OpenedFile, link_opened
from clew.tracking.owners import is_alive, this_owner

N_ID_DIGITS = 32


def open_run(
    store: Store,
    *,
    key: str,
    model: str,
    purpose: str,
    params: Mapping[str, Param],
    seed: int,
    snapshot: str,
    dataset: str,
    rows: RowRange | Sequence[RowRange],
    code: str,
    environment: str,
    now: datetime,
    owner: str | None = None,
    folders: Sequence[str] = (),
) -> tuple[Run, bool]:
    """Begin the run that `key` names, or find that it is done.

    Parameters
    ----------
    key
        Says what the run is for; repeating it is harmless. A finished run is returned as it is. One that
        failed, or whose process died, is begun anew: with what is given now, as its next attempt.
    owner
        The process that works on it; this one by default.
    folders
        Ids of the snapshots of folders that it learns from beside the rows.

    Returns
    -------
    run, is_new
        `is_new` says that the caller has to do the work, and then to close or fail the run.

    Raises
    ------
    StoreBusy
        When another living process works on it, naming that.
    """
    mine = owner or this_owner()
    run = Run(
        id=hashlib.sha256(key.encode()).hexdigest()[:N_ID_DIGITS],
        key=key,
        model=model,
        purpose=purpose,
        status="running",
        params=params,
        seed=seed,
        started_at=now,
        ended_at=None,
        dataset=dataset,
        snapshot=snapshot,
        rows=(rows,) if isinstance(rows, RowRange) else tuple(rows),
        code=code,
        environment=environment,
    )
    with store.write() as tx:
        known = tx.get("runs", key=key)
        if known is not None and known["status"] == "finished":
            return run_of(known), False
        if known is None:
            tx.insert("runs", {**_row(run), "owner": mine, "attempt": 1})
        else:
            _claim_again(tx, known, {**_row(run), "owner": mine})
        tx.insert_many("run_values", value_rows(run.id, "param", _values(params)))
        _link(tx, run, folders)
    return run, True


def close_run(
    store: Store,
    run_id: str,
    *,
    metrics: Mapping[str, float],
    model_digest: str | None,
    output: bytes | None,
    seconds: float | None,
    peak_memory_bytes: int | None,
    opened: Sequence[OpenedFile] = (),
    now: datetime,
    owner: str | None = None,
    intervals: Mapping[str, tuple[float, float]] | None = None,
) -> Run:
    """Record that a run went well, what came out, and which files outside of its code it read.

    `intervals` are those of metrics that have one, at 95 %.

    Raises
    ------
    StoreError
        When it is closed already, or another process took it over: its results are the ones that count.
    """
    values = {
        "status": "finished",
        "ended_at": now,
        "metrics": {name: _told(value) for name, value in metrics.items()},
        "intervals": {name: list(map(_told, pair)) for name, pair in (intervals or {}).items()},
        "model_digest": model_digest,
        "output": store.objects.put(output) if output else None,
        "seconds": seconds,
        "peak_memory_bytes": peak_memory_bytes,
    }
    return _end(store, run_id, values, owner, opened, metrics)


def read_output(store: Store, run: Run) -> str:
    """What the training function printed, on stdout and stderr; empty when it printed nothing."""
    return store.objects.get(run.output).decode(errors="replace") if run.output else ""


def fail_run(
    store: Store, run_id: str, *, error: str, output: bytes | None, now: datetime, owner: str | None = None
) -> Run:
    """Record that a run failed and why; raises as `close_run` does."""
    digest = store.objects.put(output) if output else None
    return _end(store, run_id, {"status": "failed", "ended_at": now, "error": error, "output": digest}, owner)


def fail_lost_runs(store: Store, key_prefix: str, now: datetime) -> int:
    """Record as failed the runs whose process died at them; how many there were.

    Beginning such a run again under its key makes it run again, so this may be done at any time.
    """
    where = {"status": "running", "key": Where("prefix", key_prefix)}
    with store.read() as reader:
        lost = [row for row in reader.find("runs", where) if not is_alive(row["owner"])]
    told = {"status": "failed", "ended_at": now, "error": "the process that it ran in ended"}
    with store.write() as tx:
        # Only as long as it is still theirs: another process may just have begun it again.
        return sum(tx.update("runs", {**where, "id": row["id"], "owner": row["owner"]}, told) for row in lost)


def get_run(store: Store, run_id: str) -> Run:
    """The run with this id, or with an id that begins so.

    Raises
    ------
    NotFound
        When there is none, naming the newest runs; or when several ids begin so.
    """
    with store.read() as reader:
        rows = reader.find("runs", {"id": Where("prefix", run_id)}, limit=3)
        if len(rows) == 1:
            return run_of(rows[0])
        newest = reader.find("runs", order_by=["-started_at"], limit=3)
    if rows:
        raise NotFound(f"{run_id!r} begins the ids of several runs: {_ids(rows)}. Give more of the id.")
    there = f"the newest are {_ids(newest)}" if newest else "there are no runs yet"
    raise NotFound(f"There is no run {run_id!r}; {there}. List them with: clew runs list")


def list_runs(
    store: Store,
    model: str | None = None,
    status: RunStatus | None = None,
    purpose: str | None = None,
    since: datetime | None = None,
    limit: int | None = 50,
    key_prefix: str | None = None,
) -> list[Run]:
    """Runs, the newest first.

    `key_prefix` begins the key of all runs of a piece of work: ``try/``, ``backtest/``.
    """
    given: dict[str, Any] = {"model": model, "status": status, "purpose": purpose}
    where = {name: value for name, value in given.items() if value is not None}
    if key_prefix is not None:
        where["key"] = Where("prefix", key_prefix)
    if since is not None:
        where["started_at"] = Where(">=", since)
    with store.read() as reader:
        return [run_of(row) for row in search_runs(reader, where=where, limit=limit)]


def _claim_again(tx: Transaction, known: Json, row: Json) -> None:
    if known["status"] == "running" and known["owner"] != row["owner"] and is_alive(known["owner"]):
        raise StoreBusy(
            f"Run {known['id'][:12]} ({known['purpose']} of {known['model']}) is being worked on by the"
            f" process {known['owner']}, since {known['started_at']:%Y-%m-%d %H:%M} UTC. Wait for it, or end"
            " that process."
        )
    # What an earlier attempt logged would mix with what this one logs. What people said of the run stays.
    tx.delete("run_metrics", {"run": known["id"]})
    tx.delete("run_artifacts", {"run": known["id"]})
    tx.delete("run_values", {"run": known["id"], "kind": ["param", "metric"]})
    for relation in ("used", "ran", "ran in", "read"):
        tx.delete("edges", {"from_kind": "run", "from_id": known["id"], "relation": relation})
    tx.update("runs", {"id": known["id"]}, {**row, "attempt": known["attempt"] + 1})


def folders_of(store: Store, run: Run) -> list[str]:
    """Ids of the snapshots of folders that a run learned from."""
    where = {"from_kind": "run", "from_id": run.id, "relation": "used", "to_kind": "folder"}
    with store.read() as reader:
        return [row["to_id"] for row in reader.find("edges", where)]


def _link(tx: Transaction, run: Run, folders: Sequence[str]) -> None:
    # Of a model that was made elsewhere nobody knows rows and code.
    if run.snapshot:
        link(tx, "run", run.id, "used", "snapshot", run.snapshot)
    for folder in folders:
        link(tx, "run", run.id, "used", "folder", folder)
    if run.code:
        link(tx, "run", run.id, "ran", "code", run.code)
    link(tx, "run", run.id, "ran in", "environment", run.environment)


def _end(
    store: Store,
    run_id: str,
    values: Json,
    owner: str | None,
    opened: Sequence[OpenedFile] = (),
    metrics: Mapping[str, float] | None = None,
) -> Run:
    mine = owner or this_owner()
    with store.write() as tx:
        n_changed = tx.update("runs", {"id": run_id, "status": "running", "owner": mine}, values)
        row = tx.get("runs", id=run_id)
        if n_changed:
            link_opened(tx, run_id, opened)
            tx.insert_many("run_values", value_rows(run_id, "metric", metrics or {}))
    if row is None:
        raise NotFound(f"There is no run {run_id!r}.")
    if n_changed == 0:
        what = (
            f"is {row['status']} already"
            if row["status"] != "running"
            else f"was taken over by {row['owner']}"
        )
        raise StoreError(f"Run {run_id[:12]} {what}; the result of the process {mine} is not recorded.")
    return run_of(row)


def _ids(rows: list[Json]) -> str:
    return ", ".join(row["id"][:12] for row in rows)


def _values(params: Mapping[str, Param]) -> dict[str, Any]:
    return {name: param.value for name, param in params.items()}


def _row(run: Run) -> Json:
    row = {field.name: getattr(run, field.name) for field in fields(run) if field.name != "rows"}
    params = {name: {"value": param.value, "source": param.source} for name, param in run.params.items()}
    return {**row, "params": params, "rows": [[each.start, each.end] for each in run.rows]}


def _told(value: float) -> float | str:
    """JSON has no infinity and no NaN; as words they come back as what they were."""
    number = float(value)
    return number if math.isfinite(number) else str(number)


def run_of(row: Json) -> Run:
    """A row of ``runs`` as a `Run`."""
    named = {field.name: row[field.name] for field in fields(Run) if field.name != "rows"}
    # Null is how a metric that was none used to be stored.
    metrics = {
        name: math.nan if value is None else float(value) for name, value in (row["metrics"] or {}).items()
    }
    intervals = {name: (float(a), float(b)) for name, (a, b) in (row["intervals"] or {}).items()}
    params = {name: Param(param["value"], param["source"]) for name, param in row["params"].items()}
    rows = tuple(RowRange(start, end) for start, end in row["rows"])
    return Run(**{**named, "params": params, "metrics": metrics, "intervals": intervals, "rows": rows})
