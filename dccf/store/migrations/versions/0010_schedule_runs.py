"""What became of the last times of each schedule."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "schedule_run",
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("seq", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=True),
        sa.Column("message", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["owner", "name"],
            ["schedule.owner", "schedule.name"],
            name=op.f("schedule_run_owner_name_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("owner", "name", "seq", name=op.f("schedule_run_pkey")),
    )
