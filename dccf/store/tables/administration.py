"""Who may do what, what is made by the clock, and which processes are there."""

from __future__ import annotations

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from dccf.store.tables.schema import Prose, metadata, time_column

api_token = Table(
    "api_token",
    metadata,
    Column("id", Text, primary_key=True),  # the public part of the token
    Column("owner", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("token_hash", LargeBinary, nullable=False),
    Column("is_admin", Boolean, nullable=False),
    time_column("created_at", default_now=True),
    time_column("expires_at"),
    time_column("last_used_at"),
    time_column("revoked_at"),
)

owner_limit = Table(
    "owner_limit",
    metadata,
    Column("owner", Text, primary_key=True),
    Column("running", Integer),  # NULL: as the settings say
    Column("queued", Integer),
    CheckConstraint("running >= 0 AND queued >= 0", name="not_negative"),
)

queue_pause = Table(
    "queue_pause",
    metadata,
    Column("queue", Text, primary_key=True),
    Column("paused_by", Text, nullable=False),
    time_column("paused_at", default_now=True),
)

schedule = Table(
    "schedule",
    metadata,
    Column("owner", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("cron", Text, nullable=False),
    Column("time_zone", Text, nullable=False),
    Column("missed", Text, nullable=False),  # what becomes of times at which no controller was alive
    Column("spec", JSONB, nullable=False),
    Column("bundle_id", Uuid, ForeignKey("bundle.id", ondelete="RESTRICT"), nullable=False, index=True),
    Column("is_paused", Boolean, nullable=False, server_default=text("false")),
    time_column("next_at", required=True),
    time_column("last_at"),
    Column("last_job_id", Uuid),  # that job may have been removed
    Column("message", Prose, nullable=False, server_default=""),
    time_column("created_at", default_now=True),
    Column("idempotency_key", Text),
    CheckConstraint("missed IN ('skip', 'one')", name="missed"),
)
Index("schedule_next_at_idx", schedule.c.next_at, postgresql_where=~schedule.c.is_paused)

schedule_run = Table(
    "schedule_run",
    metadata,
    Column("owner", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("seq", BigInteger, Identity(), primary_key=True),
    time_column("due_at", required=True),
    Column("job_id", Uuid),  # that job may have been removed
    Column("message", Prose, nullable=False),  # why no job was made, where none was
    ForeignKeyConstraint(["owner", "name"], ["schedule.owner", "schedule.name"], ondelete="CASCADE"),
)

worker = Table(
    "worker",
    metadata,
    Column("name", Text, primary_key=True),
    Column("lease_owner", Text, nullable=False),
    Column("queues", ARRAY(Text), nullable=False),
    Column("slots", Integer, nullable=False),
    Column("engine", Prose, nullable=False),
    Column("version", Text, nullable=False),
    Column("message", Prose, nullable=False),  # why it takes no jobs, where it takes none
    time_column("started_at", default_now=True),
    time_column("heartbeat_at", default_now=True),
)

controller = Table(
    "controller",
    metadata,
    Column("id", Text, primary_key=True),
    Column("version", Text, nullable=False),
    Column("sweeps", JSONB, nullable=False, server_default=text("'{}'")),
    time_column("started_at", default_now=True),
    time_column("heartbeat_at", default_now=True),
)
