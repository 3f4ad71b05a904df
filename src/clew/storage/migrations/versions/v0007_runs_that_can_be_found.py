"""What runs are searched by: params, metrics and tags as rows; notes and artifacts; intervals of metrics."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import sqlalchemy as sa
from alembic import op

from clew.storage.run_values import value_rows

revision = "0007"
down_revision = "0006"

_RUNS_AT_ONCE = 1000


def sorted_text() -> Any:
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.add_column("runs", sa.Column("intervals", sa.Text()))
    op.create_index("runs_by_start", "runs", ["started_at"])
    op.create_index("runs_by_status", "runs", ["status", "started_at"])
    values = op.create_table(
        "run_values",
        sa.Column("run", sorted_text(), primary_key=True, nullable=False),
        sa.Column("kind", sorted_text(), primary_key=True, nullable=False),
        sa.Column("name", sorted_text(), primary_key=True, nullable=False),
        sa.Column("text", sorted_text()),
        sa.Column("number", sa.Float(53)),
    )
    for chosen in ("number", "text"):
        op.create_index(f"run_values_by_{chosen}", "run_values", ["kind", "name", chosen, "run"])
    op.create_table(
        "run_notes",
        sa.Column("run", sorted_text(), primary_key=True, nullable=False),
        sa.Column("number", sa.BigInteger(), primary_key=True, nullable=False, autoincrement=False),
        sa.Column("text", sorted_text(), nullable=False),
        sa.Column("actor", sorted_text(), nullable=False),
        sa.Column("at", sorted_text(), nullable=False),
    )
    op.create_table(
        "run_artifacts",
        sa.Column("run", sorted_text(), primary_key=True, nullable=False),
        sa.Column("name", sorted_text(), primary_key=True, nullable=False),
        sa.Column("digest", sorted_text(), nullable=False),
        sa.Column("n_bytes", sa.BigInteger(), nullable=False),
        sa.Column("at", sorted_text(), nullable=False),
    )
    for rows in batches_of_values():
        op.bulk_insert(values, rows)


def batches_of_values() -> Iterator[list[dict[str, Any]]]:
    """The params and metrics of the runs that are there, some runs at a time."""
    newest = ""
    query = sa.text("SELECT id, params, metrics FROM runs WHERE id > :newest ORDER BY id LIMIT :n")
    while True:
        runs = list(op.get_bind().execute(query, {"newest": newest, "n": _RUNS_AT_ONCE}))
        if not runs:
            return
        newest = runs[-1].id
        rows = [row for run in runs for row in values_of(run)]
        if rows:
            yield rows


def values_of(run: Any) -> list[dict[str, Any]]:
    params = msgspec.json.decode(run.params) if run.params else {}
    metrics = msgspec.json.decode(run.metrics) if run.metrics else {}
    given = {name: param["value"] for name, param in params.items()}
    measured = {name: float("nan") if value is None else value for name, value in metrics.items()}
    return [*value_rows(run.id, "param", given), *value_rows(run.id, "metric", measured)]
