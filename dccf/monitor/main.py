"""``dccf flower``: Flower on our Celery application."""

from __future__ import annotations

import logging
import os
import sys

from flower.options import options

from dccf import loopback
from dccf.celery_app import app
from dccf.config import Settings
from dccf.monitor import broker, guard, inspector, tasks

#: Pods come and go; a worker that has been offline for this long is no news any more.
_PURGE_OFFLINE_SECONDS = 600


def arguments(settings: Settings) -> list[str]:
    """Give Flower's command line for our settings; ``FLOWER_*`` variables still win where we set nothing."""
    return [
        "flower",
        f"--address={settings.flower_host}",
        f"--port={settings.flower_port}",
        f"--purge_offline_workers={_PURGE_OFFLINE_SECONDS}",
        f"--tasks_columns={tasks.COLUMNS}",
    ]


def run(settings: Settings | None = None) -> None:
    """Run Flower until it is told to stop.

    Raises:
        ConfigError: a setting is missing or not allowed.
    """
    settings = settings or app.settings
    logging.basicConfig(level=settings.log_level, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    if settings.flower_host in loopback.NAMES:
        # On loopback Flower's HTTP API is as open as its pages; elsewhere it stays shut without a password.
        os.environ.setdefault("FLOWER_UNAUTHENTICATED_API", "true")
        guard.install()
    tasks.install()
    options.format_task = tasks.formatter(app)
    broker.install(app)
    inspector.install(app)
    app.start(argv=arguments(settings))
