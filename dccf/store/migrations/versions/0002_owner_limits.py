"""Limits per owner, and indexes for a dispatch that sorts nothing."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "owner_limit",
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("running", sa.Integer(), nullable=True),
        sa.Column("queued", sa.Integer(), nullable=True),
        sa.CheckConstraint("running >= 0 AND queued >= 0", name=op.f("owner_limit_not_negative_check")),
        sa.PrimaryKeyConstraint("owner", name=op.f("owner_limit_pkey")),
    )
    op.add_column("job", sa.Column("hinted_at", sa.DateTime(timezone=True), nullable=True))
    for name in ("job_hint_after_idx", "job_hinted_idx", "job_queued_idx"):
        op.drop_index(name, "job")
    op.create_index(
        "job_first_hint_idx",
        "job",
        ["queue", "owner", "hint_after", "id"],
        postgresql_where=sa.text("state = 'queued' AND hints = 0"),
    )
    op.create_index(
        "job_hinted_idx", "job", ["queue", "owner"], postgresql_where=sa.text("state = 'queued' AND hints > 0")
    )
    op.create_index(
        "job_next_hint_idx",
        "job",
        ["hint_after"],
        postgresql_where=sa.text("hint_after IS NOT NULL AND (state <> 'queued' OR hints > 0)"),
    )
    op.create_index("job_queued_idx", "job", ["owner", "queue"], postgresql_where=sa.text("state = 'queued'"))
    op.create_index(
        "job_active_idx",
        "job",
        ["owner", "queue", "worker"],
        postgresql_where=sa.text("lease_expires_at IS NOT NULL"),
    )
