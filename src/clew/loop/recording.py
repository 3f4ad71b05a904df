"""Decisions as records: stored before anything acts on them, with what they rest on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clew.config import NotificationSettings
from clew.entities import Decision
from clew.loop.standing import FittedModel
from clew.notifications import tell
from clew.storage import Reader, Store, Transaction, link


def free_number(tx: Transaction, deployment: str, sequence: int, decision: Decision) -> int:
    """The number to store the decision under: `sequence`, unless another decision has it.

    A process may die between a decision and the checkpoint after it. The moment is lived again then, mostly
    to the same decision; where more was known the second time both are kept, as both were made.
    """
    there = tx.get("decisions", id=_identity(deployment, sequence))
    if there is None or (there["kind"], there["at"], there["sentence"]) == (
        decision.kind,
        decision.at,
        decision.sentence,
    ):
        return sequence
    newest = newest_decision(tx, deployment)
    return sequence if newest is None else int(newest["sequence"]) + 1


def newest_decision(reader: Reader, deployment: str) -> Mapping[str, Any] | None:
    """The row of what was decided last; None before anything was."""
    return next(iter(reader.find("decisions", {"deployment": deployment}, ["-sequence"], limit=1)), None)


def store_decision(
    store: Store,
    notifications: NotificationSettings,
    deployment: str,
    sequence: int,
    decision: Decision,
    *,
    about: FittedModel | None = None,
    champion: FittedModel | None = None,
) -> int:
    """Store a decision of a running model together with what people are told of it; the number it got."""
    with store.write() as tx:
        number = free_number(tx, deployment, sequence, decision)
        identity = record_decision(tx, deployment, number, decision, about=about, champion=champion)
        tell(tx, notifications, decision, deployment=deployment, identity=identity, now=decision.at)
    return number


def record_decision(
    tx: Transaction,
    deployment: str,
    sequence: int,
    decision: Decision,
    *,
    about: FittedModel | None,
    champion: FittedModel | None,
) -> str:
    """Store the decision with this number of a deployment; storing it again changes nothing. Its id.

    Parameters
    ----------
    about
        The model it is about, if it is about one.
    champion
        Who was in office when it was made.
    """
    identity = _identity(deployment, sequence)
    row = {
        "id": identity,
        "deployment": deployment,
        "kind": decision.kind,
        "at": decision.at,
        "sequence": sequence,
        "sentence": decision.sentence,
        "evidence": decision.evidence,
        "findings": list(decision.findings),
    }
    tx.insert_if_absent("decisions", row)
    if champion is not None:
        link(tx, "decision", identity, "champion was", "run", champion.run)
    for finding in decision.findings:
        link(tx, "decision", identity, "rests on", "finding", finding)
    if about is not None:
        link(tx, "decision", identity, "is about", "run", about.run)
    if decision.kind == "promoted":
        version = f"{deployment}@{decision.evidence['version']}"
        link(tx, "version", version, "put in office by", "decision", identity)
    return identity


def _identity(deployment: str, sequence: int) -> str:
    return f"{deployment}/{sequence:05d}"
