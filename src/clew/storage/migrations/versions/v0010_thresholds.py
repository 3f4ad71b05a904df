"""Deployments keep the decision threshold that is in force."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    # Null in the deployments that are there: they answer the most probable class.
    op.add_column("deployments", sa.Column("threshold", sa.Float(53)))
