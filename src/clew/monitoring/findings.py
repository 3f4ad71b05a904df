"""Findings as rows: stored once, read back whole."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, fields
from datetime import datetime

from clew.entities import Finding, Level
from clew.storage import Store, Transaction, Where

_FIELDS = tuple(field.name for field in fields(Finding))


def finding_id(deployment: str, finding: Finding) -> str:
    """The id under which this finding is stored: the same finding always has the same one."""
    identity = (
        deployment,
        finding.monitor,
        finding.level,
        finding.subject,
        finding.window_start.isoformat(),
        finding.window_end.isoformat(),
        finding.found_at.isoformat(),
        finding.sentence,
    )
    return hashlib.sha256("\0".join(identity).encode()).hexdigest()[:32]


def store_finding(tx: Transaction, deployment: str, finding: Finding) -> str:
    """Keep a finding with its interval, sample size and method; storing it again changes nothing.

    Returns its id, by which decisions refer to it.
    """
    identity = finding_id(deployment, finding)
    tx.insert_if_absent("findings", {"id": identity, "deployment": deployment, **asdict(finding)})
    return identity


def list_findings(
    store: Store, deployment: str, level: Level | None = None, since: datetime | None = None
) -> list[Finding]:
    """The findings of a deployment in the order they were found.

    Parameters
    ----------
    level
        Only these: ``"page"``, ``"ticket"`` or ``"chart"``.
    since
        Only those found at or after this moment.
    """
    where: dict[str, object] = {"deployment": deployment}
    if level is not None:
        where["level"] = level
    if since is not None:
        where["found_at"] = Where(">=", since)
    with store.read() as reader:
        rows = reader.find("findings", where, order_by=("found_at", "id"))
    return [Finding(**{name: row[name] for name in _FIELDS}) for row in rows]
