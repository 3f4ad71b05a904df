"""Snapshots say where they are cut, and which digests their name is made of."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    # Null in the snapshots that are there: their parts are the blocks, cut by position.
    op.add_column("snapshots", sa.Column("blocks", sa.Text()))
    op.add_column("snapshots", sa.Column("cuts", sa.Text()))
