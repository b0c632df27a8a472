"""The contract between a worker and whatever executes containers.

A worker drives one attempt through these calls, in this order::

    build -> run -> collect -> remove

A process that goes on where another one died calls ``is_resumable`` and ``resume`` in place of the first two.
``remove`` is always called, whatever happened before; the others stop at the first that raises.
A :class:`Runner` knows containers and nothing of the store. One instance serves one attempt at a
time; several instances (one per pool process) may use the same daemon at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from uuid import UUID

from dccf.models import JobSpec, Reason, StopCause, Stream


@dataclass(frozen=True)
class AttemptRef:
    """Names one attempt; every object a runner makes carries these three as labels."""

    job_id: UUID
    fence: int
    worker: str


@dataclass(frozen=True)
class ContextFile:
    """One file of the build context.

    ``path`` is relative, with ``/`` between segments, already checked (no ``..``, not absolute).
    ``chunks`` yields exactly ``size`` bytes, and is iterated once at most. ``sha256`` is the content's, in hex, where
    it is known without reading.
    """

    path: str
    size: int
    mode: int
    chunks: Iterable[bytes]
    sha256: str = ""


@dataclass(frozen=True)
class OutputFile:
    """One regular file from ``/output``.

    ``path`` is relative to ``/output``; bytes that are no valid UTF-8 are written as ``%XX``.
    ``chunks`` yields exactly ``size`` bytes and must be consumed before the next file is asked for.
    """

    path: str
    size: int
    mode: int
    chunks: Iterator[bytes]


@dataclass(frozen=True)
class Exit:
    """How a container ended.

    ``reason`` is ``None`` when it ended with exit code 0 and within all limits. ``warnings`` are
    sentences for the job's history (a child process was killed for memory, say).
    """

    exit_code: int | None
    reason: Reason | None
    message: str
    started_at: datetime
    finished_at: datetime
    warnings: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class EngineInfo:
    """What the daemon says of itself, for people: engine, version, builder, isolation."""

    engine: str
    version: str
    builder: str
    warnings: tuple[str, ...] = ()


class LogSink(Protocol):
    """Takes a container's output.

    ``write`` never blocks on I/O and never raises: a slow reader would stall the container (measured on attach).
    """

    def write(self, stream: Stream, data: bytes) -> None:
        """Take a piece of one stream; pieces of one stream arrive in order."""


class StopSignal(Protocol):
    """Tells an attempt to stop. Runners ask it at least every 0.1 s while they wait."""

    def cause(self) -> StopCause | None:
        """Give the first cause that was set, or ``None`` to go on. Cheap; safe from any thread."""


class Runner(Protocol):
    """Executes one attempt at a time on a container engine.

    All methods raise :class:`~dccf.errors.EngineUnavailable` when the engine is away or fails with
    a fault of its own; the end of a log or event stream is never taken for the end of a container.
    """

    def check(self) -> EngineInfo:
        """Ask the engine who it is.

        Raises:
            EngineUnavailable: it does not answer; the message says what to do.
        """

    def build(
        self,
        attempt: AttemptRef,
        spec: JobSpec,
        context: Iterable[ContextFile],
        log: LogSink,
        stop: StopSignal,
        owner: str | None = None,
    ) -> str:
        """Build the image from a context that has a ``Dockerfile`` at its top, and give its id.

        Output goes to ``build_stdout`` and ``build_stderr``. The context is streamed, never kept whole. An image that
        was built before of the same files for the same owner may be given instead; never one of another owner, and
        none at all without an owner.

        Raises:
            AttemptFailed: ``build_failed`` (the message names the line and the instruction),
                ``build_timed_out``, ``rejected``, ``image_not_found``, ``pull_failed``,
                ``pull_timed_out``, ``invalid_image``.
            AttemptStopped: ``stop`` said so; the build is dead by then.
        """

    def run(
        self,
        attempt: AttemptRef,
        spec: JobSpec,
        image: str,
        log: LogSink,
        stop: StopSignal,
        owner: str | None = None,
    ) -> Exit:
        """Run the image to its end; output goes to ``stdout`` and ``stderr``, attached before the start.

        The secrets that the job asks for are the owner's; their values do not reach ``log``.

        A limit that was hit is a :class:`Exit` with its reason, not an exception: what the container
        wrote can still be collected. All output has reached ``log`` when this returns.

        Raises:
            AttemptFailed: ``invalid_image``: the container could not be started; ``rejected``: no such secret.
            AttemptStopped: ``stop`` said so; the container is dead by then, or left alone when ``orphaned``.
        """

    def is_resumable(self, attempt: AttemptRef) -> bool:
        """Tell whether the attempt's container was started and is still here, running or ended."""

    def resume(self, attempt: AttemptRef, spec: JobSpec, log: LogSink, stop: StopSignal) -> Exit:
        """Watch a container to its end that another process has started; it must be resumable.

        ``log`` gets all that the engine has kept of its output, from the beginning, and then what comes. The time
        limit counts from the container's start. ``stop``, limits, secrets and errors are those of ``run``.

        Raises:
            EngineUnavailable: also when the engine was started again and ended the container with that.
            AttemptStopped: ``stop`` said so; the container is dead by then.
        """

    def collect(self, attempt: AttemptRef, spec: JobSpec) -> Iterator[OutputFile]:
        """Yield the regular files in ``/output``; links, devices, pipes and sockets are left out.

        Raises:
            AttemptFailed: ``output_limit_exceeded``, after yielding what fits.
        """

    def remove(self, attempt: AttemptRef) -> None:
        """Remove everything this attempt made. Safe at any time, any number of times, from any process."""

    def attempts(self, worker: str) -> list[AttemptRef]:
        """List the attempts of this worker that still have anything here: a container, a volume, an image."""

    def tidy(self) -> None:
        """Remove what is kept for later attempts and is not worth its room any more. For idle moments."""
