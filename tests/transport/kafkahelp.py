"""Connections to the tests' broker."""

import contextlib
import itertools
import os
from collections.abc import Iterator
from typing import Any

from celery import Celery
from kafka import KafkaConsumer, TopicPartition
from kombu import pools
from kombu.connection import Connection as KombuConnection
from kombu.entity import Exchange as KombuExchange
from kombu.entity import Queue as KombuQueue
from kombu.messaging import Consumer as KombuConsumer
from kombu.messaging import Producer as KombuProducer

import dccf.transport

# kombu is typed in parts only.
Connection: Any = KombuConnection
Consumer: Any = KombuConsumer
Exchange: Any = KombuExchange
Producer: Any = KombuProducer
Queue: Any = KombuQueue
_pools: Any = pools

_numbers = itertools.count(1)


def unique(name: str) -> str:
    """Return a name that no other test uses."""
    return f"{name}-{os.getpid()}-{next(_numbers)}"


def url(servers: str, prefix: str = "") -> str:
    """Return the broker's URL for kombu."""
    return f"kafka://{servers}/{prefix}"


@contextlib.contextmanager
def connected(servers: str, prefix: str = "", **options: Any) -> Iterator[Any]:
    """Yield an open kombu connection."""
    dccf.transport.register()
    with Connection(url(servers, prefix), transport_options=options) as connection:
        connection.connect()
        yield connection


@contextlib.contextmanager
def application(broker: str, queue: str, **options: Any) -> Iterator[Any]:
    """Yield a Celery application."""
    dccf.transport.register()
    app: Any = Celery(broker=broker, set_as_current=False)
    app.conf.update(task_default_queue=queue, broker_transport_options=options)
    try:
        yield app
    finally:
        close_pools(app)
        app.close()
        dccf.transport.close_clients()


def close_pools(app: Any) -> None:
    """Close an application's pools: kombu keeps them per URL for the whole process, and the next one needs new ones.

    Those of other applications in this process stay open.
    """
    ours = (app.producer_pool, app.producer_pool.connections, app.pool)
    for pool in ours:
        pool.force_close_all()
    for group in (_pools.producers, _pools.connections):
        for key in [key for key, pool in group.items() if any(pool is one for one in ours)]:
            dict.pop(group, key)


def work_queue(name: str) -> Any:
    """Return a durable queue with an exchange of its own."""
    return Queue(name, Exchange(name, type="direct"), routing_key=name)


def publish(connection: Any, queue: Any, *bodies: Any) -> None:
    """Declare a queue and publish to it."""
    producer = Producer(connection.default_channel)
    for body in bodies:
        producer.publish(body, exchange=queue.exchange, routing_key=queue.routing_key, declare=[queue])


def end_offset(servers: str, topic: str) -> int:
    """Return how many records were ever written to a topic of one partition, from Kafka itself."""
    # Its consumer speaks only when it is asked, and reads nothing.
    consumer: Any = KafkaConsumer(bootstrap_servers=servers.split(","))
    try:
        partition = TopicPartition(topic, 0)
        return int(consumer.end_offsets([partition])[partition])
    finally:
        consumer.close()


class Collector:
    """Consumes a queue and keeps its messages."""

    def __init__(self, connection: Any, queue: Any, prefetch: int = 0, *, no_ack: bool = False) -> None:
        self.connection = connection
        self.messages: list[Any] = []
        self.channel = connection.channel()
        self.channel.basic_qos(0, prefetch, False)
        self.consumer = Consumer(self.channel, [queue], on_message=self.messages.append, no_ack=no_ack)
        self.consumer.consume()

    def collect(self, count: int, timeout_seconds: float = 20) -> list[Any]:
        """Wait until that many messages have come, and return all of them."""
        while len(self.messages) < count:
            self.connection.drain_events(timeout=timeout_seconds)
        return self.messages

    def nothing_comes(self, seconds: float = 1.5) -> bool:
        """Tell whether no message comes for a while."""
        try:
            self.connection.drain_events(timeout=seconds)
        except TimeoutError:
            return True
        return False

    def close(self) -> None:
        """Give everything back."""
        self.channel.close()
