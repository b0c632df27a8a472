"""``dccf controller``: three loops of sweeps in one process, so that a broker that hangs delays no lease."""

from __future__ import annotations

import logging
import os
import queue
import signal
import socket
import sys
import time
import uuid
from dataclasses import dataclass, field

import dccf
from dccf import errors, metrics
from dccf.celery_app import DccfCelery, app, dispatch
from dccf.config import Settings
from dccf.controller import garbage, outage, retention, schedules
from dccf.controller.metrics import ControllerMetrics
from dccf.controller.rounds import Loop
from dccf.controller.sweeps import Sweep
from dccf.lifecycle import channels, heartbeat, leases, waiting
from dccf.store import fleet
from dccf.store.database import Database

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 5.0
GARBAGE_SECONDS = 600.0
EXPLAIN_SECONDS = 1.0
RETENTION_SECONDS = 1.0
#: A statement is given up after 60 s and ends its round, so a round of the leases that takes longer hangs.
LONGEST_LEASES_SECONDS = 120.0
#: A round may wait for brokers whose names nobody resolves, or for slow deletes: a restart would mend neither.
LONGEST_OTHER_SECONDS = 600.0
#: How often it is checked whether all loops turn.
PULSE_SECONDS = 1.0
#: A loop that was told to end gets this long. A hint in a broker that hangs then counts as lost, and is sent again.
END_SECONDS = 5.0


@dataclass
class Controller:
    """The loops, and what is swept in each; every sweep is bounded and safe beside another controller's."""

    celery: DccfCelery
    database: Database
    settings: Settings
    name: str = field(default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}")

    def __post_init__(self) -> None:
        self._told_to_stop: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._outage = outage.OutageWatch(self.database, self.settings)
        self.metrics = ControllerMetrics()
        self.loops = (self._hints(), self._clearing(), self._leases())

    def _hints(self) -> Loop:
        """All that speaks with the broker."""
        hints = Sweep("hints", lambda: dispatch.due(self.celery, self.database, self.settings), self.metrics)
        wake = (self.database, channels.WORK_TO_DO)
        return self._loop("hints", (hints,), LONGEST_OTHER_SECONDS, wake)

    def _clearing(self) -> Loop:
        """What removes many rows and may take its time."""
        walk = retention.RetentionWalk(self.database, self.settings)
        sweeps = (
            Sweep("retention", walk.step, self.metrics, RETENTION_SECONDS),
            Sweep("contents", lambda: garbage.sweep_blobs(self.database), self.metrics, GARBAGE_SECONDS),
        )
        return self._loop("clearing", sweeps, LONGEST_OTHER_SECONDS)

    def _leases(self) -> Loop:
        """What waits for nobody but PostgreSQL, so that a gap between two rounds is PostgreSQL's or our own."""
        sweeps = (
            Sweep("leases", self._expire, self.metrics),
            Sweep("time limits", self._fail_overdue, self.metrics),
            Sweep("schedules", lambda: schedules.fire(self.celery, self.database, self.settings), self.metrics),
            Sweep("waiting", lambda: waiting.explain(self.database, self.settings), self.metrics, EXPLAIN_SECONDS),
            Sweep("heartbeat", self._beat, self.metrics, HEARTBEAT_SECONDS),
        )
        return self._loop("leases", sweeps, LONGEST_LEASES_SECONDS)

    def _loop(
        self, name: str, sweeps: tuple[Sweep, ...], longest_seconds: float, wake: tuple[Database, str] | None = None
    ) -> Loop:
        return Loop(name, sweeps, self.metrics, self.settings.sweep_seconds, longest_seconds, wake)

    def stop(self) -> None:
        """Let :meth:`run` end. It takes no lock: a signal may come while the main thread holds any."""
        self._told_to_stop.put(None)

    def run(self) -> None:
        """Sweep until :meth:`stop` is called.

        Raises:
            Exception: a loop died of this; the others were ended.
        """
        for loop in self.loops:
            loop.start(self.stop)
        while not self._is_told_to_stop():
            if all(loop.is_turning for loop in self.loops):
                heartbeat.touch(self.settings, "controller")
        self._end_loops()
        self._say_goodbye()
        failures = [loop.failure for loop in self.loops if loop.failure is not None]
        if failures:
            raise failures[0]

    def _is_told_to_stop(self) -> bool:
        try:
            self._told_to_stop.get(timeout=PULSE_SECONDS)
        except queue.Empty:
            return False
        return True

    def _end_loops(self) -> None:
        for loop in self.loops:
            loop.end()
        deadline = time.monotonic() + self.settings.sweep_seconds + END_SECONDS
        for loop in self.loops:
            if not loop.join(max(0.0, deadline - time.monotonic())):
                log.warning("the loop %r hangs and is left behind", loop.name)

    def _expire(self) -> int:
        self._outage.check()
        taken = leases.expire(self.database, self.settings)
        self.metrics.note_expired(taken)
        for job in taken:
            log.warning("job %s: %s", job.id, job.message)
        return len(taken)

    def _fail_overdue(self) -> int:
        ended = leases.fail_overdue(self.database)
        for job in ended:
            log.info("job %s: %s", job.id, job.message)
        return len(ended)

    def _beat(self) -> int:
        sweeps = {sweep.name: sweep.stats for loop in self.loops for sweep in loop.sweeps}
        with self.database.begin() as tx:
            fleet.beat_controller(tx, self.name, dccf.__version__, sweeps)
        return 1

    def _say_goodbye(self) -> None:
        try:
            with self.database.begin() as tx:
                fleet.forget_controller(tx, self.name)
        except errors.StoreUnavailable as error:
            log.info("PostgreSQL did not hear this controller's goodbye: %s", error)


def run(settings: Settings | None = None) -> None:
    """Run a controller until it gets SIGTERM or SIGINT.

    Raises:
        ConfigError: a setting is missing or not allowed, or the metrics port cannot be listened on.
    """
    settings = settings or app.settings
    logging.basicConfig(level=settings.log_level, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    controller = Controller(app, app.database, settings)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: controller.stop())
    close_metrics = metrics.serve(settings.metrics_host, settings.metrics_port, controller.metrics.registry)
    log.info("controller %s is ready", controller.name)
    try:
        controller.run()
    finally:
        close_metrics()
