"""Removes what the retention rules do not keep, a bounded batch of each rule at a time."""

from __future__ import annotations

import logging
import time

from dccf.administration import RetentionRule
from dccf.celery_app.conf import RESULT_SECONDS
from dccf.config import Settings
from dccf.store import remnants, retention
from dccf.store.database import Database
from dccf.store.retention import Place

log = logging.getLogger(__name__)

#: Jobs or bundles that one transaction looks at.
BATCH = 100
#: Pause of a walk that has come to its end.
PAUSE_SECONDS = 600.0
#: A bundle without a job lives at least this long: a signature may still be called.
BUNDLE_SECONDS = 7 * 86400.0
#: What reminds of a removed job, of a chord that is over or of a silent process is kept this long.
REMNANT_SECONDS = 7 * 86400.0
#: A chord whose parts do not all return is given up after this long.
CHORD_SECONDS = 90 * 86400.0
#: So long after its end a list of tokens still shows one.
TOKEN_SECONDS = 90 * 86400.0
_BUNDLES, _REMNANTS = "bundles", "remnants"


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
        self._resume_at: dict[RetentionRule | str, float] = {}

    def step(self) -> int:
        """Do one batch of each rule that is due, and of what nothing needs; give the number of rows removed.

        Raises:
            StoreUnavailable: PostgreSQL is away.
        """
        removed = sum(self._step(rule) for rule in self._rules if self._is_due(rule))
        removed += self._step_bundles() if self._is_due(_BUNDLES) else 0
        return removed + (self._step_remnants() if self._is_due(_REMNANTS) else 0)

    def run_through(self) -> int:
        """Walk to the end of every rule now; give the number of rows removed.

        Raises:
            StoreUnavailable: PostgreSQL is away.
        """
        removed = 0
        walks: tuple[RetentionRule | str, ...] = (*self._rules, _BUNDLES, _REMNANTS)
        while any(self._is_due(walk) for walk in walks):
            removed += self.step()
        return removed

    def _is_due(self, rule: RetentionRule | str) -> bool:
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
        self._pause_at_end(_BUNDLES, self._bundle_place)
        return removed

    def _step_remnants(self) -> int:
        with self._database.begin() as tx:
            removed = remnants.remove(tx, REMNANT_SECONDS, CHORD_SECONDS, TOKEN_SECONDS, BATCH)
            removed += remnants.remove_celery_results(tx, RESULT_SECONDS, BATCH)
        if not removed:
            self._resume_at[_REMNANTS] = time.monotonic() + PAUSE_SECONDS
        return removed

    def _pause_at_end(self, walk: RetentionRule | str, place: Place | None) -> None:
        if place is None:
            self._resume_at[walk] = time.monotonic() + PAUSE_SECONDS


def preview(database: Database, settings: Settings) -> list[tuple[RetentionRule, int]]:
    """Count, for each rule, the jobs that it would take something from now.

    Raises:
        StoreUnavailable: PostgreSQL is away.
    """
    rules = settings.retention or ()
    with database.begin() as tx:
        return [(rule, retention.count(tx, rule, rules)) for rule in rules]
