"""The values that all parts of DCCF speak in: the spec of a job and what became of it; with the words for both.

Everything here is frozen. Times are aware and in UTC, durations are seconds, sizes are bytes.
"""

from __future__ import annotations

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
from dccf.states import (
    ACTIVE_STATES,
    FINAL_STATES,
    PLATFORM_REASONS,
    JobState,
    Reason,
    StopCause,
    Stream,
    WaitingFor,
)

__all__ = [
    "ACTIVE_STATES",
    "FINAL_STATES",
    "PLATFORM_REASONS",
    "Artifact",
    "Attempt",
    "BundleFile",
    "Identity",
    "Job",
    "JobEvent",
    "JobSpec",
    "JobState",
    "LogChunk",
    "Reason",
    "StopCause",
    "StoredSpec",
    "Stream",
    "WaitingFor",
]


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
