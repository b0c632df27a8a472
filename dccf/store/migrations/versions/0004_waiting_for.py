"""What a queued job was last said to wait for, so that it is said once."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("job", sa.Column("waiting_for", sa.SmallInteger(), server_default="0", nullable=False))
    op.drop_index("job_queued_idx", "job")
    op.create_index(
        "job_queued_idx",
        "job",
        ["owner", "queue", "waiting_for", "run_after"],
        postgresql_where=sa.text("state = 'queued'"),
    )
