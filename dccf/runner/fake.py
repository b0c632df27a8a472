"""A runner without containers, for tests, demonstrations and Celery's eager mode.

It plays what the job's environment tells it to:

=============================  ==========================================================================
``DCCF_FAKE_EXIT_CODE``        exit code of the container (0)
``DCCF_FAKE_SLEEP_SECONDS``    how long the container runs (0)
``DCCF_FAKE_BUILD_SECONDS``    how long the build takes (0)
``DCCF_FAKE_STDOUT``           what the container prints to stdout
``DCCF_FAKE_STDERR``           what it prints to stderr
``DCCF_FAKE_OUTPUT``           files it leaves in /output, as ``path=text``, one a line
``DCCF_FAKE_BUILD_ERROR``      the build fails with ``build_failed`` and this message
``DCCF_FAKE_REASON``           the build fails with this reason instead (a value of ``dccf.models.Reason``)
``DCCF_FAKE_OOM``              any text: the container is killed for memory (exit code 137)
``DCCF_FAKE_ENGINE_ERROR``     ``build``, ``run`` or ``collect``: there the engine is away
=============================  ==========================================================================
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from dccf.config import Settings
from dccf.errors import AttemptFailed, AttemptStopped, EngineUnavailable
from dccf.models import JobSpec, Reason, Stream
from dccf.runner.base import AttemptRef, ContextFile, EngineInfo, Exit, LogSink, OutputFile, StopSignal

POLL_SECONDS = 0.02
_KILLED = 137


class FakeRunner:
    """Fulfils :class:`dccf.runner.base.Runner` by playing scripted results."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._containers: dict[AttemptRef, dict[str, str]] = {}

    def check(self) -> EngineInfo:
        """Say that this is the fake."""
        return EngineInfo("fake", "0", "none", ("Jobs are not executed: results are scripted.",))

    def build(
        self,
        attempt: AttemptRef,
        spec: JobSpec,
        context: Iterable[ContextFile],
        log: LogSink,
        stop: StopSignal,
        owner: str | None = None,  # noqa: ARG002 - nothing is built, so nothing is reused
    ) -> str:
        """Read the whole context and pretend to build it; see :meth:`dccf.runner.base.Runner.build`."""
        self._maybe_away(spec, "build")
        names = set()
        for file in context:
            names.add(file.path)
            for _ in file.chunks:
                _raise_if_stopped(stop)
        if "Dockerfile" not in names:
            raise AttemptFailed(Reason.BUILD_FAILED, "There is no file named Dockerfile at the top of the context.")
        log.write(Stream.BUILD_STDOUT, b"fake build\n")
        seconds = float(spec.env.get("DCCF_FAKE_BUILD_SECONDS", "0"))
        if not _sleep(min(seconds, spec.build_timeout_seconds), seconds, stop):
            raise AttemptFailed(
                Reason.BUILD_TIMED_OUT, f"The build took longer than {spec.build_timeout_seconds:g} s."
            )
        if "DCCF_FAKE_BUILD_ERROR" in spec.env or "DCCF_FAKE_REASON" in spec.env:
            reason = Reason(spec.env.get("DCCF_FAKE_REASON", Reason.BUILD_FAILED))
            raise AttemptFailed(reason, spec.env.get("DCCF_FAKE_BUILD_ERROR", "The script says so."))
        return f"fake:{attempt.job_id}-{attempt.fence}"

    def run(
        self,
        attempt: AttemptRef,
        spec: JobSpec,
        image: str,
        log: LogSink,
        stop: StopSignal,
        owner: str | None = None,
    ) -> Exit:
        """Print, sleep and end as scripted; see :meth:`dccf.runner.base.Runner.run`."""
        del image, owner
        self._maybe_away(spec, "run")
        self._containers[attempt] = dict(spec.env)
        started_at = datetime.now(UTC)
        for name, stream in (("DCCF_FAKE_STDOUT", Stream.STDOUT), ("DCCF_FAKE_STDERR", Stream.STDERR)):
            if name in spec.env:
                log.write(stream, spec.env[name].encode())
        seconds = float(spec.env.get("DCCF_FAKE_SLEEP_SECONDS", "0"))
        in_time = _sleep(min(seconds, spec.timeout_seconds), seconds, stop)
        code, reason, message = _end(spec, in_time=in_time)
        return Exit(code, reason, message, started_at, datetime.now(UTC))

    def is_resumable(self, attempt: AttemptRef) -> bool:
        """Tell whether this very object has played the attempt: nothing outlives its process."""
        return attempt in self._containers

    def resume(self, attempt: AttemptRef, spec: JobSpec, log: LogSink, stop: StopSignal) -> Exit:
        """Play the script again; see :meth:`dccf.runner.base.Runner.resume`."""
        return self.run(attempt, spec, "", log, stop)

    def collect(self, attempt: AttemptRef, spec: JobSpec) -> Iterator[OutputFile]:
        """Yield the scripted files; see :meth:`dccf.runner.base.Runner.collect`."""
        self._maybe_away(spec, "collect")
        left = self._settings.output_limit_bytes
        for line in self._containers.get(attempt, {}).get("DCCF_FAKE_OUTPUT", "").splitlines():
            path, _, text = line.partition("=")
            data = text.encode()
            left -= len(data)
            if left < 0:
                raise AttemptFailed(
                    Reason.OUTPUT_LIMIT_EXCEEDED,
                    f"/output holds more than {self._settings.output_limit_bytes} bytes. What fits was kept.",
                )
            yield OutputFile(path, len(data), 0o644, iter([data] if data else []))

    def remove(self, attempt: AttemptRef) -> None:
        """Forget the attempt."""
        self._containers.pop(attempt, None)

    def tidy(self) -> None:
        """Nothing is kept."""

    def attempts(self, worker: str) -> list[AttemptRef]:
        """List the attempts of this worker that have run and were not removed."""
        return [attempt for attempt in self._containers if attempt.worker == worker]

    def _maybe_away(self, spec: JobSpec, step: str) -> None:
        if spec.env.get("DCCF_FAKE_ENGINE_ERROR") == step:
            raise EngineUnavailable("The script says that the engine is away.")


def _end(spec: JobSpec, *, in_time: bool) -> tuple[int, Reason | None, str]:
    if not in_time:
        return _KILLED, Reason.TIMED_OUT, f"The container ran longer than {spec.timeout_seconds:g} s."
    if "DCCF_FAKE_OOM" in spec.env:
        return _KILLED, Reason.OUT_OF_MEMORY, f"The container used more than its {spec.memory} bytes of memory."
    code = int(spec.env.get("DCCF_FAKE_EXIT_CODE", "0"))
    return code, Reason.EXIT_NONZERO if code else None, f"The container ended with exit code {code}."


def _sleep(seconds: float, wanted_seconds: float, stop: StopSignal) -> bool:
    """Sleep while nobody says stop; say whether that was as long as wanted."""
    deadline = time.monotonic() + seconds
    _raise_if_stopped(stop)
    while (left := deadline - time.monotonic()) > 0:
        time.sleep(min(POLL_SECONDS, left))
        _raise_if_stopped(stop)
    return seconds >= wanted_seconds


def _raise_if_stopped(stop: StopSignal) -> None:
    cause = stop.cause()
    if cause is not None:
        raise AttemptStopped(cause)
