"""That a job was removed, and chords by their age."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "removed_job",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("removed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name="removed_job_pkey"),
    )
    op.create_index("removed_job_removed_at_idx", "removed_job", ["removed_at"])
    op.create_index("chord_created_at_idx", "chord", ["created_at"])
