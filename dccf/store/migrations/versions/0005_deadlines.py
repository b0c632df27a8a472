"""When a job's time limits for waiting and as a whole are over, so that sweeps find them by index."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("queue_deadline_at", "deadline_at"):
        op.add_column("job", sa.Column(name, sa.DateTime(timezone=True), nullable=True))
        op.create_index(
            f"job_{name}_idx", "job", [name], postgresql_where=sa.text(f"state = 'queued' AND {name} IS NOT NULL")
        )
    op.execute(
        "UPDATE job SET queue_deadline_at = "
        "greatest(created_at, run_after) + make_interval(secs => queue_timeout_seconds) "
        "WHERE state = 'queued' AND fence = 0 AND queue_timeout_seconds IS NOT NULL"
    )
    op.drop_column("job", "queue_timeout_seconds")
