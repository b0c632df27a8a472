"""Records that somebody else wrote to our topics: none may end a worker, or the thread that reads them."""

from collections.abc import Iterator
from typing import Any

import pytest

import dccf.transport
from dccf.local.kafka import KafkaCluster
from dccf.transport.records import OutgoingRecord

from .kafkahelp import Collector, Exchange, Producer, Queue, connected, publish, unique, work_queue
from .waiting import wait_until

pytestmark = pytest.mark.kafka

_GARBAGE = {
    "no JSON": b"\xff\x00",
    "too deep": b"[" * 100_000,
    "no headers": b'{"properties": {}}',
    "headers that are none": b'{"properties": {}, "headers": 5}',
    "a wrong delivery_info": b'{"properties": {"delivery_info": []}, "headers": {}}',
    "a body that is not base64": b'{"properties": {"body_encoding": "base64"}, "headers": {}, "body": "a"}',
    "an unknown encoding": b'{"properties": {"body_encoding": "rot13"}, "headers": {}, "body": "a"}',
    "an impossible value": b'{"properties": {"a": {"__type__": "datetime", "__value__": 5}}, "headers": {}}',
}


@pytest.fixture
def connection(kafka: KafkaCluster) -> Iterator[Any]:
    with connected(kafka.bootstrap_servers) as opened:
        yield opened
    dccf.transport.close_clients()


@pytest.mark.parametrize("value", _GARBAGE.values(), ids=_GARBAGE.keys())
def test_a_record_in_a_queue_that_is_no_message_is_put_aside(connection: Any, value: bytes) -> None:
    queue = work_queue(unique("garbage"))
    client = connection.default_channel._client
    client.producer.publish([OutgoingRecord(client.ensure_queue(queue.name), value)])
    publish(connection, queue, "good")

    (message,) = Collector(connection, queue).collect(1)

    assert message.payload == "good"
    message.ack()
    wait_until(lambda: connection.default_channel._size(queue.name) == 0)


def test_a_broadcast_that_is_no_message_is_left_out(connection: Any) -> None:
    exchange = Exchange(unique("noise"), type="topic")
    queue = Queue(unique("private"), exchange, routing_key="#", auto_delete=True, durable=False)
    collector = Collector(connection, queue, no_ack=True)
    client = connection.default_channel._client
    topic = client.ensure_exchange(exchange.name)
    for value in _GARBAGE.values():
        client.producer.publish([OutgoingRecord(topic, value, b"a"), OutgoingRecord(topic, value, b"\xff")])

    Producer(connection).publish("good", exchange=exchange, routing_key="a")

    assert [message.payload for message in collector.collect(1)] == ["good"]
