"""Records that do not simply end: given back, put aside for good, or written again in time."""

import collections
import logging
import threading
from collections.abc import Callable

from kombu.exceptions import KombuError

from dccf.transport.acquired import Record, State
from dccf.transport.client import Client
from dccf.transport.protocol import Acknowledgement
from dccf.transport.records import DELIVERIES_HEADER, OutgoingRecord

logger = logging.getLogger(__name__)


class Returns:
    """Decides records and writes the copies which that takes.

    A copy is confirmed before its original is settled. Copies are written by `write`, on a consumer's thread: the
    other methods only note them and may be called from any thread.
    """

    def __init__(self, client: Callable[[], Client]) -> None:
        self._client = client
        self._copies: collections.deque[tuple[Record, str, Acknowledgement]] = collections.deque()
        #: Held by the thread that writes: two would write one copy twice, and drop the next one unwritten.
        self._writing = threading.Lock()

    def give_back(self, record: Record) -> None:
        """Make a message available again, to anybody."""
        consumer = record.consumer
        if record.state is State.HELD and record.counted < consumer.options.delivery_count_limit - 1:
            consumer.settle(record, Acknowledgement.RELEASE)
        elif _can_be_copied(record):
            self._copy(record, consumer.topic, Acknowledgement.ACCEPT)

    def put_aside(self, record: Record) -> None:
        """Finish a message for good, with a copy for the dead-letter queue where there is one."""
        queue = record.consumer.options.dead_letter_queue
        if queue is None:
            record.consumer.settle(record, Acknowledgement.REJECT)
        elif _can_be_copied(record):
            self._copy(record, self._client().settings.names.queue_topic(queue), Acknowledgement.REJECT)

    def keep_below_limit(self, record: Record) -> bool:
        """Take a record that has been delivered too often to be handed on; tell whether this is one.

        At its limit the broker archives a record without a word, so a copy with the true count goes first.
        """
        options = record.consumer.options
        if options.max_deliveries is not None and record.deliveries > options.max_deliveries:
            logger.error("queue %s: a message was delivered %d times", record.consumer.queue, options.max_deliveries)
            self.put_aside(record)
            return True
        if record.counted >= options.delivery_count_limit - 1:
            record.deliveries -= 1
            self._copy(record, record.consumer.topic, Acknowledgement.ACCEPT)
            return True
        return False

    def write(self) -> None:
        """Write the copies, unless another thread is at it; those that fail stay for the next time."""
        if self._copies and self._writing.acquire(blocking=False):
            try:
                self._write()
            finally:
                self._writing.release()

    def finish(self) -> None:
        """Write what is left before the channel closes."""
        try:
            with self._writing:
                self._write()
        except KombuError as error:
            # Those that are still locked for this member go to others when it leaves the group.
            logger.warning("%d messages could not be republished: %r", len(self._copies), error)

    def _write(self) -> None:
        while self._copies:
            record, topic, what = self._copies[0]
            if record.state is not State.LOST:
                client = self._client()
                if topic != record.consumer.topic:
                    client.ensure_queue(client.settings.names.queue_of(topic))
                count = str(record.deliveries).encode()
                client.producer.publish(
                    [OutgoingRecord(topic, record.value, record.key, ((DELIVERIES_HEADER, count),))]
                )
                record.consumer.settle(record, what)
            self._copies.popleft()

    def _copy(self, record: Record, topic: str, what: Acknowledgement) -> None:
        self._copies.append((record, topic, what))
        record.consumer.wake()


def _can_be_copied(record: Record) -> bool:
    return record.state is State.HELD or (record.state is State.SETTLED and record.finished_by_delivery)
