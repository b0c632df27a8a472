"""What each controller's sweeps did and took."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "controller", sa.Column("sweeps", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False)
    )
