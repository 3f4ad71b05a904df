"""The audit log: who changed what, when, why, and on what evidence. Rows are added and never changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from clew.entities import AuditEntry
from clew.errors import NotFound
from clew.storage import Where
from clew.storage.chain import append_to_chain

if TYPE_CHECKING:
    from clew.storage import Reader, Store, Transaction

_ROWS_AT_ONCE = 1000
_MOVES_AT_ONCE = 20


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
    append_to_chain(
        tx,
        {
            "at": now,
            "actor": actor,
            "action": action,
            "subject": subject,
            "reason": reason,
            "evidence": dict(evidence or {}),
        },
    )


def audit_log(
    store: Store,
    subject: str | None = None,
    limit: int | None = 100,
    *,
    actor: str | None = None,
    action: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[AuditEntry]:
    """The newest entries first: of one subject, such as a deployment's name, or of all.

    `since` is the first moment that counts, `until` the first that no longer does.
    """
    given: dict[str, Any] = {"subject": subject, "actor": actor, "action": action}
    where = {name: value for name, value in given.items() if value is not None}
    with store.read() as reader:
        if since is None and until is None:
            return [AuditEntry(**row) for row in reader.find("audit", where, ["-sequence"], limit)]
        if since is not None:
            where["at"] = Where(">=", since)
        found = [AuditEntry(**row) for row in reader.find("audit", where, ["-sequence"])]
    return [entry for entry in found if until is None or entry.at < until][:limit]


def put_in_office(store: Store, deployment: str, number: int, by: datetime) -> AuditEntry | None:
    """The last move by a moment that made a version champion; None when there was none."""
    where: dict[str, Any] = {"subject": deployment, "action": "move champion", "at": Where("<=", by)}
    with store.read() as reader:
        while rows := reader.find("audit", where, ["-sequence"], _MOVES_AT_ONCE):
            for row in rows:
                if row["evidence"].get("to") == number:
                    return AuditEntry(**row)
            where["sequence"] = Where("<", rows[-1]["sequence"])
    return None


def audit_entry(store: Store, sequence: int) -> AuditEntry:
    """One entry by its number.

    Raises
    ------
    NotFound
        Naming the numbers that exist.
    """
    with store.read() as reader:
        row = reader.get("audit", sequence=sequence) if sequence < 2**63 else None
        newest = reader.find("audit", order_by=["-sequence"], limit=1)
    if row is not None:
        return AuditEntry(**row)
    there = f"they go up to {newest[0]['sequence']}" if newest else "it is empty"
    raise NotFound(f"The audit log has no row {sequence}; {there}. List them with: clew audit list")


def entries_in_order(reader: Reader, first: int = 1, n_at_once: int = _ROWS_AT_ONCE) -> Iterator[AuditEntry]:
    """Entries from the number `first` on, the oldest first, read a few at a time."""
    while rows := reader.find("audit", {"sequence": Where(">=", first)}, ["sequence"], n_at_once):
        yield from (AuditEntry(**row) for row in rows)
        first = rows[-1]["sequence"] + 1
