"""Folders of files: their snapshots, and the order in which they were taken."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def sorted_text() -> Any:
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "folder_snapshots",
        sa.Column("dataset", sorted_text(), primary_key=True, nullable=False),
        sa.Column("id", sorted_text(), primary_key=True, nullable=False),
        sa.Column("manifest", sorted_text(), nullable=False),
        sa.Column("packs", sa.Text()),
        sa.Column("n_files", sa.BigInteger(), nullable=False),
        sa.Column("n_bytes", sa.BigInteger(), nullable=False),
        sa.Column("taken_at", sorted_text(), nullable=False),
        sa.Column("source", sorted_text()),
        sa.Column("format", sa.BigInteger(), nullable=False),
    )
    op.create_index("folder_snapshots_by_id", "folder_snapshots", ["id"])
    op.create_table(
        "folder_log",
        sa.Column("dataset", sorted_text(), primary_key=True, nullable=False),
        sa.Column("sequence", sa.BigInteger(), primary_key=True, nullable=False, autoincrement=False),
        sa.Column("snapshot", sorted_text(), nullable=False),
        sa.Column("taken_at", sorted_text(), nullable=False),
        sa.Column("source", sorted_text()),
    )
