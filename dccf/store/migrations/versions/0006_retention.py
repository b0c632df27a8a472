"""Indexes by which retention walks over what has ended and over bundles."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "job_finished_at_idx", "job", ["finished_at", "id"], postgresql_where=sa.text("finished_at IS NOT NULL")
    )
    op.create_index("bundle_created_at_idx", "bundle", ["created_at", "id"])
