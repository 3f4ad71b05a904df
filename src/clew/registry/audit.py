"""The audit log: who changed what, when, why, and on what evidence. Rows are added and never changed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from clew.entities import AuditEntry

if TYPE_CHECKING:
    from clew.storage import Store, Transaction


def record_audit(
    tx: Transaction,
    *,
    now: datetime,
    actor: str,
    action: str,
    subject: str,
    reason: str,
    evidence: Mapping[str, Any] | None = None,
) -> None:
    """Add a row in the transaction that makes the change, so that neither is there without the other."""
    tx.insert(
        "audit",
        {
            "at": now,
            "actor": actor,
            "action": action,
            "subject": subject,
            "reason": reason,
            "evidence": dict(evidence or {}),
        },
    )


def audit_log(store: Store, subject: str | None = None, limit: int | None = 100) -> list[AuditEntry]:
    """The newest entries first; of one subject, such as a deployment's name, or of all."""
    where = {} if subject is None else {"subject": subject}
    with store.read() as reader:
        rows = reader.find("audit", where, order_by=["-sequence"], limit=limit)
    return [AuditEntry(**row) for row in rows]
