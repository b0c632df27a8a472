"""Jobs, and what belongs to them: attempts, history, log, files; and chords of jobs."""

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
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from dccf.models import JobState, Stream
from dccf.store.tables.schema import Prose, metadata, time_column

_STATES = ", ".join(f"'{state.value}'" for state in JobState)
_STREAMS = ", ".join(f"'{stream.value}'" for stream in Stream)

job = Table(
    "job",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("queue", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text),
    Column("message", Prose, nullable=False),
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
    time_column("lease_expires_at"),
    Column("cancel_requested", Boolean, nullable=False, server_default=text("false")),
    time_column("run_after", required=True),
    time_column("queue_deadline_at"),  # when it has waited too long for its first start
    time_column("deadline_at"),  # when it has taken too long as a whole
    Column("hints", Integer, nullable=False, server_default="0"),
    time_column("hint_after"),  # when the next hint may go out; NULL when none is wanted
    # What it was last said to wait for (dccf.models.WaitingFor), so that it is said once.
    Column("waiting_for", SmallInteger, nullable=False, server_default="0"),
    time_column("hinted_at"),  # when the last hint went out
    Column("idempotency_key", Text),
    Column("request_hash", LargeBinary),
    time_column("created_at", default_now=True),
    time_column("started_at"),
    time_column("running_at"),
    time_column("collecting_at"),
    time_column("finished_at"),
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
    time_column("claimed_at", default_now=True),
    time_column("running_at"),
    time_column("collecting_at"),
    time_column("finished_at"),
    Column("outcome", Text),
    Column("reason", Text),
    Column("message", Prose),
    Column("exit_code", Integer),
)

job_event = Table(
    "job_event",
    metadata,
    Column("seq", BigInteger, Identity(), primary_key=True),
    Column("job_id", Uuid, ForeignKey("job.id", ondelete="CASCADE"), nullable=False),
    time_column("at", default_now=True),
    Column("state", Text, nullable=False),
    Column("fence", Integer, nullable=False),
    Column("message", Prose, nullable=False),
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
    time_column("at", required=True),
    Column("data", LargeBinary, nullable=False),
    Column("omitted_bytes", BigInteger, nullable=False, server_default="0"),
    ForeignKeyConstraint(["job_id", "fence"], ["attempt.job_id", "attempt.fence"], ondelete="CASCADE"),
    CheckConstraint(f"stream IN ({_STREAMS})", name="stream"),
)

# That a job was there, for whoever still waits for its result.
removed_job = Table(
    "removed_job",
    metadata,
    Column("id", Uuid, primary_key=True),
    time_column("removed_at", default_now=True),
    Index("removed_job_removed_at_idx", "removed_at"),
)

chord = Table(
    "chord",
    metadata,
    Column("group_id", Text, primary_key=True),
    Column("size", Integer),  # NULL until the group has been sent; parts may return before
    time_column("created_at", default_now=True),
    time_column("delivered_at"),
    Index("chord_created_at_idx", "created_at"),
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
