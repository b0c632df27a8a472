"""With which key a schedule was made, so that the same request again makes no second one and is no conflict."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("schedule", sa.Column("idempotency_key", sa.Text(), nullable=True))
