"""``dccf worker``: a Celery worker with our keeper in its main process."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NoReturn

import billiard
from celery import signals
from celery.bootsteps import StartStopStep
from celery.states import FAILURE
from celery.worker import state

from dccf import errors, metrics, transport
from dccf.celery_app import app
from dccf.celery_app.conf import TASK_NAME
from dccf.config import Settings
from dccf.lifecycle import hints, leases
from dccf.lifecycle.ids import parse_job_id
from dccf.models import JobState
from dccf.worker import context
from dccf.worker.context import Gate, WorkerContext, make_runner
from dccf.worker.keeper import Keeper
from dccf.worker.tally import TallyCollector

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


def note_success(sender: Any, **_: Any) -> None:
    """Note that what follows a job that succeeded was sent: Celery calls this only once it was."""
    if sender.name == TASK_NAME:
        job_id = parse_job_id(sender.request.id)
        hints.finish_continuation(context.current().database, job_id, JobState.SUCCEEDED)


def note_failure(sender: Any, task_id: str, **sent: Any) -> None:
    """Note that what follows a failed job was sent; of a job that did not fail this says nothing."""
    if sender.name == TASK_NAME and sent["state"] == FAILURE:
        hints.finish_continuation(context.current().database, parse_job_id(task_id), JobState.FAILED)


def make_keeper(worker: Any, worker_context: WorkerContext) -> Keeper:
    """Make the keeper of a Celery worker; :func:`make_adoption_step` starts it."""
    queues = worker_context.settings.worker_queues

    def pause() -> None:
        for queue in queues:
            worker.consumer.call_soon(worker.consumer.cancel_task_queue, queue)

    def resume() -> None:
        for queue in queues:
            worker.consumer.call_soon(worker.consumer.add_task_queue, queue)

    def count_slots() -> int:
        # Remote control (Flower's buttons) may have made the pool larger or smaller; a stopped one has no processes.
        pool = worker.pool._pool
        return int(pool._processes) if pool else worker_context.settings.worker_slots

    keeper = Keeper(worker_context, pause, resume, count_slots)

    def consume(**_: Any) -> None:
        keeper.consume()

    def shut_down(**_: Any) -> None:
        keeper.hand_back_after(worker_context.settings.shutdown_grace_seconds)

    signals.worker_ready.connect(consume, weak=False)
    signals.worker_shutting_down.connect(shut_down, weak=False)
    return keeper


def make_adoption_step(keepers: list[Keeper]) -> type[StartStopStep]:
    """Make a step of the worker's start: containers that go on do not wait until the broker answers.

    It comes after the fork of the pool, since it starts threads.
    """

    class Adopt(StartStopStep):
        requires = ("celery.worker.components:Pool",)

        def start(self, parent: Any) -> None:  # noqa: ARG002 - Celery's signature
            for keeper in keepers:
                with contextlib.suppress(errors.StoreUnavailable):  # the keeper does it when PostgreSQL is back
                    keeper.adopt_earlier()
                keeper.start()

    return Adopt


def serve_metrics(worker_context: WorkerContext) -> Callable[[], None]:
    """Tell Prometheus what all processes of the worker count, if a port is set; give what ends it.

    Raises:
        ConfigError: the port cannot be listened on.
    """
    settings = worker_context.settings
    registry = metrics.make_registry()
    registry.register(TallyCollector(worker_context.tally, worker_context.board))
    return metrics.serve(settings.metrics_host, settings.metrics_port, registry)


def run(settings: Settings | None = None) -> None:
    """Run a worker until it is told to stop; ends the process.

    Raises:
        ConfigError: a setting is missing or not allowed.
        LocalStackError: a worker of this name already runs here.
        StoreUnavailable: PostgreSQL is away.
    """
    settings = settings or app.settings
    logging.basicConfig(level=settings.log_level, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    lock = lock_name(settings)
    is_tested = settings.runner == "docker" and settings.self_test != "off"
    worker_context = WorkerContext(
        settings, app.database, make_runner(settings, settings.runner), gate=Gate(is_open=not is_tested)
    )
    context.install(worker_context)
    # What may have a container is adopted by the keeper.
    for job in leases.release_earlier(app.database, settings, worker_context.holder, {JobState.BUILDING}):
        log.warning("job %s was left by an earlier life of this worker: %s", job.id, job.message)
    app.database.close()  # the pool processes must not inherit open sockets
    signals.task_success.connect(note_success)
    signals.task_postrun.connect(note_failure)
    keepers: list[Keeper] = []
    app.steps["worker"].add(make_adoption_step(keepers))
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
    keeper = make_keeper(worker, worker_context)
    keepers.append(keeper)
    close_metrics = serve_metrics(worker_context)
    try:
        worker.start()  # until the pool has ended
        keeper.adopter.wait(lambda: state.should_terminate is not None)
    finally:
        keeper.stop()
        close_metrics()
        lock.close()
    _leave(worker.exitcode)


def _leave(code: int | None) -> NoReturn:
    """End the process without billiard's exit handler, when everything is done.

    A pool process that is killed while it waits for work (SIGTERM to the whole group, as systemd sends it) keeps the
    lock of the pool's queue, and that handler waits for the lock for ever.
    """
    for process in billiard.active_children():
        process.terminate()
    transport.close_clients()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)
