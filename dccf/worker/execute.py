"""One attempt from its claim to its end: build, run, collect, remove; every write is fenced."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from uuid import UUID

from dccf import errors
from dccf.config import Settings
from dccf.lifecycle import attempts
from dccf.lifecycle.attempts import Lease
from dccf.lifecycle.endings import Ending, took_too_long
from dccf.models import Job, JobState, Reason, StopCause
from dccf.runner.base import AttemptRef, ContextFile, Exit, Runner, StopSignal
from dccf.store import artifacts, blobs, bundles, history, jobs
from dccf.store.blobs import BlobWriter
from dccf.store.bundles import NewFile
from dccf.store.database import Database
from dccf.worker.logwriter import LogWriter
from dccf.worker.persist import persist
from dccf.worker.tally import Counts, lone_counts

log = logging.getLogger(__name__)

#: Where the artefacts of a parent stand in the build context, before its id.
INPUTS_FOLDER = "inputs"


@dataclass(frozen=True)
class Execution:
    """One attempt of one job on this worker."""

    settings: Settings
    database: Database
    runner: Runner
    lease: Lease
    job: Job
    stop: StopSignal
    counts: Counts = field(default_factory=lone_counts)

    @property
    def ref(self) -> AttemptRef:
        """How the runner names the attempt."""
        return AttemptRef(self.lease.job_id, self.lease.fence, self.lease.worker)

    def run(self) -> Job:
        """Drive the attempt to its end, and give the job as it is then.

        Raises:
            FencePassed: the attempt was lost on the way; nothing of it counts.
        """
        log_writer = LogWriter(self.database, self.lease, self.settings, self.stop)
        return self.finish(log_writer, lambda: self._build_and_run(log_writer))

    def finish(self, log_writer: LogWriter, see_through: Callable[[], Exit]) -> Job:
        """End an attempt whose container ``see_through`` brings to its end, and give the job as it is then.

        Of an attempt whose main process died nothing is touched: the worker's next life goes on with it.

        Raises:
            FencePassed: the attempt was lost on the way; nothing of it counts.
        """
        try:
            ending = self._end(see_through)
        finally:
            is_orphaned = self.stop.cause() is StopCause.ORPHANED
            if is_orphaned:
                log_writer.abandon()
            else:
                log_writer.close()
                self._remove()
        if is_orphaned:
            raise errors.FencePassed(f"worker {self.lease.worker} died; its next life goes on with the attempt")
        return persist(lambda: self.settle(ending), self.stop)

    def _build_and_run(self, log_writer: LogWriter) -> Exit:
        image = self.runner.build(self.ref, self.job.spec, self._context(), log_writer, self.stop, self.job.owner)
        self._advance(JobState.RUNNING, f"runs on worker {self.lease.worker}")
        return self.runner.run(self.ref, self.job.spec, image, log_writer, self.stop, self.job.owner)

    def _end(self, see_through: Callable[[], Exit]) -> Ending:
        """Go through the phases; every way to fail becomes an ending."""
        try:
            ended = see_through()
            self._note_warnings(ended)
            self._advance(JobState.COLLECTING, f"{ended.message.removesuffix('.')}; storing what it wrote to /output")
            return self._collect(ended)
        except errors.AttemptFailed as failure:
            return Ending(JobState.FAILED, failure.message, Reason(failure.reason))
        except errors.EngineUnavailable as failure:
            return Ending(JobState.FAILED, str(failure), Reason.DAEMON_ERROR)
        except errors.StoreUnavailable as failure:  # while the build read the bundle's files
            return Ending(JobState.FAILED, f"the job's files could not be read: {failure}", Reason.STORAGE_ERROR)
        except errors.AttemptStopped as stopped:
            return self._stopped(StopCause(stopped.cause))
        except errors.FencePassed:
            raise
        except Exception as failure:  # it may come again with every attempt, so attempts have to be counted
            log.exception("job %s: attempt %d failed in the worker", self.lease.job_id, self.lease.fence)
            message = f"the worker failed at it ({type(failure).__name__}); its log says more"
            return Ending(JobState.FAILED, message, Reason.WORKER_LOST)

    def _stopped(self, cause: StopCause) -> Ending:
        if cause is StopCause.CANCEL:
            return Ending(JobState.CANCELLED, "cancelled on request")
        if cause is StopCause.SHUTDOWN:
            message = f"worker {self.lease.worker} shut down and handed the job back; it waits for another worker"
            return Ending(JobState.QUEUED, message)
        if cause is StopCause.OVERDUE:
            return took_too_long(self.job)
        raise errors.FencePassed(f"attempt {self.lease.fence} of job {self.lease.job_id} was lost")

    def _advance(self, target: JobState, message: str) -> None:
        persist(lambda: attempts.advance(self.database, self.lease, target, message), self.stop)

    def settle(self, ending: Ending) -> Job:
        """End the attempt in the store; see :func:`dccf.lifecycle.attempts.finish`."""
        job = attempts.finish(self.database, self.settings, self.lease, ending)
        self.counts.ended(ending, job)
        return job

    def _note_warnings(self, ended: Exit) -> None:
        def note() -> None:
            with self.database.begin() as tx:
                attempts.require_fence(tx, self.lease)
                for warning in ended.warnings:
                    history.add_event(tx, self.lease.job_id, JobState.RUNNING, self.lease.fence, warning)

        if ended.warnings:
            persist(note, self.stop)

    def _collect(self, ended: Exit) -> Ending:
        """Store what the container wrote, also when it failed: people want to see how far it came."""
        state = JobState.SUCCEEDED if ended.reason is None else JobState.FAILED
        ending = Ending(state, ended.message, ended.reason, ended.exit_code)
        try:
            persist(self._store_output, self.stop)
        except errors.AttemptFailed as failure:
            if ended.reason is None:  # the first reason stands
                reason = Reason(failure.reason)
                ending = replace(ending, state=JobState.FAILED, reason=reason, message=failure.message)
        return ending

    def _store_output(self) -> None:
        """Store the output; begins anew when PostgreSQL was away, the container is still there."""
        entries: list[tuple[str, int]] = []
        failure: errors.AttemptFailed | None = None
        with BlobWriter(self.database) as writer:
            try:
                for file in self.runner.collect(self.ref, self.job.spec):
                    writer.store(self._until_stopped(file.chunks))
                    entries.append((file.path, file.mode))
            except errors.AttemptFailed as error:
                failure = error
        files = [NewFile(path, mode, stored) for (path, mode), stored in zip(entries, writer.stored, strict=True)]
        with self.database.begin() as tx:
            attempts.require_fence(tx, self.lease)
            artifacts.add(tx, self.lease.job_id, self.lease.fence, files)
        self.counts.stored(len(files), sum(stored.size for stored in writer.stored))
        if failure is not None:
            raise failure

    def _until_stopped(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """Pass pieces on until the attempt is told to stop: storing a gigabyte takes longer than a cancel may."""
        for chunk in chunks:
            cause = self.stop.cause()
            if cause is not None:
                raise errors.AttemptStopped(cause)
            yield chunk

    def _context(self) -> Iterator[ContextFile]:
        """Yield the build context: the bundle's files, and the artefacts of the job's parents."""
        with self.database.begin() as tx:
            files = [("", file) for file in bundles.get_files(tx, self.job.bundle_id)]
            for parent in self.job.inputs:
                self._require_parent(jobs.get(tx, parent), parent)
                prefix = f"{INPUTS_FOLDER}/{parent}/"
                files += [(prefix, file) for file in artifacts.get_files(tx, parent)]
        contents = blobs.Contents(self.database, [file.blob_id for _, file in files])
        for index, (prefix, file) in enumerate(files):
            chunks = contents.read(index)
            yield ContextFile(f"{prefix}{file.path}", file.size, file.mode, chunks, file.sha256.hex())

    @staticmethod
    def _require_parent(parent: Job | None, parent_id: UUID) -> None:
        if parent is None or not parent.state.is_final:
            raise errors.AttemptFailed(
                Reason.REJECTED, f"the parent job {parent_id} has no result to take inputs from"
            )

    def _remove(self) -> None:
        try:
            self.runner.remove(self.ref)
        except errors.EngineUnavailable as error:
            log.warning("job %s: its leftovers stay until the next sweep: %s", self.lease.job_id, error)
