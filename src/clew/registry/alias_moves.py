"""Aliases: names that point to a version and move, such as ``champion``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from clew.errors import AliasMoved, UsageError
from clew.registry.audit import record_audit
from clew.registry.versions import version_row

if TYPE_CHECKING:
    from clew.storage import Reader, Store, Transaction


def move_alias(
    store: Store,
    deployment: str,
    alias: str,
    to: int | None,
    *,
    expected: int | None,
    actor: str,
    reason: str,
    evidence: Mapping[str, Any] | None = None,
    now: datetime,
) -> int:
    """Point an alias to another version, if it still points where the caller believes.

    Parameters
    ----------
    to
        A version's number, or None to take the alias away.
    expected
        Where it points now; None when it points nowhere.

    Returns
    -------
    int
        How often the alias has moved. An alias that points to `to` already is left alone, so that a job
        that was killed after its move can repeat it.

    Raises
    ------
    AliasMoved
        When it points to another version than `expected`.
    NotFound
        When version `to` does not exist.
    """
    with store.write() as tx:
        return move_alias_within(
            tx,
            deployment,
            alias,
            to,
            expected=expected,
            actor=actor,
            reason=reason,
            evidence=evidence,
            now=now,
        )


def move_alias_within(
    tx: Transaction,
    deployment: str,
    alias: str,
    to: int | None,
    *,
    expected: int | None,
    actor: str,
    reason: str,
    evidence: Mapping[str, Any] | None = None,
    now: datetime,
) -> int:
    """`move_alias` together with other changes, such as that of the route: all of them or none."""
    if not re.fullmatch(r"[a-z][a-z0-9_-]*", alias):
        raise UsageError(f"{alias!r} is no name for an alias; write a lower-case word such as 'champion'.")
    row = tx.get("aliases", deployment=deployment, alias=alias)
    there, generation = (row["number"], row["generation"]) if row else (None, 0)
    if there == to:
        return int(generation)
    if there != expected:
        raise AliasMoved(deployment, alias, expected, there, _mover(tx, deployment, alias))
    if to is not None:
        version_row(tx, deployment, to)
    values = {"number": to, "generation": generation + 1, "moved_at": now}
    if row is None:
        tx.insert("aliases", {"deployment": deployment, "alias": alias} | values)
    else:
        tx.update("aliases", {"deployment": deployment, "alias": alias, "generation": generation}, values)
    record_audit(
        tx,
        now=now,
        actor=actor,
        action=f"move {alias}",
        subject=deployment,
        reason=reason,
        evidence={**(evidence or {}), "from": there, "to": to},
    )
    return int(generation) + 1


def _mover(reader: Reader, deployment: str, alias: str) -> str:
    """Who moved the alias last, when and why, as a part of a sentence."""
    where = {"subject": deployment, "action": f"move {alias}"}
    newest = reader.find("audit", where, ["-sequence"], limit=1)
    return "".join(f"by {row['actor']} at {row['at']:%Y-%m-%d %H:%M} UTC ({row['reason']})" for row in newest)


def aliases(store: Store, deployment: str) -> dict[str, int]:
    """Where the aliases of a deployment point; those that point nowhere are left out."""
    with store.read() as reader:
        rows = reader.find("aliases", {"deployment": deployment})
    return {row["alias"]: row["number"] for row in rows if row["number"] is not None}
