"""The worker's main process: renews leases, passes on cancels, notices lost processes, beats, cleans up."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from uuid import UUID

import dccf
from dccf import errors
from dccf.lifecycle import attempts, cancel, channels, heartbeat, leases
from dccf.lifecycle.attempts import Lease
from dccf.lifecycle.endings import Ending
from dccf.models import JobState, Reason, StopCause
from dccf.runner import selftest
from dccf.runner.base import AttemptRef
from dccf.store import fleet, jobs
from dccf.store.database import Listener
from dccf.worker.adopt import Adopter
from dccf.worker.board import Running
from dccf.worker.context import WorkerContext
from dccf.worker.tally import MAIN

log = logging.getLogger(__name__)

#: Cancels are looked for this often, also when no NOTIFY came through.
POLL_SECONDS = 0.5
HEARTBEAT_SECONDS = 5.0
ENGINE_CHECK_SECONDS = 5.0
SWEEP_SECONDS = 60.0
#: Longest wait until a self-test that failed is tried again.
LONGEST_TEST_WAIT_SECONDS = 60.0


class Keeper:
    """Two threads beside Celery's loop: one speaks with PostgreSQL, one with the container engine."""

    def __init__(
        self,
        context: WorkerContext,
        pause: Callable[[], None],
        resume: Callable[[], None],
        count_slots: Callable[[], int],
    ) -> None:
        self._context = context
        self._pause, self._resume, self._count_slots = pause, resume, count_slots
        self._ended = threading.Event()
        self._engine_wakes = threading.Event()
        self._sweep_is_due = True
        self._strays: set[tuple[UUID, int]] = set()
        self._has_adopted = False
        self.adopter = Adopter(context)
        self._trouble = "" if context.gate.is_open else "it tests its daemon first"
        self._engine = ""
        self._next_test, self._test_wait = 0.0, ENGINE_CHECK_SECONDS
        self._next_renewal = self._next_beat = 0.0
        self._consumes = False
        self._leases = threading.Thread(target=self._keep_leases, name="keeper-leases", daemon=True)
        self._engine_check = threading.Thread(target=self._keep_engine, name="keeper-engine", daemon=True)

    def start(self) -> None:
        """Keep leases from now on, also while the broker is away: those of adopted attempts must not run out."""
        self._leases.start()

    def consume(self) -> None:
        """Let the worker take jobs as far as the engine allows it: it is connected to its broker."""
        self._consumes, self._next_beat = True, 0.0
        self._engine_check.start()

    def stop(self) -> None:
        """End the threads and say goodbye."""
        self._ended.set()
        self._engine_wakes.set()
        for thread in (self._leases, self._engine_check):
            if thread.ident is not None:  # a worker that never became ready has not started them
                thread.join()
        try:
            with self._context.database.begin() as tx:
                fleet.forget_worker(tx, self._context.settings.worker_name, self._context.holder.lease_owner)
        except errors.StoreUnavailable as error:
            log.info("PostgreSQL did not hear this worker's goodbye: %s", error)

    def hand_back_after(self, grace_seconds: float) -> None:
        """Tell all attempts to hand their jobs back once the grace is over (the worker shuts down)."""

        def hand_back() -> None:
            self._ended.wait(grace_seconds)
            while not self._ended.is_set():  # an attempt may begin late, when its claim had to wait
                for running in self._context.board.running():
                    self._context.board.stop(running, StopCause.SHUTDOWN)
                self._ended.wait(POLL_SECONDS)

        threading.Thread(target=hand_back, name="keeper-grace", daemon=True).start()

    # -- leases ------------------------------------------------------------------------------------

    def _keep_leases(self) -> None:
        listener: Listener | None = None
        while not self._ended.is_set():
            heartbeat.touch(self._context.settings, "worker")
            try:
                listener = listener or Listener(self._context.database, channels.CANCEL_REQUESTED)
                asked = {payload for _, payload in listener.wait(POLL_SECONDS)}
                self._tick(asked)
            except Exception as error:  # without this thread all jobs of the worker would be lost
                log.warning("leases cannot be renewed: %s", error, exc_info=not isinstance(error, errors.DccfError))
                if listener is not None:
                    listener.close()
                listener = None
                self._ended.wait(POLL_SECONDS)
        if listener is not None:
            listener.close()

    def _tick(self, asked: set[str]) -> None:
        self.adopt_earlier()
        running = self._context.board.running()
        overdue: set[UUID] = set()
        now = time.monotonic()
        if now >= self._next_renewal:
            self._renew([one for one in running if one.is_alive])
            self._give_up_strays()
            self._next_renewal = now + self._context.settings.lease_renew_seconds
        if running:
            overdue = leases.find_overdue(self._context.database, self._context.holder)
            asked |= {str(job_id) for job_id in cancel.find_requests(self._context.database, self._context.holder)}
        for one in running:
            if not one.is_alive:
                self._release_dead(one)
            elif str(one.job_id) in asked:
                self._context.board.stop(one, StopCause.CANCEL)
            elif one.job_id in overdue:
                self._context.board.stop(one, StopCause.OVERDUE)
        if now >= self._next_beat:
            self._beat()
            self._next_beat = now + HEARTBEAT_SECONDS

    def _renew(self, running: list[Running]) -> None:
        if not running:
            return
        kept = leases.extend(
            self._context.database,
            self._context.holder,
            [one.job_id for one in running],
            self._context.settings.lease_seconds,
        )
        for one in running:
            if (one.job_id, one.fence) not in kept:
                self._context.board.stop(one, StopCause.LOST)

    def adopt_earlier(self) -> None:
        """Go on with what the worker's earlier life left running, once; the database knows what that is.

        Raises:
            StoreUnavailable: PostgreSQL is away; the keeper does it when it is back.
        """
        if self._has_adopted:
            return
        context = self._context
        taken = leases.adopt_earlier(context.database, context.holder, context.settings.lease_seconds)
        self._has_adopted = True
        for slot, (lease, job) in enumerate(taken):
            self.adopter.adopt(slot, lease, job, f"worker {lease.worker} was started again")

    def _release_dead(self, running: Running) -> None:
        """Deal with the job of a pool process that died: certain, so nobody has to wait for the lease.

        Where a container may run the main process goes on with it; a build died with its process.
        """
        context = self._context
        lease = Lease(running.job_id, running.fence, context.holder.worker, context.holder.lease_owner)
        message = f"the process of worker {lease.worker} that ran the job died"
        with context.database.begin() as tx:
            job = jobs.get(tx, running.job_id)
        is_ours = job is not None and job.fence == lease.fence
        if job is not None and is_ours and job.state in leases.ADOPTABLE_STATES:
            self.adopter.adopt(running.entry, lease, job, message)
            context.board.clear(running)
            return
        try:
            self._finish(lease, Ending(JobState.FAILED, message, Reason.WORKER_LOST))
        except errors.FencePassed:
            log.info("job %s: attempt %d had already ended", running.job_id, running.fence)
        context.board.clear(running)
        # Its container is removed by the other thread: a daemon that hangs must not keep leases from being renewed.
        self._sweep_is_due = True
        self._engine_wakes.set()

    def _give_up_strays(self) -> None:
        """Give up attempts that this worker holds but nobody here runs, seen twice in a row.

        A claim whose answer was lost leaves one, a pool process that died and was replaced at once, and an error that
        nobody foresaw. It counts as a failure: the same may happen to the next attempt.
        """
        held = leases.find_held(self._context.database, self._context.holder)
        strays = held - {(one.job_id, one.fence) for one in self._context.board.running()}
        for job_id, fence in strays & self._strays:
            lease = Lease(job_id, fence, self._context.holder.worker, self._context.holder.lease_owner)
            ending = Ending(JobState.FAILED, f"worker {lease.worker} lost track of the attempt", Reason.WORKER_LOST)
            with contextlib.suppress(errors.FencePassed):  # it has ended meanwhile
                self._finish(lease, ending)
        self._strays = strays

    def _finish(self, lease: Lease, ending: Ending) -> None:
        job = attempts.finish(self._context.database, self._context.settings, lease, ending)
        self._context.tally.of(MAIN).ended(ending, job)

    def _beat(self) -> None:
        settings = self._context.settings
        with self._context.database.begin() as tx:
            fleet.beat_worker(
                tx,
                settings.worker_name,
                self._context.holder.lease_owner,
                queues=settings.worker_queues,
                slots=self._count_slots(),
                engine=self._engine,
                version=dccf.__version__,
                message=self._trouble if self._consumes else "it waits for its broker",
            )

    # -- engine ------------------------------------------------------------------------------------

    def _keep_engine(self) -> None:
        next_sweep = 0.0
        if self._trouble:
            self._pause()
        while not self._ended.is_set():
            self._engine_wakes.clear()
            try:
                self._check_engine()
                if not self._trouble and (self._sweep_is_due or time.monotonic() >= next_sweep):
                    self._sweep_is_due = not self._sweep()
                    next_sweep = time.monotonic() + SWEEP_SECONDS
            except Exception:  # this thread must not end: it alone takes a paused worker up again
                log.exception("the look at the container engine failed")
            self._engine_wakes.wait(ENGINE_CHECK_SECONDS)

    def _check_engine(self) -> None:
        """Stop taking jobs while the engine is away, and take them again when it is back."""
        try:
            info = self._context.runner.check()
            self._engine, trouble = f"{info.engine} {info.version} ({info.builder})", self._self_test()
        except errors.EngineUnavailable as error:
            trouble = str(error)
        if trouble and trouble != self._trouble:
            log.error("this worker takes no jobs: %s", trouble)
        if trouble and not self._trouble:
            self._pause()
        elif self._trouble and not trouble:
            log.info("the container engine is fine; this worker takes jobs")
            self._resume()
        if trouble != self._trouble:
            self._trouble, self._next_beat = trouble, 0.0

    def _self_test(self) -> str:
        """Try out the daemon's walls until they stand; say what is wrong with them, or nothing."""
        context = self._context
        if context.gate.is_open:
            return ""
        if time.monotonic() < self._next_test:
            return self._trouble
        wrong = selftest.failures(selftest.run(context.settings, context.settings.worker_name))
        if not wrong or context.settings.self_test == "warn":
            if wrong:
                log.warning("this worker takes jobs although its self-test failed: %s", wrong)
            context.gate.open()
            return ""
        self._next_test = time.monotonic() + self._test_wait
        self._test_wait = min(self._test_wait * 2, LONGEST_TEST_WAIT_SECONDS)
        return f"its self-test failed (DCCF_SELF_TEST=warn takes jobs all the same): {wrong}"

    def _sweep(self) -> bool:
        """Remove what attempts left behind that do not run here any more; tell whether it went through."""
        try:
            for ref in self._context.runner.attempts(self._context.settings.worker_name):
                if not self._is_current(ref):
                    log.info("removing what attempt %d of job %s left behind", ref.fence, ref.job_id)
                    self._context.runner.remove(ref)
            self._context.runner.tidy()
        except (errors.StoreUnavailable, errors.EngineUnavailable) as error:
            log.warning("the sweep for leftovers is put off: %s", error)
            return False
        return True

    def _is_current(self, ref: AttemptRef) -> bool:
        with self._context.database.begin() as tx:
            return jobs.hold_fence(tx, ref.job_id, ref.fence)
