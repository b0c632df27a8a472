"""``dccf worker``: a Celery worker with our keeper in its main process."""

from __future__ import annotations

import fcntl
import logging
import os
import sys
from pathlib import Path
from typing import IO, Any

from celery import bootsteps, signals

from dccf import errors
from dccf.celery_app import app
from dccf.celery_app.conf import TASK_NAME
from dccf.config import Settings
from dccf.lifecycle import hints, leases
from dccf.lifecycle.ids import parse_job_id
from dccf.models import JobState
from dccf.worker import context
from dccf.worker.context import WorkerContext, make_runner
from dccf.worker.keeper import Keeper

log = logging.getLogger(__name__)


def lock_name(settings: Settings) -> IO[str]:
    """Hold a worker's name on this machine for as long as the process lives.

    Two workers of one name would take each other's containers for leftovers. Pool processes give up
    their copy of the lock, so that a restarted worker need not wait for them.

    Raises:
        LocalStackError: another worker holds the name.
    """
    settings.state_folder.mkdir(parents=True, exist_ok=True)
    lock = Path(settings.state_folder, f"worker-{settings.worker_name}.lock").open("w")  # noqa: SIM115 - held for life
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        raise errors.LocalStackError(
            f"a worker named {settings.worker_name!r} already runs on this machine; "
            "stop it, or give this one another name with DCCF_WORKER_NAME"
        ) from error
    os.register_at_fork(after_in_child=lock.close)
    return lock


class KeeperStep(bootsteps.StartStopStep):
    """Starts the keeper once the pool has forked, and stops it after the pool."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        self.keeper: Keeper | None = None

    def start(self, worker: Any) -> None:
        """Start the keeper."""
        current = context.current()

        def pause() -> None:
            for queue in current.settings.worker_queues:
                worker.consumer.call_soon(worker.consumer.cancel_task_queue, queue)

        def resume() -> None:
            for queue in current.settings.worker_queues:
                worker.consumer.call_soon(worker.consumer.add_task_queue, queue)

        self.keeper = Keeper(current, pause, resume)
        self.keeper.start()
        signals.worker_shutting_down.connect(self._on_shutdown)

    def _on_shutdown(self, **_: Any) -> None:
        if self.keeper is not None:
            self.keeper.hand_back_after(context.current().settings.shutdown_grace_seconds)

    def stop(self, worker: Any) -> None:  # noqa: ARG002 - Celery's signature
        """Stop the keeper; the pool has ended by now."""
        if self.keeper is not None:
            self.keeper.stop()
            self.keeper = None

    terminate = stop


def note_continuation(sender: Any, task_id: str, state: str, **_: Any) -> None:
    """Note that what follows a job was sent: Celery calls this after it has done so."""
    if sender.name != TASK_NAME:
        return
    final = {"SUCCESS": JobState.SUCCEEDED, "FAILURE": JobState.FAILED}.get(state)
    if final is not None:
        hints.finish_continuation(context.current().database, parse_job_id(task_id), final)


def run(settings: Settings | None = None) -> None:
    """Run a worker until it is told to stop.

    Raises:
        ConfigError: a setting is missing or not allowed.
        LocalStackError: a worker of this name already runs here.
        StoreUnavailable: PostgreSQL is away.
    """
    settings = settings or app.settings
    logging.basicConfig(level=settings.log_level, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    lock = lock_name(settings)
    worker_context = WorkerContext(settings, app.database, make_runner(settings, settings.runner))
    context.install(worker_context)
    for job in leases.release_earlier(app.database, settings, worker_context.holder):
        log.warning("job %s was left by an earlier life of this worker: %s", job.id, job.message)
    app.database.close()  # the pool processes must not inherit open sockets
    app.steps["worker"].add(KeeperStep)
    signals.task_postrun.connect(note_continuation)
    worker = app.Worker(
        hostname=f"dccf@{settings.worker_name}",
        concurrency=settings.worker_slots,
        queues=list(settings.worker_queues),
        pool="prefork",
        loglevel=settings.log_level,
        optimization="fair",
        without_mingle=True,
        without_gossip=True,
    )
    worker.start()
    lock.close()
    sys.exit(worker.exitcode)
