"""Snapshots say which keys they have, and datasets which columns they had."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    # Null in the snapshots that are there: their keys are read when they are needed.
    op.add_column("snapshots", sa.Column("keys", sa.Text()))
    # Null until the columns change next: which they were before was not kept.
    op.add_column("datasets", sa.Column("schemas", sa.Text()))
