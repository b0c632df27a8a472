"""Where a message goes: to the topics of work queues, to an exchange's topic for all readers, or to both."""

import re
from collections.abc import Callable
from typing import Any

from kombu.transport.virtual import exchange as virtual_exchange

from dccf.transport.names import is_reply_exchange

_TRANSIENT = 1


def is_private(*, exclusive: bool = False, auto_delete: bool = False, durable: bool = False, **_: Any) -> bool:
    """Tell whether a queue belongs to one consumer and dies with it."""
    return exclusive or (auto_delete and not durable)


def matcher(kind: str, routing_key: str, pattern: str) -> Callable[[str], bool]:
    """Return the test by which a binding chooses messages."""
    if kind == "fanout":
        return lambda _: True
    if kind == "topic":
        compiled = re.compile(pattern)
        return lambda key: compiled.match(key) is not None
    return lambda key: key == routing_key


def carries_broadcasts(kind: str, exchange: str) -> bool:
    """Tell whether private queues that are bound to an exchange read its topic."""
    return kind in ("fanout", "topic") or is_reply_exchange(exchange)


class DirectExchange(virtual_exchange.DirectExchange):
    """One routing key, one queue; replies to remote control travel on the exchange's topic."""

    def deliver(self, message: Any, exchange: str, routing_key: str, **kwargs: Any) -> None:
        """Publish a message."""
        if is_reply_exchange(exchange):
            self.channel.broadcast(exchange, message, routing_key)
        else:
            parent: Any = super()
            parent.deliver(message, exchange, routing_key, **kwargs)


class TopicExchange(virtual_exchange.TopicExchange):
    """Queues choose by pattern: private ones read the exchange's topic, work queues get a copy each."""

    def deliver(self, message: Any, exchange: str, routing_key: str, **_: Any) -> None:
        """Publish a message; a transient one without waiting."""
        self.channel.copy_to_work_queues(exchange, message, routing_key)
        wait = message["properties"].get("delivery_mode") != _TRANSIENT
        self.channel.broadcast(exchange, message, routing_key, wait=wait)


class FanoutExchange(virtual_exchange.FanoutExchange):
    """Every queue gets every message."""

    def deliver(self, message: Any, exchange: str, routing_key: str, **_: Any) -> None:
        """Publish a message."""
        self.channel.copy_to_work_queues(exchange, message, routing_key)
        self.channel.broadcast(exchange, message, routing_key)
