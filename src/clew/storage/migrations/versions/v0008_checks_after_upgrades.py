"""What was found about versions whose libraries are installed in other releases."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def sorted_text() -> Any:
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "upgrade_checks",
        sa.Column("id", sorted_text(), primary_key=True, nullable=False),
        sa.Column("deployment", sorted_text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("verdict", sorted_text(), nullable=False),
        sa.Column("sentence", sorted_text(), nullable=False),
        sa.Column("checked_at", sorted_text(), nullable=False),
    )
