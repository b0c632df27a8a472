"""What a consumed queue needs now and then: a look at its window, and its finished records deleted."""

import logging
import random
import time
from collections.abc import Callable

from kombu.exceptions import KombuError

from dccf.transport.acknowledgements import window_check_delay_seconds
from dccf.transport.acquired import Record
from dccf.transport.admin import Admin
from dccf.transport.consumer import ShareConsumer
from dccf.transport.offsets import Progress
from dccf.transport.records import task_id

logger = logging.getLogger(__name__)

#: Every member does it, so each does it rarely.
_DELETE_EVERY_SECONDS = 60.0
_WORTH_DELETING = 1000
_FIRST_CHECK_SECONDS = 1.0


class Upkeep:
    """Runs on the thread of one consumer."""

    def __init__(self, admin: Callable[[], Admin], consumer: ShareConsumer) -> None:
        self._admin = admin
        self._consumer = consumer
        now = time.monotonic()
        self._delete_at = now + random.uniform(0.5, 1.0) * _DELETE_EVERY_SECONDS  # noqa: S311 - spreads members
        self._check_at = now
        self._checked_at = now
        self._finished = 0
        self._warned: Record | None = None

    def run_if_due(self) -> None:
        """Check the window while something is held for long, and delete finished records."""
        now = time.monotonic()
        try:
            if now >= self._check_at:
                self._check(now)
            if now >= self._delete_at:
                self._delete_at = now + _DELETE_EVERY_SECONDS
                self._delete(self._admin().progress(self._consumer.topic))
        except KombuError as error:
            logger.debug("upkeep of queue %s: %r", self._consumer.queue, error)
            self._check_at = now + _FIRST_CHECK_SECONDS

    def _check(self, now: float) -> None:
        held = self._consumer.held()
        oldest = held[0] if held else None
        if oldest is None or now - oldest.acquired_at < _FIRST_CHECK_SECONDS:
            self._finished = 0
            self._check_at = now + _FIRST_CHECK_SECONDS / 2
            return
        half = self._consumer.options.max_record_locks // 2
        progress = self._admin().progress(self._consumer.topic)
        finished = max(part.finished_in_window for part in progress)
        if self._warned is not oldest and (finished >= half or len(held) >= half):
            self._warned = oldest
            self._warn(oldest, finished, len(held))
        delay = window_check_delay_seconds(finished, self._finished, now - self._checked_at, half)
        self._finished, self._checked_at, self._check_at = finished, now, now + delay

    def _warn(self, record: Record, finished: int, held: int) -> None:
        logger.warning(
            "queue %s: task %s is held for %.0f s while %d later messages were finished, and %d messages are held "
            "here; at about %d together the queue stands still until it ends: give long tasks, and those with an "
            "ETA, a queue of their own, or settle='delivery'",
            self._consumer.queue,
            task_id(record.value),
            time.monotonic() - record.acquired_at,
            finished,
            held,
            self._consumer.options.max_record_locks,
        )

    def _delete(self, progress: list[Progress]) -> None:
        before = {part.partition: part.start for part in progress if part.start - part.log_start > _WORTH_DELETING}
        if before:
            self._admin().delete_records(self._consumer.topic, before)
