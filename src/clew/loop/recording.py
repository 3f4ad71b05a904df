"""Decisions as records: stored before anything acts on them, with what they rest on."""

from __future__ import annotations

from clew.entities import Decision
from clew.loop.standing import FittedModel
from clew.storage import Transaction, link


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
    [newest] = tx.find("decisions", {"deployment": deployment}, ["-sequence"], limit=1)
    return int(newest["sequence"]) + 1


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
