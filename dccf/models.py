"""The values that all parts of DCCF speak in: states, reasons, the spec of a job and what became of it.

Everything here is frozen. Times are aware and in UTC, durations are seconds, sizes are bytes.
"""

from __future__ import annotations

import enum
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal
from uuid import UUID

from pydantic import ConfigDict, Field, ValidationInfo, field_validator

from dccf.fields import (
    MAX_BUILD_SECONDS,
    MAX_RUN_SECONDS,
    MIB,
    AwareDatetime,
    ContainerUser,
    Environment,
    Frozen,
    LabelKey,
    LabelValue,
    MemoryBytes,
    Name,
    Profile,
    QueueName,
    SecretNames,
    TmpfsBytes,
    Ulimits,
)


class JobState(enum.StrEnum):
    """Where a job is in its life; the legal moves stand in :mod:`dccf.lifecycle.transitions`."""

    #: Waits for a worker, or for its next attempt.
    QUEUED = "queued"
    #: A worker has claimed it and makes its image.
    BUILDING = "building"
    #: Its container runs.
    RUNNING = "running"
    #: The container has ended; what it wrote is being stored.
    COLLECTING = "collecting"
    #: The container ended with exit code 0 and everything it wrote is stored.
    SUCCEEDED = "succeeded"
    #: It ended without success; ``reason`` says why.
    FAILED = "failed"
    #: Somebody asked for it to stop, and it did.
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether a job in this state can never change again."""
        return self in FINAL_STATES

    @property
    def is_active(self) -> bool:
        """Whether a worker holds the job (it has a lease)."""
        return self in ACTIVE_STATES


FINAL_STATES = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})
ACTIVE_STATES = frozenset({JobState.BUILDING, JobState.RUNNING, JobState.COLLECTING})


class Reason(enum.StrEnum):
    """Why an attempt or a job failed; whose fault it was follows from it."""

    #: The container ended with an exit code other than 0.
    EXIT_NONZERO = "exit_nonzero"
    #: An instruction of the Dockerfile failed.
    BUILD_FAILED = "build_failed"
    #: The build took longer than its time limit.
    BUILD_TIMED_OUT = "build_timed_out"
    #: The container ran longer than its time limit.
    TIMED_OUT = "timed_out"
    #: The job as a whole took longer than its time limit.
    JOB_TIMED_OUT = "job_timed_out"
    #: No worker took the job within its queue time limit.
    QUEUE_TIMED_OUT = "queue_timed_out"
    #: The kernel killed the container because it used more memory than it asked for.
    OUT_OF_MEMORY = "out_of_memory"
    #: The container wrote more to /output than is allowed; what fits is kept.
    OUTPUT_LIMIT_EXCEEDED = "output_limit_exceeded"
    #: The container wrote more to its own file system than is allowed.
    DISK_LIMIT_EXCEEDED = "disk_limit_exceeded"
    #: The container printed more than is allowed.
    LOG_LIMIT_EXCEEDED = "log_limit_exceeded"
    #: The Dockerfile asks for something that the policy does not allow.
    REJECTED = "rejected"
    #: A base image does not exist.
    IMAGE_NOT_FOUND = "image_not_found"
    #: The image was built but cannot be run.
    INVALID_IMAGE = "invalid_image"

    #: The worker stopped renewing its lease.
    WORKER_LOST = "worker_lost"
    #: The Docker daemon failed or went away.
    DAEMON_ERROR = "daemon_error"
    #: A base image could not be pulled.
    PULL_FAILED = "pull_failed"
    #: Pulling a base image took longer than its time limit.
    PULL_TIMED_OUT = "pull_timed_out"
    #: What the job wrote could not be stored.
    STORAGE_ERROR = "storage_error"

    @property
    def is_platform_fault(self) -> bool:
        """Whether the platform is to blame, so that the job is tried again by itself."""
        return self in PLATFORM_REASONS


PLATFORM_REASONS = frozenset(
    {
        Reason.WORKER_LOST,
        Reason.DAEMON_ERROR,
        Reason.PULL_FAILED,
        Reason.PULL_TIMED_OUT,
        Reason.STORAGE_ERROR,
    }
)


class WaitingFor(enum.IntEnum):
    """What a job that may start waits for; kept in its row, so that it is said once."""

    #: Its turn: workers are there and will come to it.
    NOTHING_SPECIAL = 0
    #: Its queue is paused.
    RESUME = 1
    #: No worker listens on its queue.
    WORKER = 2
    #: Workers listen, but none takes jobs.
    ABLE_WORKER = 3
    #: Its owner has as many running as they may.
    OWNER_LIMIT = 4


class StopCause(enum.StrEnum):
    """Why a running attempt is told to stop."""

    #: Somebody cancelled the job.
    CANCEL = "cancel"
    #: The job's fence has passed this attempt: it kills its container and writes nothing.
    LOST = "lost"
    #: The worker shuts down and hands the job back.
    SHUTDOWN = "shutdown"
    #: The job's time limit as a whole is over.
    OVERDUE = "overdue"
    #: The worker's main process died: the container is left to the worker's next life, which goes on with it.
    ORPHANED = "orphaned"


class Stream(enum.StrEnum):
    """The four streams of log that every attempt has."""

    BUILD_STDOUT = "build_stdout"
    BUILD_STDERR = "build_stderr"
    STDOUT = "stdout"
    STDERR = "stderr"


class JobSpec(Frozen):
    """What a person can ask for when submitting a job, with its defaults and bounds."""

    env: Environment = Field(default_factory=dict, max_length=500, description="Environment of the container.")
    timeout_seconds: float = Field(600, gt=0, le=MAX_RUN_SECONDS, description="Longest run of the container.")
    build_timeout_seconds: float = Field(600, gt=0, le=MAX_BUILD_SECONDS, description="Longest build of the image.")
    queue_timeout_seconds: float | None = Field(
        None, gt=0, le=30 * 86400, description="Longest wait for a worker; no limit when null."
    )
    job_timeout_seconds: float | None = Field(
        None,
        gt=0,
        le=60 * 86400,
        description="Longest time from the submit (or run_after) to the end, all attempts and waits included.",
    )
    cpus: float = Field(1.0, ge=0.01, le=1024, description="CPU cores.")
    memory: MemoryBytes = Field(512 * MIB, description="Memory in bytes, or text like 512m.")
    pids: int | None = Field(None, ge=8, le=1 << 22, description="Most processes; as many as allowed when null.")
    tmp: TmpfsBytes = Field(256 * MIB, description="Size of /tmp; what is in it counts as memory.")
    shm: TmpfsBytes = Field(64 * MIB, description="Size of /dev/shm; what is in it counts as memory.")
    ulimits: Ulimits = Field(default_factory=dict, description="Resource limits of each process, like `nofile`.")
    profile: Profile = Field("strict", description="`compat` lets root in the container write and do more.")
    user: ContainerUser | None = Field(None, description="User of the container, like `1000:100`; else the image's.")
    runtime: Name | None = Field(None, description="OCI runtime, like `runsc`; the daemon's own when null.")
    network: Literal["none", "bridge"] = Field("none", description="Network of the running container.")
    secrets: SecretNames = Field(
        default_factory=dict,
        max_length=100,
        description="Environment variables of the container whose values are the owner's secrets of these names.",
    )
    reuse_image: bool = Field(
        True, description="Whether an image that the worker built of the same files for the same owner may be run."
    )
    labels: dict[LabelKey, LabelValue] = Field(
        default_factory=dict, max_length=50, description="Free key-value pairs to find jobs by."
    )
    queue: QueueName = Field("default", description="Queue whose workers may take the job.")
    retries: int = Field(0, ge=0, le=100, description="Further attempts after a failure of the job's own.")
    retry_exit_codes: tuple[Annotated[int, Field(ge=1, le=255)], ...] = Field(
        (), max_length=50, description="Retries are for these exit codes only; for any failure when empty."
    )
    run_after: AwareDatetime | None = Field(None, description="The job does not start before this time.")

    @field_validator("run_after")
    @classmethod
    def _check_ends(cls, value: datetime | None, info: ValidationInfo) -> datetime | None:
        longest = max(info.data.get(limit) or 0.0 for limit in ("queue_timeout_seconds", "job_timeout_seconds"))
        if value is not None and datetime.max.replace(tzinfo=UTC) - value < timedelta(seconds=longest):
            raise ValueError("together with the time limits it leads beyond the year 9999")
        return value

    @field_validator("secrets")
    @classmethod
    def _check_names(cls, value: SecretNames, info: ValidationInfo) -> SecretNames:
        twice = sorted(value.keys() & info.data.get("env", {}).keys())
        if twice:
            raise ValueError(f"{', '.join(twice)} is in env as well; a variable has one value")
        return value


class StoredSpec(JobSpec):
    """A spec that was checked at the submit, perhaps by a newer version with options that this one lacks.

    They are kept in ``model_extra`` and written on as they are: while versions are mixed a job must stay readable
    for all, and only who knows its options may run it.
    """

    model_config = ConfigDict(extra="allow")


class Job(Frozen):
    """A job as everybody sees it."""

    id: UUID
    state: JobState
    reason: Reason | None = None
    message: str = Field(description="What is happening to the job, and why, in one sentence.")
    exit_code: int | None = None
    owner: str
    spec: JobSpec
    bundle_id: UUID
    inputs: tuple[UUID, ...] = Field((), description="Jobs whose artefacts stand under inputs/<job id>/.")
    fence: int = Field(description="Number of the current attempt; grows with every claim.")
    failures: int = Field(description="Failures that count against max_attempts.")
    max_attempts: int
    cancel_requested: bool = False
    worker: str | None = None
    created_at: datetime
    run_after: datetime
    started_at: datetime | None = Field(None, description="When the last attempt was claimed.")
    running_at: datetime | None = Field(None, description="When the last attempt's container started.")
    collecting_at: datetime | None = Field(None, description="When the last attempt's container ended.")
    finished_at: datetime | None = None


class Attempt(Frozen):
    """One claim of a job by a worker."""

    job_id: UUID
    fence: int
    worker: str
    claimed_at: datetime
    running_at: datetime | None = None
    collecting_at: datetime | None = None
    finished_at: datetime | None = None
    outcome: str | None = Field(None, description="succeeded, failed, cancelled or handed_back.")
    reason: Reason | None = None
    message: str | None = None
    exit_code: int | None = None


class JobEvent(Frozen):
    """One line of the history that people read."""

    seq: int
    at: datetime
    state: JobState
    fence: int
    message: str


class Artifact(Frozen):
    """A file that the container left in /output."""

    path: str
    size: int
    mode: int = Field(description="Permission bits as an integer, set-id bits removed.")
    sha256: str = Field(description="Lower-case hex.")


class BundleFile(Frozen):
    """A file that was uploaded with a job."""

    path: str
    size: int
    mode: int
    sha256: str


class LogChunk(Frozen):
    """A piece of one stream of an attempt's log."""

    seq: int
    fence: int
    stream: Stream
    at: datetime
    data: bytes
    omitted_bytes: int = Field(0, description="Bytes left out by the cap just before this piece.")


class Identity(Frozen):
    """Who is asking: the owner a token belongs to, and whether it may administer."""

    owner: str
    is_admin: bool = False
