"""A handle on one job: its state, its log, its files."""

from __future__ import annotations

import codecs
import json
import secrets
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dccf import errors
from dccf.client import download, sse
from dccf.client.answers import read
from dccf.client.http import Http, mapped_errors
from dccf.models import Artifact, Attempt, Job, JobEvent, JobState, Stream

#: One request waits this long at the service.
_WAIT_SECONDS = 30
#: A stream that breaks off without having brought anything is opened again so often.
_BARREN_TRIES = 5
_RECONNECT_SECONDS = 1.0
_TAIL_BYTES = 4000
BUILD_STREAMS = (Stream.BUILD_STDOUT, Stream.BUILD_STDERR)
RUN_STREAMS = (Stream.STDOUT, Stream.STDERR)


@dataclass(frozen=True)
class LogEvent:
    """A piece of one stream of a job's log."""

    attempt: int
    stream: Stream
    text: str
    omitted_bytes: int


@dataclass(frozen=True)
class StateEvent:
    """The job as it is now."""

    job: Job


class JobHandle:
    """One job at one API. :attr:`job` is what was last heard of it."""

    def __init__(self, http: Http, job: Job) -> None:
        self.job = job
        self._http = http
        self._path = f"/v1/jobs/{job.id}"

    @property
    def id(self) -> str:
        """The job's id."""
        return str(self.job.id)

    def refresh(self) -> Job:
        """Ask how the job is."""
        return self._note(self._http.get_json(self._path))

    def status(self) -> JobState:
        """Ask for the job's state."""
        return self.refresh().state

    def wait(self, timeout: float | None = None) -> JobHandle:
        """Wait until the job has ended.

        Raises:
            TimeoutError: it has not, after ``timeout`` seconds.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = _WAIT_SECONDS if deadline is None else min(_WAIT_SECONDS, max(0.0, deadline - time.monotonic()))
            if self._note(self._http.get_json(self._path, {"wait": f"{left:.3f}s"})).state.is_final:
                return self
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"job {self.id} is still {self.job.state} after {timeout:g} s")

    def cancel(self) -> Job:
        """Ask for the job to stop; again is no harm.

        Raises:
            Conflict: it has ended already.
        """
        return self._note(self._http.send("POST", f"{self._path}:cancel"))

    def rerun(self, *, idempotency_key: str | None = None) -> JobHandle:
        """Make a new job from the files and options of this one, to start now.

        Raises:
            LimitReached: the owner has as many jobs waiting as they may.
        """
        headers = {"Idempotency-Key": idempotency_key or secrets.token_urlsafe(16)}
        answer = self._http.send("POST", f"{self._path}:rerun", headers=headers)
        return JobHandle(self._http, read(Job, answer))

    def remove(self) -> None:
        """Remove the job, which has ended, with its log and its files.

        Raises:
            Conflict: it has not ended.
        """
        self._http.send("DELETE", self._path)

    def raise_for_status(self) -> None:
        """Raise unless the job has succeeded.

        Raises:
            JobFailed: it failed; carries reason, exit code and the end of its log.
            JobCancelled: it was cancelled.
            Conflict: it has not ended.
        """
        job = self.job if self.job.state.is_final else self.refresh()
        if job.state is JobState.CANCELLED:
            raise errors.JobCancelled(f"job {job.id}: {job.message}")
        if not job.state.is_final:
            raise errors.Conflict(f"job {job.id} is still {job.state}")
        if job.reason is not None:
            tail = self._tail(RUN_STREAMS if job.running_at else BUILD_STREAMS)
            raise errors.JobFailed(self.id, job.reason, job.message, job.exit_code, tail)

    def logs(
        self, *, follow: bool = False, streams: Collection[Stream] = RUN_STREAMS, attempt: int | None = None
    ) -> Iterator[str]:
        """Yield what the job printed; with ``follow`` until it has ended."""
        if follow:
            found = self.events(streams, attempt)
            yield from (event.text for event in found if isinstance(event, LogEvent))
            return
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for data in self.read_log(streams, attempt):
            yield decoder.decode(data)

    def read_log(self, streams: Collection[Stream] = (), attempt: int | None = None) -> Iterator[bytes]:
        """Yield the log of one attempt so far as bytes, exactly as they were printed."""
        params = {"stream": [str(stream) for stream in streams], "attempt": attempt}
        with self._http.open("GET", f"{self._path}/logs", params=params) as response, self._mapped():
            yield from response.iter_content(download.READ_BYTES)

    def events(self, streams: Collection[Stream] = (), attempt: int | None = None) -> Iterator[LogEvent | StateEvent]:
        """Yield states and log as they come, until the job has ended; connects again by itself.

        Raises:
            ApiUnavailable: the service has gone away and stayed away.
        """
        params = {"follow": "1", "stream": [str(stream) for stream in streams], "attempt": attempt}
        last_id: str | None = None
        barren = 0
        while barren < _BARREN_TRIES:
            barren += 1
            try:
                for event in self._stream(params, last_id):
                    if event.name == "end":
                        self._note(json.loads(event.data))
                        return
                    if event.name == "log":
                        last_id, barren = event.id, 0
                        yield _log_event(json.loads(event.data))
                    elif event.name == "state":
                        yield StateEvent(self._note(json.loads(event.data)))
            except (errors.ApiUnavailable, errors.StoreUnavailable):
                if barren >= _BARREN_TRIES:
                    raise
            time.sleep(_RECONNECT_SECONDS)
        raise errors.ApiUnavailable(f"the log of job {self.id} breaks off again and again")

    def artifacts(self) -> tuple[Artifact, ...]:
        """List the files that the job left in /output."""
        return tuple(read(Artifact, item) for item in self._items("artifacts"))

    def attempts(self) -> tuple[Attempt, ...]:
        """List the attempts, first to last."""
        return tuple(read(Attempt, item) for item in self._items("attempts"))

    def history(self) -> tuple[JobEvent, ...]:
        """List what happened to the job, oldest first."""
        return tuple(read(JobEvent, item) for item in self._items("history"))

    def download(self, folder: str | Path, paths: Collection[str] | None = None) -> list[Path]:
        """Bring the job's files into a folder, or some of them; each is checked against its sha256.

        Raises:
            NotFound: there is no artefact of that path.
            InvalidRequest: a path would lead out of the folder.
        """
        known = {artifact.path: artifact for artifact in self.artifacts()}
        missing = set(paths or ()) - known.keys()
        if missing:
            raise errors.NotFound(f"job {self.id} has no artefact {min(missing)!r}")
        wanted = known.values() if paths is None else [known[path] for path in paths]
        places = {download.place(Path(folder), artifact.path): artifact for artifact in wanted}
        for target, artifact in places.items():
            download.fetch_to(self._http, self._path, artifact, target)
        return list(places)

    def download_to(self, path: str, target: Path) -> None:
        """Bring one file, under a name of the caller's choice.

        Raises:
            NotFound: there is no artefact of that path.
        """
        download.fetch_to(self._http, self._path, self._artifact(path), target)

    def read_artifact(self, path: str) -> Iterator[bytes]:
        """Yield the content of one file; an error at its end says that it came in broken.

        Raises:
            NotFound: there is no artefact of that path.
        """
        return download.read(self._http, self._path, self._artifact(path))

    def _artifact(self, path: str) -> Artifact:
        found = next((artifact for artifact in self.artifacts() if artifact.path == path), None)
        if found is None:
            raise errors.NotFound(f"job {self.id} has no artefact {path!r}")
        return found

    def _items(self, what: str) -> list[Any]:
        items: list[Any] = self._http.get_json(f"{self._path}/{what}")["items"]
        return items

    def _note(self, value: Any) -> Job:
        self.job = read(Job, value)
        return self.job

    def _stream(self, params: dict[str, Any], last_id: str | None) -> Iterator[sse.ServerEvent]:
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_id} if last_id else {})
        with self._http.open("GET", f"{self._path}/logs", params=params, headers=headers) as response, self._mapped():
            yield from sse.parse(response.iter_lines())

    def _tail(self, streams: Collection[Stream]) -> str:
        tail = b""
        for data in self.read_log(streams):
            tail = (tail + data)[-_TAIL_BYTES:]
        return tail.decode("utf-8", "replace")

    def _mapped(self) -> Any:
        return mapped_errors(self._http.where.url)


def _log_event(data: dict[str, Any]) -> LogEvent:
    return LogEvent(int(data["attempt"]), Stream(data["stream"]), str(data["text"]), int(data["omitted_bytes"]))
