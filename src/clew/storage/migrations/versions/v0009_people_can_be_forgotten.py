"""Erasures: who was forgotten, by a salted hash, and what of snapshots, log and loops was erased."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def sorted_text() -> Any:
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "erasures",
        sa.Column("number", sa.BigInteger(), primary_key=True, nullable=False, autoincrement=False),
        sa.Column("subject", sorted_text(), nullable=False),
        sa.Column("salt", sorted_text(), nullable=False),
        sa.Column("fingerprint", sorted_text(), nullable=False),
        sa.Column("datasets", sa.Text()),
        sa.Column("deployments", sa.Text()),
        sa.Column("keys", sa.Text()),
        sa.Column("status", sorted_text(), nullable=False),
        sa.Column("actor", sorted_text(), nullable=False),
        sa.Column("reason", sorted_text(), nullable=False),
        sa.Column("at", sorted_text(), nullable=False),
        sa.Column("done_at", sorted_text()),
        sa.Column("changes", sa.Text()),
        sa.Column("leaving", sa.Text()),
    )
    op.add_column("snapshots", sa.Column("erased", sa.Text()))
    op.add_column("log_segments", sa.Column("erased", sa.Text()))
    op.add_column("checkpoints", sa.Column("erasure", sa.BigInteger()))
