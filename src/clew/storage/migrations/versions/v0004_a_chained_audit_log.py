"""The rows of the audit log as a chain: each holds the hash of the row before and of itself."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from alembic import op

from clew.storage.chain import HEAD_KEY, NOTHING_BEFORE, Head, hash_of

revision = "0004"
down_revision = "0003"


def sorted_text() -> Any:
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    # Made anew and not altered, so that a migrated store has the very table of a new one. The rows of an
    # audit log are few: they fit into memory.
    rows = [dict(row) for row in op.get_bind().execute(sa.text("SELECT * FROM audit")).mappings()]
    op.drop_table("audit")
    audit = create_audit()
    chain = chained(sorted(rows, key=lambda row: int(row["sequence"])))
    if chain:
        op.bulk_insert(audit, chain)
        value = f"{chain[-1]['sequence']} {chain[-1]['hash']}"
        meta = sa.table("meta", sa.column("key"), sa.column("value"))
        op.bulk_insert(meta, [{"key": HEAD_KEY, "value": value}])


def chained(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows, which keep their numbers: where numbers are missing, that was so before there was a chain."""
    chain, head = [], Head(0, NOTHING_BEFORE)
    for row in rows:
        told = row | {
            "at": datetime.fromisoformat(row["at"]),
            "evidence": None if row["evidence"] is None else msgspec.json.decode(row["evidence"]),
            "before": head.hash,
        }
        head = Head(row["sequence"], hash_of(told))
        chain.append(row | {"before": told["before"], "hash": head.hash})
    return chain


def create_audit() -> sa.Table:
    table = op.create_table(
        "audit",
        sa.Column(
            "sequence",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            primary_key=True,
            autoincrement=True,
        ),
        sa.Column("at", sorted_text(), nullable=False),
        sa.Column("actor", sorted_text(), nullable=False),
        sa.Column("action", sorted_text(), nullable=False),
        sa.Column("subject", sorted_text(), nullable=False),
        sa.Column("reason", sorted_text()),
        sa.Column("evidence", sa.Text()),
        sa.Column("before", sorted_text(), nullable=False),
        sa.Column("hash", sorted_text(), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("audit_by_subject", "audit", ["subject", "sequence"])
    return table
