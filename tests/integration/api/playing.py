"""Plays a worker: claims jobs, writes logs and files through the store, and ends them, without containers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

from dccf.config import Settings
from dccf.lifecycle import attempts, channels
from dccf.lifecycle.attempts import Holder, Lease
from dccf.lifecycle.endings import Ending
from dccf.models import Job, JobState, LogChunk, Reason, Stream
from dccf.store import artifacts, jobs, logs
from dccf.store.blobs import BlobWriter
from dccf.store.bundles import NewFile
from dccf.store.database import Database

HOLDER = Holder("test-worker", "test-life")


@dataclass
class Attempt:
    """One attempt that a test drives step by step."""

    database: Database
    settings: Settings
    lease: Lease
    job: Job
    _seq: int = field(default=0)

    @classmethod
    def claim(cls, database: Database, settings: Settings, job_id: UUID | str) -> Attempt:
        claimed = attempts.claim(database, settings, UUID(str(job_id)), HOLDER)
        assert claimed is not None
        return cls(database, settings, *claimed)

    def run(self) -> None:
        attempts.advance(self.database, self.lease, JobState.RUNNING, "the container runs")

    def print(self, data: bytes, stream: Stream = Stream.STDOUT, omitted_bytes: int = 0) -> None:
        chunk = LogChunk(
            seq=self._seq,
            fence=self.lease.fence,
            stream=stream,
            at=datetime.now(UTC),
            data=data,
            omitted_bytes=omitted_bytes,
        )
        self._seq += 1
        with self.database.begin() as tx:
            logs.add(tx, self.lease.job_id, [chunk])
            jobs.notify(tx, channels.JOB_CHANGED, str(self.lease.job_id))

    def leave(self, files: Mapping[str, bytes]) -> None:
        with BlobWriter(self.database) as writer:
            for content in files.values():
                writer.store([content])
        new = [NewFile(path, 0o644, blob) for path, blob in zip(files, writer.stored, strict=True)]
        with self.database.begin() as tx:
            artifacts.add(tx, self.lease.job_id, self.lease.fence, new)

    def end(self, exit_code: int | None = 0, reason: Reason | None = None, message: str = "it ended") -> Job:
        if exit_code is not None:
            attempts.advance(self.database, self.lease, JobState.COLLECTING, "the files are being stored")
        state = JobState.FAILED if reason else JobState.SUCCEEDED
        ending = Ending(state, message, reason, exit_code)
        return attempts.finish(self.database, self.settings, self.lease, ending)


def play(
    database: Database,
    settings: Settings,
    job_id: UUID | str,
    *,
    stdout: Sequence[bytes] = (),
    stderr: Sequence[bytes] = (),
    files: Mapping[str, bytes] | None = None,
    exit_code: int = 0,
) -> Job:
    """Run a job from its claim to its end."""
    attempt = Attempt.claim(database, settings, job_id)
    attempt.print(b"built\n", Stream.BUILD_STDOUT)
    attempt.run()
    for stream, pieces in ((Stream.STDOUT, stdout), (Stream.STDERR, stderr)):
        for data in pieces:
            attempt.print(data, stream)
    attempt.leave(files or {})
    if exit_code:
        return attempt.end(exit_code, Reason.EXIT_NONZERO, f"the container ended with exit code {exit_code}")
    return attempt.end()
