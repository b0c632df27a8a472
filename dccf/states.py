"""The words for what becomes of jobs: states, reasons, what they wait for, why they are stopped, streams of log."""

from __future__ import annotations

import enum


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
