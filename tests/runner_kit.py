"""What tests of runners share: an attempt to play with, a sink that remembers, a stop signal to pull."""

from __future__ import annotations

import hashlib
import tempfile
import threading
import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from dccf.config import Settings
from dccf.models import JobSpec, StopCause, Stream
from dccf.runner.base import AttemptRef, ContextFile, Exit, Runner

_STATE: list[tempfile.TemporaryDirectory[str]] = []


def runner_settings(**changes: object) -> Settings:
    """Settings for a runner; nothing but the runner's own fields means anything."""
    if not _STATE:
        _STATE.append(tempfile.TemporaryDirectory(prefix="dccf-state-"))
    folder = Path(_STATE[0].name)
    values = {
        "state_folder": folder,
        "database_url": "postgresql://unused",
        "broker_url": "filesystem://",
        "broker_folder": Path("/unused"),
    }
    return Settings.model_validate({**values, **changes})


def new_attempt(worker: str = "test-worker") -> AttemptRef:
    """An attempt of a new job."""
    return AttemptRef(uuid.uuid4(), 1, worker)


def context_of(dockerfile: str | None, files: Mapping[str, bytes] | None = None) -> list[ContextFile]:
    """A build context from a Dockerfile's text and other files."""
    contents = dict(files or {})
    if dockerfile is not None:
        contents["Dockerfile"] = dockerfile.encode()
    return [
        ContextFile(path, len(data), 0o644, [data], hashlib.sha256(data).hexdigest())
        for path, data in contents.items()
    ]


class Sink:
    """A log sink that remembers everything, and can wait for something."""

    def __init__(self) -> None:
        self._pieces: dict[Stream, list[bytes]] = defaultdict(list)
        self._came = threading.Condition()

    def write(self, stream: Stream, data: bytes) -> None:
        with self._came:
            self._pieces[stream].append(data)
            self._came.notify_all()

    def data(self, stream: Stream) -> bytes:
        return b"".join(self._pieces[stream])

    def wait_for(self, stream: Stream, text: bytes, timeout_seconds: float = 30) -> None:
        """Wait until a stream holds a text."""
        with self._came:
            assert self._came.wait_for(lambda: text in self.data(stream), timeout_seconds), self.data(stream)


class Stop:
    """A stop signal that a test sets."""

    def __init__(self, cause: StopCause | None = None) -> None:
        self._cause = cause

    def set(self, cause: StopCause) -> None:
        self._cause = cause

    def cause(self) -> StopCause | None:
        return self._cause


class Play:
    """One attempt on one runner; what it made is removed by ``close``."""

    def __init__(self, runner: Runner, **spec: object) -> None:
        self.runner = runner
        #: Whose images may be reused; nobody's unless a test says so.
        self.owner: str | None = None
        self.attempt = new_attempt()
        self.spec = JobSpec.model_validate(spec)
        self.sink = Sink()
        self.stop = Stop()

    def build(self, dockerfile: str | None, files: Mapping[str, bytes] | None = None) -> str:
        return self.build_context(context_of(dockerfile, files))

    def build_context(self, context: Iterable[ContextFile]) -> str:
        return self.runner.build(self.attempt, self.spec, context, self.sink, self.stop, self.owner)

    def run(self, image: str) -> Exit:
        return self.runner.run(self.attempt, self.spec, image, self.sink, self.stop, self.owner)

    def build_and_run(self, dockerfile: str, files: Mapping[str, bytes] | None = None) -> Exit:
        return self.run(self.build(dockerfile, files))

    def collect(self) -> dict[str, bytes]:
        return {file.path: b"".join(file.chunks) for file in self.runner.collect(self.attempt, self.spec)}

    def close(self) -> None:
        self.runner.remove(self.attempt)
