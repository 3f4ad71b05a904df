"""What a running system keeps: routes, workers, the log, tokens, commands, notices, checkpoints, batches."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def sorted_text() -> Any:
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    create_serving()
    create_log()
    create_loop()


def create_serving() -> None:
    op.create_table(
        "routes",
        sa.Column("deployment", sorted_text(), primary_key=True, nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("champion", sa.BigInteger()),
        sa.Column("candidate", sa.BigInteger()),
        sa.Column("stage", sorted_text(), nullable=False),
        sa.Column("share", sa.Float(53)),
        sa.Column("salt", sorted_text()),
        sa.Column("moved_at", sorted_text(), nullable=False),
    )
    op.create_table(
        "workers",
        sa.Column("id", sa.BigInteger(), primary_key=True, nullable=False, autoincrement=False),
        sa.Column("owner", sorted_text(), nullable=False),
        sa.Column("generation", sa.BigInteger()),
        sa.Column("failures", sa.Text()),
        sa.Column("started_at", sorted_text(), nullable=False),
        sa.Column("ended_at", sorted_text()),
    )
    op.create_index("workers_running", "workers", ["ended_at"])
    op.create_table(
        "tokens",
        sa.Column("name", sorted_text(), primary_key=True, nullable=False),
        sa.Column("digest", sorted_text(), nullable=False, unique=True),
        sa.Column("created_at", sorted_text(), nullable=False),
        sa.Column("revoked_at", sorted_text()),
    )


def create_log() -> None:
    op.create_table(
        "log_segments",
        sa.Column("worker", sa.BigInteger(), primary_key=True, nullable=False, autoincrement=False),
        sa.Column("segment", sa.BigInteger(), primary_key=True, nullable=False, autoincrement=False),
        sa.Column("path", sorted_text(), nullable=False),
        sa.Column("n_bytes", sa.BigInteger()),
        sa.Column("n_records", sa.BigInteger()),
        sa.Column("parts", sa.Text()),
        sa.Column("compacted_at", sorted_text()),
    )
    op.create_table(
        "log_parts",
        sa.Column("deployment", sorted_text(), primary_key=True, nullable=False),
        sa.Column("kind", sorted_text(), primary_key=True, nullable=False),
        sa.Column("day", sorted_text(), primary_key=True, nullable=False),
        sa.Column("object_digest", sorted_text(), primary_key=True, nullable=False),
        sa.Column("n_rows", sa.BigInteger(), nullable=False),
        sa.Column("n_bytes", sa.BigInteger(), nullable=False),
        sa.Column("first_time", sorted_text()),
        sa.Column("last_time", sorted_text()),
    )


def create_loop() -> None:
    op.create_table(
        "commands",
        sa.Column("id", sorted_text(), primary_key=True, nullable=False),
        sa.Column("deployment", sorted_text(), nullable=False),
        sa.Column("verb", sorted_text(), nullable=False),
        sa.Column("arguments", sa.Text()),
        sa.Column("actor", sorted_text(), nullable=False),
        sa.Column("reason", sorted_text()),
        sa.Column("status", sorted_text(), nullable=False),
        sa.Column("result", sa.Text()),
        sa.Column("asked_at", sorted_text(), nullable=False),
        sa.Column("done_at", sorted_text()),
    )
    op.create_index("commands_waiting", "commands", ["status", "asked_at"])
    op.create_table(
        "notices",
        sa.Column("id", sorted_text(), primary_key=True, nullable=False),
        sa.Column("channel", sorted_text(), nullable=False),
        sa.Column("level", sorted_text(), nullable=False),
        sa.Column("deployment", sorted_text()),
        sa.Column("payload", sa.Text()),
        sa.Column("status", sorted_text(), nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("next_attempt_at", sorted_text()),
        sa.Column("last_error", sorted_text()),
        sa.Column("created_at", sorted_text(), nullable=False),
        sa.Column("sent_at", sorted_text()),
    )
    op.create_index("notices_due", "notices", ["status", "next_attempt_at"])
    op.create_table(
        "checkpoints",
        sa.Column("deployment", sorted_text(), primary_key=True, nullable=False),
        sa.Column("tick", sa.BigInteger(), nullable=False),
        sa.Column("at", sorted_text(), nullable=False),
        sa.Column("next_tick", sorted_text()),
        sa.Column("state", sorted_text(), nullable=False),
        sa.Column("positions", sa.Text()),
        sa.Column("status", sorted_text(), nullable=False),
    )
    op.create_table(
        "batches",
        sa.Column("id", sorted_text(), primary_key=True, nullable=False),
        sa.Column("deployment", sorted_text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("source", sorted_text()),
        sa.Column("source_digest", sorted_text()),
        sa.Column("destination", sorted_text()),
        sa.Column("destination_digest", sorted_text()),
        sa.Column("n_rows", sa.BigInteger()),
        sa.Column("actor", sorted_text()),
        sa.Column("status", sorted_text(), nullable=False),
        sa.Column("started_at", sorted_text(), nullable=False),
        sa.Column("ended_at", sorted_text()),
        sa.Column("error", sorted_text()),
    )
    op.create_index("batches_by_time", "batches", ["deployment", "started_at"])
