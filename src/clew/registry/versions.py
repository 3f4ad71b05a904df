"""Deployments and their versions: numbers that are given once and never change their meaning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from clew.entities import GateReport, Json, ModelDeclaration, Version
from clew.errors import NotFound, UsageError, did_you_mean
from clew.registry.audit import record_audit
from clew.registry.thresholds import change_threshold
from clew.storage import link

if TYPE_CHECKING:
    from clew.storage import Reader, Store, Transaction

LARGEST_NUMBER = 2**31 - 1
"""What every database holds as a number of a version."""

_CODE_SAYS_SO = "the project's code says so"
LIST_MODELS, LIST_VERSIONS = "clew models list", "clew models show {}"


@dataclass(frozen=True, slots=True)
class ModelSummary:
    """A line about a deployment: how many versions it has and where its aliases point."""

    deployment: str
    kind: str
    model: str
    n_versions: int
    newest: int | None
    aliases: Mapping[str, int]


def ensure_deployment(
    store: Store,
    name: str,
    kind: Literal["live", "backtest"],
    model: str,
    declaration: ModelDeclaration | Json | None,
    now: datetime,
    actor: str = "loop",
) -> None:
    """Make a deployment, or give the one that is there the newest declaration.

    Either leaves an audit row: margins, minimums and rollouts are what later decisions go by.

    Raises
    ------
    UsageError
        When the name belongs to another model or to the other kind.
    """
    # As the store gives it back, so that the same declaration is no change.
    plain = msgspec.json.decode(msgspec.json.encode(declaration))
    row = {"name": name, "kind": kind, "model": model, "declaration": plain, "created_at": now}
    row["threshold"] = declared = (plain or {}).get("threshold")
    with store.write() as tx:
        if tx.insert_if_absent("deployments", row):
            _told(tx, now, actor, "declare model", name, {"kind": kind, "model": model})
            return
        there = _deployment(tx, name)
        if (there["kind"], there["model"]) != (kind, model):
            raise UsageError(
                f"The name {name!r} belongs to a {there['kind']} deployment of model {there['model']!r}, so"
                f" it cannot be a {kind} deployment of {model!r}. Choose another name; {LIST_MODELS} shows"
                " those in use."
            )
        if there["declaration"] != plain:
            tx.update("deployments", {"name": name}, {"declaration": plain})
            changes = _changes(there["declaration"] or {}, plain or {})
            # An older Clew's declaration may lack what this one writes as None.
            if changes:
                _told(tx, now, actor, "change declaration", name, changes)
            if "threshold" in changes:
                change_threshold(tx, name, declared, now, actor=actor, reason=_CODE_SAYS_SO)


def _told(tx: Transaction, now: datetime, actor: str, action: str, name: str, evidence: Json) -> None:
    about = {"actor": actor, "action": action, "subject": name, "reason": _CODE_SAYS_SO}
    record_audit(tx, now=now, evidence=evidence, **about)


def _changes(before: Json, after: Json) -> Json:
    """What was declared otherwise, as ``[before, after]`` by name."""
    names = sorted(before.keys() | after.keys())
    pairs = {name: [before.get(name), after.get(name)] for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def register(
    store: Store,
    *,
    deployment: str,
    model: str,
    run: str,
    package: str,
    flavor: str,
    metrics: Mapping[str, float],
    gate: GateReport | None = None,
    profile_digest: str | None = None,
    now: datetime,
    actor: str,
    reason: str,
) -> Version:
    """Give a package the next number of a deployment. A run that has one gets the same again.

    Raises
    ------
    NotFound
        When there is no such deployment.
    """
    with store.write() as tx:
        _deployment(tx, deployment)
        known = tx.get("versions", deployment=deployment, run=run)
        if known is not None:
            return _version(known)
        row = {
            "deployment": deployment,
            "number": _next_number(tx, deployment),
            "model": model,
            "run": run,
            "package": package,
            "created_at": now,
            "flavor": flavor,
            "metrics": dict(metrics),
            "gate": None if gate is None else msgspec.to_builtins(gate),
            "profile": profile_digest,
        }
        tx.insert("versions", row)
        version = _version(row)
        link(tx, "version", version.name, "made by", "run", run)
        about: dict[str, Any] = {
            "now": now,
            "actor": actor,
            "action": "register version",
            "subject": deployment,
        }
        evidence = {"version": version.number, "run": run, "package": package}
        record_audit(tx, **about, reason=reason, evidence=evidence)
    return version


def get_version(store: Store, deployment: str, number: int) -> Version:
    """One version.

    Raises
    ------
    NotFound
        Naming the deployments or numbers that exist.
    """
    with store.read() as reader:
        return _version(version_row(reader, deployment, number))


def get_gate(store: Store, deployment: str, number: int) -> GateReport | None:
    """What the gate found before this version was registered; None when it never met the gate."""
    with store.read() as reader:
        gate = version_row(reader, deployment, number)["gate"]
    return None if gate is None else msgspec.convert(gate, GateReport)


def get_profile(store: Store, deployment: str, number: int) -> Json | None:
    """The reference profile that this version was registered with."""
    with store.read() as reader:
        digest = version_row(reader, deployment, number)["profile"]
    return None if digest is None else dict(msgspec.json.decode(store.objects.get(digest)))


def list_versions(store: Store, deployment: str) -> list[Version]:
    """All versions of a deployment, the first one first."""
    with store.read() as reader:
        _deployment(reader, deployment)
        return [_version(row) for row in reader.find("versions", {"deployment": deployment})]


def list_models(store: Store, kind: Literal["live", "backtest"] | None = "live") -> list[ModelSummary]:
    """A summary of each deployment, by name; `kind` None takes those of backtests too."""
    with store.read() as reader:
        rows = reader.find("deployments", {} if kind is None else {"kind": kind})
        return [_summary(reader, row) for row in rows]


def version_row(reader: Reader, deployment: str, number: int) -> dict[str, Any]:
    # A number that no database can hold names nothing, and may not be asked for.
    row = reader.get("versions", deployment=deployment, number=number) if number <= LARGEST_NUMBER else None
    if row is not None:
        return row
    _deployment(reader, deployment)
    newest = _next_number(reader, deployment) - 1
    existing = {0: "it has none yet", 1: "version 1 exists"}.get(newest, f"versions 1 to {newest} exist")
    raise NotFound(
        f"Model {deployment!r} has no version {number}; {existing}. List them with:"
        f" {LIST_VERSIONS.format(deployment)}"
    )


def _deployment(reader: Reader, name: str) -> dict[str, Any]:
    row = reader.get("deployments", name=name)
    if row is None:
        known = [row["name"] for row in reader.find("deployments")]
        hint = did_you_mean(name, known) if known else "There is none yet; train one with: clew try"
        raise NotFound(f"There is no model {name!r}. {hint} List them with: {LIST_MODELS}")
    return row


def _next_number(reader: Reader | Transaction, deployment: str) -> int:
    newest = reader.find("versions", {"deployment": deployment}, order_by=["-number"], limit=1)
    return newest[0]["number"] + 1 if newest else 1


def _version(row: Mapping[str, Any]) -> Version:
    return Version(
        deployment=row["deployment"],
        number=row["number"],
        model=row["model"],
        run=row["run"],
        package=row["package"],
        created_at=row["created_at"],
        flavor=row["flavor"],
        metrics=row["metrics"] or {},
    )


def _summary(reader: Reader, row: Mapping[str, Any]) -> ModelSummary:
    of_deployment = {"deployment": row["name"]}
    aliases = {found["alias"]: found["number"] for found in reader.find("aliases", of_deployment)}
    n_versions = reader.count("versions", of_deployment)
    return ModelSummary(
        deployment=row["name"],
        kind=row["kind"],
        model=row["model"],
        n_versions=n_versions,
        newest=_next_number(reader, row["name"]) - 1 or None,
        aliases={alias: number for alias, number in aliases.items() if number is not None},
    )
