"""A kombu channel: declares, publishes, and delivers what its consumers acquired."""

import logging
import os
from collections.abc import Callable
from typing import Any

from amqp.protocol import queue_declare_ok_t
from kombu.exceptions import ChannelError
from kombu.transport import virtual

from dccf.transport import exchanges
from dccf.transport.acquired import Record
from dccf.transport.client import Client
from dccf.transport.inbox import PrivateQueue
from dccf.transport.intake import Intake
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

logger = logging.getLogger(__name__)

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
        self._callbacks: dict[str, Callable[[Any], Any]] = {}
        self._without_ack: set[str] = set()
        #: Private queues that this channel consumes; they die with it.
        self._private: dict[str, PrivateQueue] = {}
        self.intake = Intake(connection.settings, lambda: self._client, lambda: self.qos, connection.wake_up)

    # Declaring -----------------------------------------------------------------------------------------------

    def queue_declare(self, queue: str = "", passive: bool = False, **kwargs: Any) -> Any:
        """Create a queue unless it exists; return its name and how many messages it has."""
        is_shared = queue and not passive and not exchanges.is_private(**kwargs)
        if is_shared and self._client.create_queue(queue):
            # Counting would begin with the group's coordinator, for whom a new cluster first makes topics of its own.
            return queue_declare_ok_t(queue, 0, 0)
        return super().queue_declare(queue, passive, **kwargs)

    def _new_queue(self, queue: str, **kwargs: Any) -> None:
        if exchanges.is_private(**kwargs):
            self._transport.private_queues.add(queue)
            if kwargs.get("auto_delete"):
                self._transport.auto_deleted.add(queue)
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
        private = self._transport.subscribed.setdefault(queue, PrivateQueue(queue, self._transport.wake_up))
        topic = self._client.ensure_exchange(exchange)
        matches = exchanges.matcher(kind, routing_key, pattern)
        private.unsubscribe.append(self._client.broadcasts.subscribe(topic, matches, private.put))

    def _delete(self, queue: str, *args: Any, **_: Any) -> None:  # noqa: ARG002 - kombu's signature
        self._drop_subscriptions(queue)
        if queue in self._transport.private_queues:
            self._drop_routes(queue)
            if queue not in self.intake.consumers:
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
        self._callbacks[queue] = callback
        (self._without_ack.add if no_ack else self._without_ack.discard)(queue)
        private = self._transport.subscribed.get(queue)
        if private is not None:
            self._private[queue] = private
            self._transport.wake_up.signal()
        else:
            self.intake.consume(queue)

    def basic_cancel(self, consumer_tag: str) -> None:
        """Stop to deliver the messages of a queue; what was not delivered yet is given back."""
        queue = self._tag_to_queue.get(consumer_tag)
        super().basic_cancel(consumer_tag)
        if queue is None:
            return
        if queue in self._tag_to_queue.values():
            return
        self._callbacks.pop(queue, None)
        self.intake.pause(queue)
        if queue in self._private and queue in self._transport.auto_deleted:
            self._drop_subscriptions(queue)
            self._drop_routes(queue)
            self._transport.state.queue_bindings_delete(queue)

    def basic_qos(self, prefetch_size: int = 0, prefetch_count: int = 0, apply_global: bool = False) -> None:
        """Set how many messages the consumer may have."""
        super().basic_qos(prefetch_size, prefetch_count, apply_global)
        self.intake.slot_is_free()

    def _get(self, queue: str, timeout: float | None = None) -> Any:  # noqa: ARG002 - kombu's signature
        raise ChannelError("basic_get is not supported on Kafka: a member joins a share group to consume")

    def deliver_one(self) -> bool:
        """Deliver one message to its consumer; tell whether there was one that could be."""
        for queue, private in list(self._private.items()):
            while private.waiting and (callback := self._callbacks.get(queue)) is not None:
                try:
                    message = self._message(private.waiting.popleft(), {})
                except ValueError:
                    logger.exception("queue %s: a broadcast holds no message", queue)
                    continue
                callback(message)
                return True
        while (record := self.intake.next_record()) is not None:
            if self._deliver_record(record):
                return True
        return False

    def _deliver_record(self, record: Record) -> bool:
        queue = record.consumer.queue
        callback = self._callbacks.get(queue)
        if callback is None:
            self.intake.returns.give_back(record)
            return False
        try:
            message = self._message(record.value, {"redelivered": record.deliveries > 1})
        except ValueError:
            logger.exception("queue %s: offset %d holds no message", queue, record.position.offset)
            self.intake.returns.put_aside(record)
            return False
        if record.deliveries > 1:
            message.headers[DELIVERY_COUNT] = record.deliveries - 1
        if queue in self._without_ack:
            record.consumer.settle(record, Acknowledgement.ACCEPT)
        else:
            self.qos.track(message.delivery_tag, record)
            self.qos.append(message, message.delivery_tag)
            if message.headers.get(SETTLE, record.consumer.options.settle) == Settle.DELIVERY:
                record.finished_by_delivery = record.consumer.settle(record, Acknowledgement.ACCEPT)
        callback(message)
        return True

    def _message(self, value: bytes, info: dict[str, Any]) -> Any:
        """Return the kombu message that a record holds.

        Raises:
            ValueError: it holds none.
        """
        try:
            payload = decode_message(value)
            properties = payload["properties"]
            properties["delivery_tag"] = self._transport.next_delivery_tag()
            properties.setdefault("delivery_info", {}).update(info)
            return self.Message(payload, channel=self)
        except Exception as error:
            # Anybody may write to a topic, and kombu decodes bodies and values with whatever was registered.
            raise ValueError("the record is not a kombu message") from error

    # Closing -------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Give back what is not acknowledged, and leave the groups."""
        if self.closed:
            return
        mine = self._pid == os.getpid()
        private = {queue for queue in self.intake.consumers if queue in self._transport.private_queues}
        client = self._client if mine and (self.intake.consumers or self._private) else None
        super().close()
        if client is None:
            return
        for queue in list(self._private):
            self._drop_subscriptions(queue)
        self.intake.close()
        for queue in private:
            client.admin.delete_queue(client.settings.names.queue_topic(queue))

    def _drop_subscriptions(self, queue: str) -> None:
        self._private.pop(queue, None)
        private = self._transport.subscribed.pop(queue, None)
        if private is not None:
            private.close()

    def _drop_routes(self, queue: str) -> None:
        """Take a private queue out of its exchanges' tables: kombu leaves it there, and adds it at each binding."""
        for exchange in self._transport.state.exchanges.values():
            exchange["table"][:] = [route for route in exchange["table"] if route[2] != queue]

    @property
    def _client(self) -> Client:
        client: Client = self._transport.kafka_client
        return client
