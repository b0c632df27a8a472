"""After an outage of PostgreSQL nobody is declared lost before everybody could renew."""

from __future__ import annotations

import logging
import time
from datetime import datetime

from dccf.config import Settings
from dccf.lifecycle import leases
from dccf.store import jobs, server
from dccf.store.database import Database

log = logging.getLogger(__name__)


class OutageWatch:
    """Notices that PostgreSQL was away: it says so itself (its start time), or our own sweeps have a gap."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self._server_start: datetime | None = None
        self._last_check: float | None = None

    def check(self) -> None:
        """Extend all leases once if there was an outage since the last call.

        Raises:
            StoreUnavailable: PostgreSQL is away; the next call that goes through makes up for it.
        """
        with self._database.begin() as tx:
            server_start = server.get_server_start(tx)
            server_age_seconds = (jobs.get_now(tx) - server_start).total_seconds()
        now = time.monotonic()
        had_gap = self._last_check is not None and now - self._last_check > self._settings.lease_seconds / 3
        # A controller that starts together with PostgreSQL cannot know how long it was away.
        is_new_server = self._server_start != server_start and server_age_seconds < self._settings.lease_seconds
        if had_gap or is_new_server:
            extended = leases.extend_all(self._database, self._settings.lease_seconds)
            # A gap has other causes as well: the machine slept, or this process was stopped.
            what = "PostgreSQL was started again" if is_new_server else "these sweeps stood still"
            log.warning("%s; %d leases were extended so that workers can renew", what, extended)
        self._server_start, self._last_check = server_start, now
