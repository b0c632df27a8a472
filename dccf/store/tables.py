"""The declared schema; migrations create the same one, which a test proves."""

from __future__ import annotations

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from dccf.models import JobState, Stream

metadata = MetaData(
    naming_convention={
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
        "pk": "%(table_name)s_pkey",
    }
)

_STATES = ", ".join(f"'{state.value}'" for state in JobState)
_STREAMS = ", ".join(f"'{stream.value}'" for stream in Stream)


def _time(name: str, *, required: bool = False, default_now: bool = False) -> Column[object]:
    return Column(
        name,
        DateTime(timezone=True),
        nullable=not (required or default_now),
        server_default=func.now() if default_now else None,
    )


blob = Table(
    "blob",
    metadata,
    # A surrogate key: content can be streamed in before its hash is known, and nothing is rewritten after.
    Column("id", Uuid, primary_key=True),
    Column("sha256", LargeBinary, unique=True),  # NULL while the content is still coming in
    Column("size", BigInteger, nullable=False, server_default="0"),
    Column("stored_size", BigInteger, nullable=False, server_default="0"),
    Column("codec", SmallInteger, nullable=False, server_default="0"),  # 0 raw, 1 zstd per chunk
    Column("chunk_size", Integer, nullable=False),
    _time("touched_at", default_now=True),
    CheckConstraint("sha256 IS NULL OR octet_length(sha256) = 32", name="sha256_length"),
)

blob_chunk = Table(
    "blob_chunk",
    metadata,
    Column("blob_id", Uuid, ForeignKey("blob.id", ondelete="CASCADE"), primary_key=True),
    Column("seq", Integer, primary_key=True),
    # STORAGE EXTERNAL (set by the migration): PostgreSQL's own compression only costs time on zstd data.
    Column("data", LargeBinary, nullable=False),
)

bundle = Table(
    "bundle",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("spec", JSONB, nullable=False),  # the options that a signature was made with
    Column("size", BigInteger, nullable=False),
    Column("file_count", Integer, nullable=False),
    _time("created_at", default_now=True),
)

Index("bundle_created_at_idx", bundle.c.created_at, bundle.c.id)

bundle_file = Table(
    "bundle_file",
    metadata,
    Column("bundle_id", Uuid, ForeignKey("bundle.id", ondelete="CASCADE"), primary_key=True),
    Column("path", Text, primary_key=True),
    Column("mode", Integer, nullable=False),
    Column("blob_id", Uuid, ForeignKey("blob.id", ondelete="RESTRICT"), nullable=False, index=True),
)

job = Table(
    "job",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("queue", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text),
    Column("message", Text, nullable=False),
    Column("exit_code", Integer),
    # Columns that queries need stand beside it; the rest of the spec grows without migrations.
    Column("spec", JSONB, nullable=False),
    Column("bundle_id", Uuid, ForeignKey("bundle.id", ondelete="RESTRICT"), nullable=False, index=True),
    Column("inputs", ARRAY(Uuid), nullable=False),
    Column("celery_message", Text, nullable=False),  # the whole message; a hint sent again is this same one
    Column("continuation_pending", Boolean, nullable=False),
    Column("fence", Integer, nullable=False, server_default="0"),
    Column("failures", Integer, nullable=False, server_default="0"),
    Column("retries_used", Integer, nullable=False, server_default="0"),
    Column("max_attempts", Integer, nullable=False),
    Column("lease_owner", Text),
    Column("worker", Text),
    _time("lease_expires_at"),
    Column("cancel_requested", Boolean, nullable=False, server_default=text("false")),
    _time("run_after", required=True),
    _time("queue_deadline_at"),  # when it has waited too long for its first start
    _time("deadline_at"),  # when it has taken too long as a whole
    Column("hints", Integer, nullable=False, server_default="0"),
    _time("hint_after"),  # when the next hint may go out; NULL when none is wanted
    # What it was last said to wait for (dccf.models.WaitingFor), so that it is said once.
    Column("waiting_for", SmallInteger, nullable=False, server_default="0"),
    _time("hinted_at"),  # when the last hint went out
    Column("idempotency_key", Text),
    Column("request_hash", LargeBinary),
    _time("created_at", default_now=True),
    _time("started_at"),
    _time("running_at"),
    _time("collecting_at"),
    _time("finished_at"),
    UniqueConstraint("owner", "idempotency_key"),
    CheckConstraint(f"state IN ({_STATES})", name="state"),
    CheckConstraint("(state = 'failed') = (reason IS NOT NULL)", name="failed_has_reason"),
    CheckConstraint(
        "(state IN ('building', 'running', 'collecting')) = (lease_expires_at IS NOT NULL)", name="active_has_lease"
    ),
    CheckConstraint(
        "(state IN ('succeeded', 'failed', 'cancelled')) = (finished_at IS NOT NULL)", name="final_has_end"
    ),
)
# What is due is read in the order of one of these, a few rows each time, however many wait or have ended.
_is_first = (job.c.state == "queued") & (job.c.hints == 0)
Index("job_first_hint_idx", job.c.queue, job.c.owner, job.c.hint_after, job.c.id, postgresql_where=_is_first)
Index(
    "job_next_hint_idx",
    job.c.hint_after,
    postgresql_where=job.c.hint_after.is_not(None) & ((job.c.state != "queued") | (job.c.hints > 0)),
)
Index("job_lease_expires_at_idx", job.c.lease_expires_at, postgresql_where=job.c.lease_expires_at.is_not(None))
Index("job_active_idx", job.c.owner, job.c.queue, job.c.worker, postgresql_where=job.c.lease_expires_at.is_not(None))
Index(
    "job_queued_idx",
    job.c.owner,
    job.c.queue,
    job.c.waiting_for,
    job.c.run_after,
    postgresql_where=job.c.state == "queued",
)
for _deadline in (job.c.queue_deadline_at, job.c.deadline_at):
    Index(f"job_{_deadline.name}_idx", _deadline, postgresql_where=(job.c.state == "queued") & _deadline.is_not(None))
Index("job_hinted_idx", job.c.queue, job.c.owner, postgresql_where=(job.c.state == "queued") & (job.c.hints > 0))
Index("job_owner_created_at_idx", job.c.owner, job.c.created_at, job.c.id)
Index("job_finished_at_idx", job.c.finished_at, job.c.id, postgresql_where=job.c.finished_at.is_not(None))
Index("job_created_at_idx", job.c.created_at, job.c.id)

attempt = Table(
    "attempt",
    metadata,
    Column("job_id", Uuid, ForeignKey("job.id", ondelete="CASCADE"), primary_key=True),
    Column("fence", Integer, primary_key=True),
    Column("worker", Text, nullable=False),
    _time("claimed_at", default_now=True),
    _time("running_at"),
    _time("collecting_at"),
    _time("finished_at"),
    Column("outcome", Text),
    Column("reason", Text),
    Column("message", Text),
    Column("exit_code", Integer),
)

job_event = Table(
    "job_event",
    metadata,
    Column("seq", BigInteger, Identity(), primary_key=True),
    Column("job_id", Uuid, ForeignKey("job.id", ondelete="CASCADE"), nullable=False),
    _time("at", default_now=True),
    Column("state", Text, nullable=False),
    Column("fence", Integer, nullable=False),
    Column("message", Text, nullable=False),
    Index(None, "job_id", "seq"),
)

artifact = Table(
    "artifact",
    metadata,
    Column("job_id", Uuid, primary_key=True),
    Column("fence", Integer, primary_key=True),
    Column("path", Text, primary_key=True),
    Column("mode", Integer, nullable=False),
    Column("blob_id", Uuid, ForeignKey("blob.id", ondelete="RESTRICT"), nullable=False, index=True),
    ForeignKeyConstraint(["job_id", "fence"], ["attempt.job_id", "attempt.fence"], ondelete="CASCADE"),
)

log_chunk = Table(
    "log_chunk",
    metadata,
    Column("job_id", Uuid, primary_key=True),
    Column("fence", Integer, primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("stream", Text, nullable=False),
    _time("at", required=True),
    Column("data", LargeBinary, nullable=False),
    Column("omitted_bytes", BigInteger, nullable=False, server_default="0"),
    ForeignKeyConstraint(["job_id", "fence"], ["attempt.job_id", "attempt.fence"], ondelete="CASCADE"),
    CheckConstraint(f"stream IN ({_STREAMS})", name="stream"),
)

api_token = Table(
    "api_token",
    metadata,
    Column("id", Text, primary_key=True),  # the public part of the token
    Column("owner", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("token_hash", LargeBinary, nullable=False),
    Column("is_admin", Boolean, nullable=False),
    _time("created_at", default_now=True),
    _time("expires_at"),
    _time("last_used_at"),
    _time("revoked_at"),
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
    _time("paused_at", default_now=True),
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
    _time("next_at", required=True),
    _time("last_at"),
    Column("last_job_id", Uuid),  # that job may have been removed
    Column("message", Text, nullable=False, server_default=""),
    _time("created_at", default_now=True),
    CheckConstraint("missed IN ('skip', 'one')", name="missed"),
)
Index("schedule_next_at_idx", schedule.c.next_at, postgresql_where=~schedule.c.is_paused)

worker = Table(
    "worker",
    metadata,
    Column("name", Text, primary_key=True),
    Column("lease_owner", Text, nullable=False),
    Column("queues", ARRAY(Text), nullable=False),
    Column("slots", Integer, nullable=False),
    Column("engine", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("message", Text, nullable=False),  # why it takes no jobs, where it takes none
    _time("started_at", default_now=True),
    _time("heartbeat_at", default_now=True),
)

controller = Table(
    "controller",
    metadata,
    Column("id", Text, primary_key=True),
    Column("version", Text, nullable=False),
    Column("sweeps", JSONB, nullable=False, server_default=text("'{}'")),
    _time("started_at", default_now=True),
    _time("heartbeat_at", default_now=True),
)

chord = Table(
    "chord",
    metadata,
    Column("group_id", Text, primary_key=True),
    Column("size", Integer),  # NULL until the group has been sent; parts may return before
    _time("created_at", default_now=True),
    _time("delivered_at"),
)

chord_part = Table(
    "chord_part",
    metadata,
    Column("group_id", Text, ForeignKey("chord.group_id", ondelete="CASCADE"), primary_key=True),
    Column("task_id", Text, primary_key=True),
    Column("position", Integer),
    Column("state", Text, nullable=False),
    Column("result", Text, nullable=False),
)
