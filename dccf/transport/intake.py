"""What a channel takes from its work queues: how much they may acquire, and what waits for a slot."""

import collections
import logging
import math
import time
from collections.abc import Callable

from kombu.exceptions import KombuError

from dccf.transport import readahead
from dccf.transport.acquired import Record, State
from dccf.transport.client import Client
from dccf.transport.consumer import ShareConsumer
from dccf.transport.inbox import WakeUp
from dccf.transport.options import Options, QueueOptions
from dccf.transport.qos import QoS
from dccf.transport.returns import Returns
from dccf.transport.settings import Settings
from dccf.transport.upkeep import Upkeep

logger = logging.getLogger(__name__)

_LEAVE_SECONDS = 5.0
#: A task that gets long is noticed this late at most.
_SHORTEST_WAIT_SECONDS = 0.005


class Intake:
    """The share consumers of one channel, and the records that they brought and nobody has yet.

    `wanted`, `received` and `tick` are called on the consumers' threads, the rest on the channel's.
    """

    def __init__(
        self, settings: Settings, client: Callable[[], Client], qos: Callable[[], QoS], wake_up: WakeUp
    ) -> None:
        self.returns = Returns(client)
        self.consumers: dict[str, ShareConsumer] = {}
        self._settings = settings
        self._options: Options = settings.options
        self._client = client
        self._qos = qos
        self._wake_up = wake_up
        self._waiting: collections.deque[Record] = collections.deque()
        self._upkeep: dict[str, Upkeep] = {}

    def consume(self, queue: str) -> None:
        """Acquire records of a queue from now on."""
        consumer = self.consumers.get(queue)
        if consumer is not None:
            consumer.paused = False
            consumer.wake()
            return
        client = self._client()
        topic = client.ensure_queue(queue)
        options = self._options.queue(queue)
        self._check_dead_letters(queue, options)
        client.admin.configure_group(
            topic,
            {
                # A task that was sent before the first worker joined must be seen, too.
                "share.auto.offset.reset": "earliest",
                "share.record.lock.duration.ms": str(options.lock_duration_ms),
                "share.delivery.count.limit": str(options.delivery_count_limit),
                "share.partition.max.record.locks": str(options.max_record_locks),
                "share.assignment.interval.ms": "0",
            },
        )
        consumer = ShareConsumer(self._settings, queue, topic, options, self)
        self._upkeep[queue] = Upkeep(lambda: self._client().admin, consumer)
        self.consumers[queue] = consumer
        consumer.start()

    def _check_dead_letters(self, queue: str, options: QueueOptions) -> None:
        """Raise now what would come with the first message that is put aside, and come back for ever."""
        if options.dead_letter_queue is not None:
            self._settings.names.queue_topic(options.dead_letter_queue)
        if options.dead_letter_queue == queue:
            raise ValueError(f"transport option dead_letter_queue: {queue!r} cannot be its own dead-letter queue")

    def pause(self, queue: str) -> None:
        """Acquire no more of a queue, and give back what waits."""
        consumer = self.consumers.get(queue)
        if consumer is not None:
            consumer.paused = True
            self._give_back(lambda record: record.consumer is consumer)

    def next_record(self) -> Record | None:
        """Return the record that waits longest, if there is a slot for it."""
        qos = self._qos()
        while self._waiting and qos.can_consume():
            try:
                record = self._waiting.popleft()
            except IndexError:
                return None
            if record.state is State.HELD:
                return record
        return None

    def slot_is_free(self) -> None:
        """Let consumers acquire, and the loop deliver, what waited for a slot."""
        for consumer in list(self.consumers.values()):
            consumer.wake()
        if self._waiting:
            self._wake_up.signal()

    def close(self) -> None:
        """Give back what is not acknowledged, and leave the groups."""
        self._give_back(lambda _: True)
        self.returns.finish()
        for consumer in self.consumers.values():
            consumer.close()
        for consumer in self.consumers.values():
            consumer.join(_LEAVE_SECONDS)

    # What a consumer asks, on its own thread -----------------------------------------------------------------

    def wanted(self, consumer: ShareConsumer) -> int:
        """Return how many records a queue may acquire now."""
        qos = self._qos()
        ahead = readahead.ahead(
            prefetch=qos.prefetch_count,
            average_seconds=qos.hold_time.seconds,
            within_ms=self._options.read_ahead_ms,
            most=0 if self._waits_long(qos) else consumer.options.read_ahead,
        )
        return readahead.wanted(
            prefetch=qos.prefetch_count,
            in_use=qos.in_use,
            waiting=len(self._waiting),
            ahead=ahead,
            queues=sum(not other.paused for other in list(self.consumers.values())),
            unlimited=self._options.unlimited_batch,
        )

    def received(self, records: list[Record]) -> None:
        """Take acquired records: most are for the consumer, some have been delivered too often."""
        self._waiting.extend(record for record in records if not self.returns.keep_below_limit(record))
        self._wake_up.signal()

    def tick(self, consumer: ShareConsumer) -> float:
        """Write copies, give back what waited too long for a slot, and look after the queue."""
        try:
            self.returns.write()
        except KombuError as error:
            logger.warning("queue %s: a message could not be republished, again soon: %r", consumer.queue, error)
        upkeep = self._upkeep.get(consumer.queue)
        if upkeep is not None:
            upkeep.run_if_due()
        return self._give_back_late(consumer)

    def _waits_long(self, qos: QoS) -> bool:
        return readahead.is_long(
            average_seconds=qos.hold_time.seconds,
            oldest_seconds=qos.oldest_seconds(),
            within_ms=self._options.read_ahead_ms,
        )

    def _give_back_late(self, consumer: ShareConsumer) -> float:
        """Give back what waits too long for a slot; return when to look again."""
        if not self._waiting:
            return math.inf
        qos = self._qos()
        if consumer.paused:
            self._give_back(lambda record: record.consumer is consumer)
        elif not qos.can_consume():
            patience = readahead.patience_seconds(
                is_long=self._waits_long(qos),
                within_ms=self._options.read_ahead_ms,
                most=consumer.options.read_ahead,
                give_back_after_ms=self._options.give_back_after_ms,
            )
            late = time.monotonic() - patience
            self._give_back(lambda record: record.consumer is consumer and record.acquired_at <= late)
        return max(_SHORTEST_WAIT_SECONDS, self._options.read_ahead_ms / 1000 - qos.oldest_seconds())

    def _give_back(self, which: Callable[[Record], bool]) -> None:
        for record in list(self._waiting):
            if which(record):
                try:
                    self._waiting.remove(record)
                except ValueError:
                    continue
                self.returns.give_back(record)
