"""``dccf controller``: one loop over the sweeps, woken by NOTIFY or by its timer."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

import dccf
from dccf import errors, metrics
from dccf.celery_app import DccfCelery, app, dispatch
from dccf.config import Settings
from dccf.controller import garbage, outage, retention, schedules
from dccf.controller.metrics import ControllerMetrics
from dccf.controller.sweeps import Sweep
from dccf.lifecycle import channels, heartbeat, leases, waiting
from dccf.store import fleet
from dccf.store.database import Database, Listener

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 5.0
GARBAGE_SECONDS = 600.0
EXPLAIN_SECONDS = 1.0
RETENTION_SECONDS = 1.0
#: Wakes that come in a burst are answered together.
_BURST_SECONDS = 0.02


@dataclass
class Controller:
    """The sweeps and when each is due; every sweep is bounded and safe beside another controller's."""

    celery: DccfCelery
    database: Database
    settings: Settings
    name: str = field(default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}")
    ended: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._outage = outage.OutageWatch(self.database, self.settings)
        walk = retention.RetentionWalk(self.database, self.settings)
        self.metrics = ControllerMetrics()
        every_time: tuple[tuple[str, Callable[[], int]], ...] = (
            ("leases", self._expire),
            ("time limits", self._fail_overdue),
            ("schedules", lambda: schedules.fire(self.celery, self.database, self.settings)),
            ("hints", lambda: dispatch.due(self.celery, self.database, self.settings)),
        )
        now_and_then: tuple[tuple[str, Callable[[], int], float], ...] = (
            ("waiting", lambda: waiting.explain(self.database, self.settings), EXPLAIN_SECONDS),
            ("retention", walk.step, RETENTION_SECONDS),
            ("contents", lambda: garbage.sweep_blobs(self.database), GARBAGE_SECONDS),
            ("heartbeat", self._beat, HEARTBEAT_SECONDS),
        )
        self._sweeps = (
            *(Sweep(name, do, self.metrics) for name, do in every_time),
            *(Sweep(name, do, self.metrics, period) for name, do, period in now_and_then),
        )

    def run(self) -> None:
        """Sweep until :attr:`ended` is set; PostgreSQL may come and go."""
        listener: Listener | None = None
        while not self.ended.is_set():
            heartbeat.touch(self.settings, "controller")
            try:
                listener = listener or Listener(self.database, channels.WORK_TO_DO)
                listener.wait(self.settings.sweep_seconds)
                self.ended.wait(_BURST_SECONDS)
                self.sweep()
            except errors.StoreUnavailable as error:
                log.warning("the sweeps wait for PostgreSQL: %s", error)
                if listener is not None:
                    listener.close()
                listener = None
                self.ended.wait(self.settings.sweep_seconds)
        if listener is not None:
            listener.close()
        self._say_goodbye()

    def sweep(self) -> None:
        """Do everything that is due once.

        Raises:
            StoreUnavailable: PostgreSQL is away; the rest is done next time.
        """
        self._outage.check()
        for sweep in self._sweeps:
            sweep.run_when_due()
        self.metrics.note_round()

    def _expire(self) -> int:
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
        with self.database.begin() as tx:
            fleet.beat_controller(
                tx, self.name, dccf.__version__, {sweep.name: sweep.stats for sweep in self._sweeps}
            )
        return 1

    def _say_goodbye(self) -> None:
        try:
            with self.database.begin() as tx:
                fleet.forget_controllers(tx, self.name)
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
        signal.signal(number, lambda *_: controller.ended.set())
    close_metrics = metrics.serve(settings.metrics_host, settings.metrics_port, controller.metrics.registry)
    log.info("controller %s is ready", controller.name)
    controller.run()
    close_metrics()
