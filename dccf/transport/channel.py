"""A kombu channel: declares, publishes, and delivers what its consumers acquired."""

import collections
import logging
import os
import time
from collections.abc import Callable
from typing import Any

from kombu.exceptions import ChannelError, KombuError
from kombu.transport import virtual

from dccf.transport import exchanges, readahead
from dccf.transport.acquired import Record, State
from dccf.transport.client import Client
from dccf.transport.consumer import ShareConsumer
from dccf.transport.inbox import PrivateQueue
from dccf.transport.options import Settle
from dccf.transport.protocol import Acknowledgement
from dccf.transport.qos import QoS
from dccf.transport.records import (
    AMQP_PROPERTIES,
    DELIVERY_COUNT,
    SETTLE,
    OutgoingRecord,
    decode_message,
    encode_message,
)
from dccf.transport.returns import Returns
from dccf.transport.upkeep import Upkeep

logger = logging.getLogger(__name__)

_LEAVE_SECONDS = 5.0
#: kombu is typed in parts only.
_Base: Any = virtual.Channel


class Channel(_Base):
    """Work queues are share groups; private queues read the topics of the exchanges they are bound to."""

    QoS = QoS
    supports_fanout = True
    exchange_types = {  # noqa: RUF012 - kombu makes instances of these for each channel
        "direct": exchanges.DirectExchange,
        "topic": exchanges.TopicExchange,
        "fanout": exchanges.FanoutExchange,
    }

    def __init__(self, connection: Any, **kwargs: Any) -> None:
        super().__init__(connection, **kwargs)
        self._pid = os.getpid()
        #: kombu takes the connection away when it closes a channel; records still have to be settled then.
        self._transport = connection
        self._options = connection.settings.options
        self._share_consumers: dict[str, ShareConsumer] = {}
        self._upkeep: dict[str, Upkeep] = {}
        self._handlers: dict[str, Callable[[Any], Any]] = {}
        self._without_ack: set[str] = set()
        #: Private queues that this channel consumes; they die with it.
        self._private: dict[str, PrivateQueue] = {}
        self._arrivals: collections.deque[Record] = collections.deque()
        self.returns = Returns(lambda: self._client)

    # Declaring -----------------------------------------------------------------------------------------------

    def _new_queue(self, queue: str, **kwargs: Any) -> None:
        if exchanges.is_private(**kwargs):
            self._transport.private_queues.add(queue)
        else:
            self._client.ensure_queue(queue)

    def _has_queue(self, queue: str, **_: Any) -> bool:
        if queue in self._transport.private_queues:
            return True
        return self._client.admin.topic_exists(self._client.settings.names.queue_topic(queue))

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        kind = self.state.exchanges[exchange]["type"]
        if queue not in self._transport.private_queues or not exchanges.carries_broadcasts(kind, exchange):
            return
        private = self._transport.subscribed.setdefault(queue, PrivateQueue(self._transport.wake_up))
        topic = self._client.ensure_exchange(exchange)
        matches = exchanges.matcher(kind, routing_key, pattern)
        private.unsubscribe.append(self._client.broadcasts.subscribe(topic, matches, private.put))

    def _delete(self, queue: str, *args: Any, **_: Any) -> None:  # noqa: ARG002 - kombu's signature
        self._drop_subscriptions(queue)
        if queue in self._transport.private_queues and queue not in self._share_consumers:
            return
        self._client.admin.delete_queue(self._client.settings.names.queue_topic(queue))

    def queue_delete(self, queue: str, if_unused: bool = False, if_empty: bool = False, **kwargs: Any) -> None:
        """Delete a queue and what is in it, also one that this process has no binding for."""
        bound = bool(list(self.state.queue_bindings(queue)))
        super().queue_delete(queue, if_unused=if_unused, if_empty=if_empty, **kwargs)
        if not bound and not (if_empty and self._size(queue)):
            self._delete(queue)

    def _purge(self, queue: str) -> int:
        if queue in self._transport.private_queues:
            return 0
        return self._client.admin.purge(self._client.ensure_queue(queue))

    def _size(self, queue: str) -> int:
        if queue in self._transport.private_queues:
            return 0
        return self._client.admin.unfinished(self._client.settings.names.queue_topic(queue))

    # Publishing ----------------------------------------------------------------------------------------------

    def prepare_message(
        self,
        body: Any,
        priority: int | None = None,
        content_type: str | None = None,
        content_encoding: str | None = None,
        headers: dict[str, Any] | None = None,
        properties: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Arrange a message as it travels."""
        kept = {name: value for name, value in (properties or {}).items() if name in AMQP_PROPERTIES}
        passed = {name: value for name, value in (headers or {}).items() if name != DELIVERY_COUNT}
        prepared: dict[str, Any] = super().prepare_message(
            body, priority, content_type, content_encoding, passed, kept
        )
        return prepared

    def encode_body(self, body: Any, encoding: str | None = None) -> tuple[Any, str | None]:
        """Leave text as it is; only bytes need to be wrapped for JSON."""
        if isinstance(body, str):
            return body, None
        encoded: tuple[Any, str | None] = super().encode_body(body, encoding)
        return encoded

    def _put(self, queue: str, message: dict[str, Any], **_: Any) -> None:
        topic = self._client.ensure_queue(queue)
        self._client.producer.publish([OutgoingRecord(topic, encode_message(message))])

    def copy_to_work_queues(self, exchange: str, message: dict[str, Any], routing_key: str) -> None:
        """Put a message into every durable queue that is bound to an exchange."""
        for queue in self._lookup(exchange, routing_key):
            if queue and queue not in self._transport.private_queues:
                self._put(queue, message)

    def broadcast(self, exchange: str, message: dict[str, Any], routing_key: str, *, wait: bool = True) -> None:
        """Publish a message to all readers of an exchange."""
        topic = self._client.ensure_exchange(exchange)
        record = OutgoingRecord(topic, encode_message(message), (routing_key or "").encode())
        if wait:
            self._client.producer.publish([record])
        else:
            self._client.events.publish(record)

    # Consuming -----------------------------------------------------------------------------------------------

    def basic_consume(
        self,
        queue: str,
        no_ack: bool,
        callback: Callable[[Any], Any],
        consumer_tag: str,
        **kwargs: Any,
    ) -> None:
        """Begin to deliver the messages of a queue."""
        super().basic_consume(queue, no_ack, callback, consumer_tag, **kwargs)
        self._handlers[queue] = self._transport.callback_of(queue)
        (self._without_ack.add if no_ack else self._without_ack.discard)(queue)
        private = self._transport.subscribed.get(queue)
        if private is not None:
            self._private[queue] = private
            self._transport.wake_up.signal()
        else:
            self._consume_records(queue)

    def _consume_records(self, queue: str) -> None:
        consumer = self._share_consumers.get(queue)
        if consumer is not None:
            consumer.paused = False
            consumer.wake()
            return
        topic = self._client.ensure_queue(queue)
        options = self._options.queue(queue)
        self._client.admin.configure_group(
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
        consumer = ShareConsumer(self._client.settings, queue, topic, options, self)
        self._upkeep[queue] = Upkeep(lambda: self._client.admin, consumer)
        self._share_consumers[queue] = consumer
        consumer.start()

    def basic_cancel(self, consumer_tag: str) -> None:
        """Stop to deliver the messages of a queue; what was not delivered yet is given back."""
        queue = self._tag_to_queue.get(consumer_tag)
        super().basic_cancel(consumer_tag)
        if queue is None:
            return
        self._handlers.pop(queue, None)
        consumer = self._share_consumers.get(queue)
        if consumer is not None:
            consumer.paused = True
            self._give_back_arrivals(lambda record: record.consumer is consumer)

    def basic_qos(self, prefetch_size: int = 0, prefetch_count: int = 0, apply_global: bool = False) -> None:
        """Set how many messages the consumer may have."""
        super().basic_qos(prefetch_size, prefetch_count, apply_global)
        self.slot_is_free()

    def _get(self, queue: str, timeout: float | None = None) -> Any:  # noqa: ARG002 - kombu's signature
        raise ChannelError("basic_get is not supported on Kafka: a member joins a share group to consume")

    def deliver_one(self) -> bool:
        """Deliver one message to its consumer; tell whether there was one that could be."""
        for queue, private in list(self._private.items()):
            handler = self._handlers.get(queue)
            if private.waiting and handler is not None:
                handler(self._payload(private.waiting.popleft(), {}))
                return True
        while self._arrivals and self.qos.can_consume():
            try:
                record = self._arrivals.popleft()
            except IndexError:
                return False
            if record.state is State.HELD and self._deliver_record(record):
                return True
        return False

    def _deliver_record(self, record: Record) -> bool:
        queue = record.consumer.queue
        handler = self._handlers.get(queue)
        if handler is None:
            self.returns.give_back(record)
            return False
        try:
            payload = self._payload(record.value, {"redelivered": record.deliveries > 1})
        except ValueError:
            logger.exception("queue %s: offset %d holds no message", queue, record.position.offset)
            self.returns.put_aside(record)
            return False
        if record.deliveries > 1:
            payload["headers"][DELIVERY_COUNT] = record.deliveries - 1
        if queue in self._without_ack:
            record.consumer.settle(record, Acknowledgement.ACCEPT)
        else:
            self.qos.track(payload["properties"]["delivery_tag"], record)
            if payload["headers"].get(SETTLE, record.consumer.options.settle) == Settle.DELIVERY:
                record.finished_by_delivery = record.consumer.settle(record, Acknowledgement.ACCEPT)
        handler(payload)
        return True

    def _payload(self, value: bytes, info: dict[str, Any]) -> dict[str, Any]:
        payload = decode_message(value)
        properties = payload["properties"]
        properties["delivery_tag"] = self._transport.next_delivery_tag()
        properties.setdefault("delivery_info", {}).update(info)
        return payload

    # Settling ------------------------------------------------------------------------------------------------

    def slot_is_free(self) -> None:
        """Let consumers acquire, and the loop deliver, what waited for a slot."""
        for consumer in list(self._share_consumers.values()):
            consumer.wake()
        if self._arrivals:
            self._transport.wake_up.signal()

    def _give_back_arrivals(self, which: Callable[[Record], bool]) -> None:
        for record in list(self._arrivals):
            if which(record):
                try:
                    self._arrivals.remove(record)
                except ValueError:
                    continue
                self.returns.give_back(record)

    # What a consumer asks, on its own thread -----------------------------------------------------------------

    def wanted(self, consumer: ShareConsumer) -> int:
        """Return how many records a queue may acquire now."""
        qos = self.qos
        ahead = readahead.ahead(
            average_seconds=qos.hold_time.seconds,
            oldest_seconds=qos.oldest_seconds(),
            below_ms=self._options.read_ahead_below_ms,
            most=consumer.options.read_ahead,
        )
        return readahead.wanted(
            prefetch=qos.prefetch_count,
            in_use=qos.in_use + len(self._arrivals),
            ahead=ahead,
            queues=sum(not other.paused for other in list(self._share_consumers.values())),
            unlimited=self._options.unlimited_batch,
        )

    def received(self, records: list[Record]) -> None:
        """Take acquired records: most are for the consumer, some have been delivered too often."""
        self._arrivals.extend(record for record in records if not self.returns.keep_below_limit(record))
        self._transport.wake_up.signal()

    def tick(self, consumer: ShareConsumer) -> None:
        """Write copies, give back what waited too long for a slot, and look after the queue."""
        try:
            self.returns.write()
        except KombuError as error:
            logger.warning("queue %s: a message could not be republished, again soon: %r", consumer.queue, error)
        if self._arrivals and not self.qos.can_consume():
            late = time.monotonic() - self._options.give_back_after_ms / 1000
            self._give_back_arrivals(lambda record: record.consumer is consumer and record.acquired_at < late)
        upkeep = self._upkeep.get(consumer.queue)
        if upkeep is not None:
            upkeep.run_if_due()

    # Closing -------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Give back what is not acknowledged, and leave the groups."""
        if self.closed:
            return
        mine = self._pid == os.getpid()
        private = {queue for queue in self._share_consumers if queue in self._transport.private_queues}
        client = self._client if mine and (self._share_consumers or self._private) else None
        super().close()
        if client is None:
            return
        for queue in list(self._private):
            self._drop_subscriptions(queue)
        self._give_back_arrivals(lambda _: True)
        self.returns.finish()
        for consumer in self._share_consumers.values():
            consumer.close()
        for consumer in self._share_consumers.values():
            consumer.join(_LEAVE_SECONDS)
        for queue in private:
            client.admin.delete_queue(client.settings.names.queue_topic(queue))

    def _drop_subscriptions(self, queue: str) -> None:
        self._private.pop(queue, None)
        private = self._transport.subscribed.pop(queue, None)
        if private is not None:
            private.close()

    @property
    def _client(self) -> Client:
        client: Client = self._transport.kafka_client
        return client
