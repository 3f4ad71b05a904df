"""The first tables."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def sorted_text() -> Any:
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    create_data()
    create_tracking()
    create_registry()
    create_loop()


def create_data() -> None:
    op.create_table(
        "meta",
        sa.Column("key", sorted_text(), primary_key=True, nullable=False),
        sa.Column("value", sorted_text()),
    )
    op.create_table(
        "datasets",
        sa.Column("name", sorted_text(), primary_key=True, nullable=False),
        sa.Column("columns", sa.Text()),
        sa.Column("schema_version", sa.BigInteger()),
        sa.Column("declaration", sa.Text()),
        sa.Column("code", sorted_text()),
        sa.Column("created_at", sorted_text(), nullable=False),
    )
    op.create_table(
        "snapshots",
        sa.Column("dataset", sorted_text(), primary_key=True, nullable=False),
        sa.Column("id", sorted_text(), primary_key=True, nullable=False),
        sa.Column("columns", sa.Text()),
        sa.Column("parts", sa.Text()),
        sa.Column("n_rows", sa.BigInteger(), nullable=False),
        sa.Column("first_time", sorted_text()),
        sa.Column("last_time", sorted_text()),
        sa.Column("taken_at", sorted_text(), nullable=False),
        sa.Column("source", sorted_text()),
        sa.Column("code", sorted_text()),
        sa.Column("declaration", sa.Text()),
        sa.Column("format", sa.BigInteger(), nullable=False),
    )
    op.create_index("snapshots_by_id", "snapshots", ["id"])
    op.create_table(
        "snapshot_log",
        sa.Column("dataset", sorted_text(), primary_key=True, nullable=False),
        sa.Column("sequence", sa.BigInteger(), primary_key=True, autoincrement=False, nullable=False),
        sa.Column("snapshot", sorted_text(), nullable=False),
        sa.Column("taken_at", sorted_text(), nullable=False),
        sa.Column("source", sorted_text()),
    )


def create_tracking() -> None:
    op.create_table(
        "code_trees",
        sa.Column("id", sorted_text(), primary_key=True, nullable=False),
        sa.Column("manifest", sorted_text(), nullable=False),
        sa.Column("commit", sorted_text()),
        sa.Column("is_dirty", sa.Boolean()),
        sa.Column("n_files", sa.BigInteger()),
        sa.Column("n_bytes", sa.BigInteger()),
        sa.Column("captured_at", sorted_text(), nullable=False),
        sa.Column("skipped", sa.Text()),
    )
    op.create_table(
        "environments",
        sa.Column("id", sorted_text(), primary_key=True, nullable=False),
        sa.Column("detail", sorted_text(), nullable=False),
        sa.Column("captured_at", sorted_text(), nullable=False),
    )
    op.create_table(
        "runs",
        sa.Column("id", sorted_text(), primary_key=True, nullable=False),
        sa.Column("key", sorted_text(), nullable=False, unique=True),
        sa.Column("model", sorted_text(), nullable=False),
        sa.Column("purpose", sorted_text(), nullable=False),
        sa.Column("status", sorted_text(), nullable=False),
        sa.Column("params", sa.Text()),
        sa.Column("seed", sa.BigInteger()),
        sa.Column("started_at", sorted_text(), nullable=False),
        sa.Column("ended_at", sorted_text()),
        sa.Column("dataset", sorted_text()),
        sa.Column("snapshot", sorted_text()),
        sa.Column("rows", sa.Text()),
        sa.Column("code", sorted_text()),
        sa.Column("environment", sorted_text()),
        sa.Column("metrics", sa.Text()),
        sa.Column("model_digest", sorted_text()),
        sa.Column("output", sorted_text()),
        sa.Column("error", sorted_text()),
        sa.Column("seconds", sa.Float(53)),
        sa.Column("peak_memory_bytes", sa.BigInteger()),
        sa.Column("owner", sorted_text()),
        sa.Column("attempt", sa.BigInteger()),
    )
    op.create_index("runs_by_model", "runs", ["model", "started_at"])
    op.create_index("runs_by_purpose", "runs", ["purpose"])
    op.create_table(
        "run_metrics",
        sa.Column("run", sorted_text(), primary_key=True, nullable=False),
        sa.Column("sequence", sa.BigInteger(), primary_key=True, autoincrement=False, nullable=False),
        sa.Column("name", sorted_text(), nullable=False),
        sa.Column("step", sa.BigInteger()),
        sa.Column("value", sa.Float(53)),
        sa.Column("at", sorted_text()),
    )


def create_registry() -> None:
    op.create_table(
        "deployments",
        sa.Column("name", sorted_text(), primary_key=True, nullable=False),
        sa.Column("kind", sorted_text(), nullable=False),
        sa.Column("model", sorted_text(), nullable=False),
        sa.Column("declaration", sa.Text()),
        sa.Column("created_at", sorted_text(), nullable=False),
    )
    op.create_table(
        "versions",
        sa.Column("deployment", sorted_text(), primary_key=True, nullable=False),
        sa.Column("number", sa.BigInteger(), primary_key=True, autoincrement=False, nullable=False),
        sa.Column("model", sorted_text(), nullable=False),
        sa.Column("run", sorted_text(), nullable=False),
        sa.Column("package", sorted_text(), nullable=False),
        sa.Column("created_at", sorted_text(), nullable=False),
        sa.Column("flavor", sorted_text(), nullable=False),
        sa.Column("metrics", sa.Text()),
        sa.Column("gate", sa.Text()),
        sa.Column("profile", sorted_text()),
        sa.UniqueConstraint("deployment", "run", name="versions_one_a_run"),
    )
    op.create_table(
        "aliases",
        sa.Column("deployment", sorted_text(), primary_key=True, nullable=False),
        sa.Column("alias", sorted_text(), primary_key=True, nullable=False),
        sa.Column("number", sa.BigInteger()),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("moved_at", sorted_text(), nullable=False),
    )
    op.create_table(
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
        sqlite_autoincrement=True,
    )
    op.create_index("audit_by_subject", "audit", ["subject", "sequence"])


def create_loop() -> None:
    op.create_table(
        "findings",
        sa.Column("id", sorted_text(), primary_key=True, nullable=False),
        sa.Column("deployment", sorted_text(), nullable=False),
        sa.Column("monitor", sorted_text(), nullable=False),
        sa.Column("level", sorted_text(), nullable=False),
        sa.Column("subject", sorted_text(), nullable=False),
        sa.Column("window_start", sorted_text()),
        sa.Column("window_end", sorted_text()),
        sa.Column("found_at", sorted_text(), nullable=False),
        sa.Column("value", sa.Float(53)),
        sa.Column("lower", sa.Float(53)),
        sa.Column("upper", sa.Float(53)),
        sa.Column("n", sa.BigInteger()),
        sa.Column("method", sorted_text()),
        sa.Column("sentence", sorted_text()),
        sa.Column("onset", sorted_text()),
        sa.Column("evidence", sa.Text()),
    )
    op.create_index("findings_by_time", "findings", ["deployment", "found_at"])
    op.create_table(
        "decisions",
        sa.Column("id", sorted_text(), primary_key=True, nullable=False),
        sa.Column("deployment", sorted_text(), nullable=False),
        sa.Column("kind", sorted_text(), nullable=False),
        sa.Column("at", sorted_text(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("sentence", sorted_text()),
        sa.Column("evidence", sa.Text()),
        sa.Column("findings", sa.Text()),
    )
    op.create_index("decisions_in_order", "decisions", ["deployment", "sequence"])
    op.create_table(
        "jobs",
        sa.Column("id", sorted_text(), primary_key=True, nullable=False),
        sa.Column("key", sorted_text(), nullable=False, unique=True),
        sa.Column("kind", sorted_text(), nullable=False),
        sa.Column("deployment", sorted_text()),
        sa.Column("step", sorted_text()),
        sa.Column("status", sorted_text(), nullable=False),
        sa.Column("state", sa.Text()),
        sa.Column("result", sorted_text()),
        sa.Column("error", sorted_text()),
        sa.Column("lease_owner", sorted_text()),
        sa.Column("lease_until", sorted_text()),
        sa.Column("created_at", sorted_text(), nullable=False),
        sa.Column("updated_at", sorted_text(), nullable=False),
    )
    op.create_table(
        "edges",
        sa.Column("from_kind", sorted_text(), primary_key=True, nullable=False),
        sa.Column("from_id", sorted_text(), primary_key=True, nullable=False),
        sa.Column("relation", sorted_text(), primary_key=True, nullable=False),
        sa.Column("to_kind", sorted_text(), primary_key=True, nullable=False),
        sa.Column("to_id", sorted_text(), primary_key=True, nullable=False),
    )
    op.create_index("edges_backwards", "edges", ["to_kind", "to_id"])
