"""The chain of the audit log: every row holds the hash of the row before and of itself.

A row's hash is the SHA-256 of its canonical JSON, in which the hash of the row before stands: names in order,
no spaces, ASCII only. So whoever changes a row has to change every later one, and whoever wrote down one hash
elsewhere sees that. This form is never changed: chains have to verify for ever.

Where the chain ends is kept in a row of ``meta`` too, so that the loss of its newest rows is seen as well.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from clew.storage.tables import as_stored, stored_time

if TYPE_CHECKING:
    from clew.storage.rows import Reader, Transaction

HEAD_KEY = "audit_head"

NOTHING_BEFORE = "0" * 64
"""What stands for the hash of the row before the first one."""


class Head(NamedTuple):
    """The newest row of a chain; row 0 is none."""

    sequence: int
    hash: str


def canonical(row: Mapping[str, Any]) -> bytes:
    """The bytes that a row's hash is taken of: all of it but the hash itself.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> at = datetime(2026, 3, 1, 12, tzinfo=UTC)
    >>> row = {"sequence": 1, "at": at, "actor": "ada", "action": "pause", "subject": "churn",
    ...        "reason": "holiday", "evidence": {"share": 0.1}, "before": NOTHING_BEFORE}
    >>> canonical(row)[:70]
    b'{"action":"pause","actor":"ada","at":"2026-03-01T12:00:00.000000Z","be'
    """
    said = {name: value for name, value in row.items() if name != "hash"} | {"at": stored_time(row["at"])}
    return json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")


def hash_of(row: Mapping[str, Any]) -> str:
    """A row's hash, from its content and the hash of the row before."""
    return hashlib.sha256(canonical(row)).hexdigest()


def linked(row: Mapping[str, Any], head: Head) -> dict[str, Any]:
    """The row as the next one after `head`: with its number, the hash before and its own."""
    plain = {
        name: value.replace("\0", "␀") if isinstance(value, str) else value for name, value in row.items()
    }
    plain |= {"sequence": head.sequence + 1, "before": head.hash, "evidence": as_stored(row["evidence"])}
    return plain | {"hash": hash_of(plain)}


def read_head(reader: Reader) -> Head:
    """Where the chain ends, by what was kept of that when its newest row was written."""
    row = reader.get("meta", key=HEAD_KEY)
    if row is None:
        return Head(0, NOTHING_BEFORE)
    sequence, _, digest = row["value"].partition(" ")
    return Head(int(sequence), digest)


def append_to_chain(tx: Transaction, row: Mapping[str, Any]) -> None:
    """Add a row to the audit log, in the transaction of the change: one writer at a time keeps one chain."""
    head = read_head(tx)
    entry = linked(row, head)
    tx.insert("audit", entry)
    value = {"value": f"{entry['sequence']} {entry['hash']}"}
    if not tx.update("meta", {"key": HEAD_KEY}, value):
        tx.insert("meta", {"key": HEAD_KEY} | value)
