"""A small store with a thread in it: from a decision back to the rows, code and environment behind it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from clew.datasets import take_snapshot
from clew.entities import Finding, GateCheck, GateReport, Param, RowRange
from clew.monitoring import store_finding
from clew.registry import ensure_deployment, register
from clew.storage import Store, link
from clew.tracking import capture_code, capture_environment, close_run, open_run
from tests.loop.made import BUSY_HOUR, DAY, NOW, RIDES, hours, table

PAGE = Finding(
    monitor="risk",
    level="page",
    subject="busy_hour",
    window_start=NOW - 5 * DAY,
    window_end=NOW,
    found_at=NOW,
    value=0.7,
    lower=0.6,
    upper=0.8,
    n=120,
    method="e-detector",
    sentence="accuracy fell to 0.700",
    onset=NOW - 5 * DAY,
)
PASSED = GateReport(
    (
        GateCheck("leakage", "pass", "no key is shared"),
        GateCheck("minimum accuracy", "undecided", "accuracy 0.9 may miss 0.89", 0.9, 0.88, 0.92, 0.89, 300),
    )
)


@dataclass(frozen=True, slots=True)
class Laid:
    """Ids of what was laid into the store."""

    snapshot: str
    code: str
    environment: str
    runs: tuple[str, ...]
    finding: str
    decision: str


def fit(store: Store, laid_from: tuple[str, str, str], key: str, seed: int = 7) -> str:
    """A finished run on two pieces of a snapshot; its id."""
    snapshot, code, environment = laid_from
    run, _ = open_run(
        store,
        key=key,
        model="busy_hour",
        purpose="try",
        params={"num_leaves": Param(63, "clew.toml")},
        seed=seed,
        snapshot=snapshot,
        dataset="rides",
        rows=[RowRange(0, 1000), RowRange(1200, 2000)],
        code=code,
        environment=environment,
        now=NOW,
    )
    close_run(
        store,
        run.id,
        metrics={"accuracy": 0.9},
        model_digest="m",
        output=b"",
        seconds=1.25,
        peak_memory_bytes=1,
        now=NOW + timedelta(seconds=2),
    )
    return run.id


def version(store: Store, run: str, **changes: Any) -> str:
    """The next version of a deployment, made by this run; its name."""
    facts: dict[str, Any] = {
        "deployment": "busy_hour",
        "model": "busy_hour",
        "package": "p",
        "flavor": "lightgbm",
        "metrics": {"accuracy": 0.9},
        "gate": PASSED,
        "now": NOW,
        "actor": "person",
        "reason": "try",
    }
    return register(store, run=run, **{**facts, **changes}).name


def decide(store: Store, deployment: str, sequence: int, kind: str, **facts: Any) -> str:
    """A decision on record; its id."""
    identity = f"{deployment}/{sequence:05d}"
    row = {
        "id": identity,
        "deployment": deployment,
        "kind": kind,
        "at": NOW + sequence * DAY,
        "sequence": sequence,
        "sentence": f"{kind} number {sequence}",
        "evidence": {},
        "findings": [],
    }
    with store.write() as tx:
        tx.insert("decisions", {**row, **facts})
        for finding in facts.get("findings", []):
            link(tx, "decision", identity, "rests on", "finding", finding)
    return identity


def lay(store: Store, project: Path) -> Laid:
    """Two tries of a live model, and a backtest with a decision that rests on a finding."""
    (project / "bikes.py").write_text("import clew\n", encoding="utf-8")
    code = capture_code(store, project, now=NOW).id
    environment = capture_environment(store, now=NOW, variables={})
    snapshot = take_snapshot(store, RIDES, table(hours(2400)), source="rides.parquet", code=code, now=NOW).id
    causes = (snapshot, code, environment)
    runs = tuple(fit(store, causes, key) for key in ("first", "second", "simulated"))
    ensure_deployment(store, "busy_hour", "live", "busy_hour", BUSY_HOUR, NOW)
    ensure_deployment(store, "backtest-1f", "backtest", "busy_hour", BUSY_HOUR, NOW)
    version(store, runs[0])
    version(store, runs[1], gate=None)
    name = version(store, runs[2], deployment="backtest-1f")
    with store.write() as tx:
        finding = store_finding(tx, "backtest-1f", PAGE)
    decide(store, "backtest-1f", 1, "page", findings=[finding], evidence={"n": 120, "value": 0.7})
    decide(store, "backtest-1f", 2, "refit", evidence={"recipes": ["all history"]})
    decision = decide(store, "backtest-1f", 3, "promoted", evidence={"version": 1, "why": "repair"})
    with store.write() as tx:
        link(tx, "version", name, "put in office by", "decision", decision)
        link(tx, "decision", decision, "champion was", "run", runs[0])
    return Laid(snapshot, code, environment, runs, finding, decision)
