"""Removes what the retention rules do not keep, a bounded batch of each rule at a time."""

from __future__ import annotations

import logging
import time

from dccf.administration import RetentionRule
from dccf.config import Settings
from dccf.store import retention
from dccf.store.database import Database
from dccf.store.retention import Place

log = logging.getLogger(__name__)

#: Jobs or bundles that one transaction looks at.
BATCH = 100
#: Pause of a walk that has come to its end.
PAUSE_SECONDS = 600.0
#: A bundle without a job lives at least this long: a signature may still be called.
BUNDLE_SECONDS = 7 * 86400.0


class RetentionWalk:
    """Walks over what has ended, oldest first; every call of :meth:`step` does one batch of each rule.

    The place of each walk is kept in this process only: a new controller begins anew, and two at once
    do no harm.
    """

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._rules = settings.retention or ()
        self._places: dict[RetentionRule, Place | None] = {}
        self._bundle_place: Place | None = None
        self._resume_at: dict[RetentionRule | None, float] = {}

    def step(self) -> int:
        """Do one batch of each rule that is due, and of unused bundles; give the number of rows removed.

        Raises:
            StoreUnavailable: PostgreSQL is away.
        """
        removed = sum(self._step(rule) for rule in self._rules if self._is_due(rule))
        return removed + (self._step_bundles() if self._is_due(None) else 0)

    def run_through(self) -> int:
        """Walk to the end of every rule now; give the number of rows removed.

        Raises:
            StoreUnavailable: PostgreSQL is away.
        """
        removed = 0
        while any(self._is_due(rule) for rule in (*self._rules, None)):
            removed += self.step()
        return removed

    def _is_due(self, rule: RetentionRule | None) -> bool:
        return time.monotonic() >= self._resume_at.get(rule, 0.0)

    def _step(self, rule: RetentionRule) -> int:
        with self._database.begin() as tx:
            found = retention.find(tx, rule, self._rules, self._places.get(rule), BATCH)
            removed = retention.remove(tx, rule.what, found.job_ids)
        self._places[rule] = found.next_place
        self._pause_at_end(rule, found.next_place)
        if removed:
            log.info("retention: removed %d rows (%s)", removed, rule)
        return removed

    def _step_bundles(self) -> int:
        with self._database.begin() as tx:
            removed, self._bundle_place = retention.remove_unused_bundles(
                tx, self._bundle_place, BUNDLE_SECONDS, BATCH
            )
        self._pause_at_end(None, self._bundle_place)
        return removed

    def _pause_at_end(self, rule: RetentionRule | None, place: Place | None) -> None:
        if place is None:
            self._resume_at[rule] = time.monotonic() + PAUSE_SECONDS


def preview(database: Database, settings: Settings) -> list[tuple[RetentionRule, int]]:
    """Count, for each rule, the jobs that it would take something from now.

    Raises:
        StoreUnavailable: PostgreSQL is away.
    """
    rules = settings.retention or ()
    with database.begin() as tx:
        return [(rule, retention.count(tx, rule, rules)) for rule in rules]
