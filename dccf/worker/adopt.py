"""Goes on with attempts whose process died while their containers live: in threads of the worker's main process.

An adopted attempt keeps its number, its lease and the slot of its process. It stands on the board like those of pool
processes, so its lease is renewed, and a cancel, a time limit or the worker's shutdown reach it the same way.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from dccf import errors
from dccf.lifecycle import attempts, channels
from dccf.lifecycle.attempts import Lease
from dccf.models import Job, Reason, Stream
from dccf.runner.base import Exit
from dccf.store import history, jobs, logs, outbox
from dccf.store.database import Database
from dccf.worker.board import BoardStop
from dccf.worker.context import WorkerContext, make_runner
from dccf.worker.execute import Execution
from dccf.worker.logwriter import LogWriter
from dccf.worker.persist import persist
from dccf.worker.rejoin import RejoinedLog
from dccf.worker.tally import MAIN

log = logging.getLogger(__name__)

#: Longest wait for a daemon that is away before the attempt is given up for it.
ENGINE_SECONDS = 30.0
_POLL_SECONDS = 0.2
#: Enough for the log writer and whoever stores the output.
_CONNECTIONS = 3


class Adopter:
    """The adopted attempts of one worker."""

    def __init__(self, context: WorkerContext) -> None:
        self._context = context
        self._threads: list[threading.Thread] = []

    def adopt(self, slot: int, lease: Lease, job: Job, why: str) -> None:
        """Go on with an attempt in the slot of a pool process that died, or give it up if its container is gone."""
        stop = self._context.board.adopt(slot, lease.job_id, lease.fence)
        thread = threading.Thread(
            target=self._see_through, args=(lease, job, stop, why), name=f"adopted-{lease.job_id}", daemon=True
        )
        self._threads = [one for one in self._threads if one.is_alive()] + [thread]
        thread.start()

    def wait(self, must_end: Callable[[], bool]) -> None:
        """Wait until no adopted attempt goes on; what is cut short by ``must_end`` is left to the next life."""
        while any(thread.is_alive() for thread in self._threads) and not must_end():
            time.sleep(_POLL_SECONDS)

    def _see_through(self, lease: Lease, job: Job, stop: BoardStop, why: str) -> None:
        settings = self._context.settings
        database = Database(settings.database_url, _CONNECTIONS)
        counts = self._context.tally.of(MAIN)
        execution = Execution(settings, database, make_runner(settings, settings.runner), lease, job, stop, counts)
        try:
            ended = Adoption(execution, why).run()
            log.info("job %s: adopted attempt %d ended: %s", job.id, lease.fence, ended.message)
        except errors.FencePassed as error:
            log.warning("job %s: %s", job.id, error)
        except Exception:  # the keeper hands a job back that nobody runs
            log.exception("job %s: its adopted attempt %d failed", job.id, lease.fence)
        finally:
            self._context.board.clear(stop.running)
            database.close()


@dataclass(frozen=True)
class Adoption:
    """One attempt that goes on in another process."""

    execution: Execution
    why: str

    def run(self) -> Job:
        """Bring the attempt to its end, whatever that is, and give the job as it is then.

        Raises:
            FencePassed: the attempt was lost on the way; nothing of it counts.
        """
        execution = self.execution
        stored, first_seq = persist(self._stored, execution.stop)
        log_writer = LogWriter(
            execution.database,
            execution.lease,
            execution.settings,
            execution.stop,
            first_seq,
            {stream: len(data) for stream, (data, _) in stored.items()},
        )
        # A stream whose end was stored, with a gap before it, is complete.
        closed = {stream for stream, (_, omitted_bytes) in stored.items() if omitted_bytes}
        rejoined = RejoinedLog(log_writer, {stream: data for stream, (data, _) in stored.items()}, closed)
        job = execution.finish(log_writer, lambda: self._resume(rejoined))
        persist(lambda: self._call_continuation(job), execution.stop)
        return job

    def _stored(self) -> tuple[dict[Stream, tuple[bytes, int]], int]:
        lease = self.execution.lease
        with self.execution.database.begin() as tx:
            attempts.require_fence(tx, lease)
            whole = {
                stream: logs.get_whole(tx, lease.job_id, lease.fence, stream)
                for stream in (Stream.STDOUT, Stream.STDERR)
            }
            return whole, logs.get_end(tx, lease.job_id, lease.fence)

    def _resume(self, rejoined: RejoinedLog) -> Exit:
        execution = self.execution
        if not self._has_container():
            raise errors.AttemptFailed(
                Reason.WORKER_LOST, f"{self.why}, and the attempt has no container to go on with"
            )
        self._note(f"{self.why}; the attempt goes on, its container is there")
        job = execution.job
        ended = execution.runner.resume(execution.ref, job.spec, rejoined, execution.stop)
        if not rejoined.finish():
            self._note("a part of the log is missing: nobody read it, and the Docker daemon has dropped it")
        return ended

    def _has_container(self) -> bool:
        """Look for the container; a daemon that is just being started gets its time."""
        execution = self.execution
        deadline = time.monotonic() + ENGINE_SECONDS
        while True:
            try:
                return execution.runner.is_resumable(execution.ref)
            except errors.EngineUnavailable:
                cause = execution.stop.cause()
                if cause is not None:
                    raise errors.AttemptStopped(cause) from None
                if time.monotonic() > deadline:
                    raise
                time.sleep(_POLL_SECONDS)

    def _note(self, message: str) -> None:
        def note() -> None:
            lease = self.execution.lease
            with self.execution.database.begin() as tx:
                attempts.require_fence(tx, lease)
                history.add_event(tx, lease.job_id, self.execution.job.state, lease.fence, message)
                jobs.notify(tx, channels.JOB_CHANGED, str(lease.job_id))

        persist(note, self.execution.stop)

    def _call_continuation(self, job: Job) -> None:
        """Have what follows sent by whoever gets its hint: the message of this job is gone with its process."""
        with self.execution.database.begin() as tx:
            outbox.call_continuation(tx, job.id)
