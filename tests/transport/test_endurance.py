"""What has to hold for months: waits that end, memory that has an end, connections that are noticed to be gone."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from kombu.exceptions import OperationalError

import dccf.transport
from dccf.local.kafka import KafkaCluster
from dccf.transport import inbox
from dccf.transport.settings import Security
from dccf.transport.wire import Connection

from .kafkahelp import Collector, Exchange, Queue, connected, publish, unique, work_queue
from .waiting import wait_until

pytestmark = pytest.mark.kafka


@pytest.fixture
def connection(kafka: KafkaCluster) -> Iterator[Any]:
    with connected(kafka.bootstrap_servers) as opened:
        yield opened
    dccf.transport.close_clients()


def test_a_wait_ends_although_signals_come_for_what_cannot_be_delivered(connection: Any) -> None:
    wake_up = connection.transport.wake_up
    ended = threading.Event()

    def signal() -> None:
        while not ended.wait(0.1):
            wake_up.signal()

    signals = threading.Thread(target=signal)
    signals.start()
    # Without an end the drain would go on for ever: this one ends it, and it is then too late.
    last = threading.Timer(30, ended.set)
    last.start()
    with pytest.raises(TimeoutError):
        connection.drain_events(timeout=0.5)
    in_time = not ended.is_set()
    ended.set()
    last.cancel()
    signals.join(10)
    assert in_time


def test_a_consumer_does_not_wait_for_an_administration_that_hangs(connection: Any) -> None:
    queue = work_queue(unique("busy"))
    publish(connection, queue, "held")
    collector = Collector(connection, queue)
    (held,) = collector.collect(1)
    consumer = collector.channel.intake.consumers[queue.name]
    client = connection.default_channel._client
    with client.admin._lock:  # as while another queue's broker does not answer
        # Looks at the window begin when a record is held for longer than a second.
        wait_until(lambda: time.monotonic() - consumer.held()[0].acquired_at > 2)
        publish(connection, queue, "later")
        assert collector.collect(2)[1].payload == "later"
    for message in (held, collector.messages[1]):
        message.ack()


def test_a_cancelled_consumer_leaves_its_partitions_to_others_and_finishes_what_it_holds(kafka: KafkaCluster) -> None:
    queue = work_queue(unique("partitions"))
    with (
        connected(kafka.bootstrap_servers, partitions=2) as connection,
        connected(kafka.bootstrap_servers, partitions=2) as another,
    ):
        publish(connection, queue, "held")
        paused = Collector(connection, queue)
        (held,) = paused.collect(1)
        other = Collector(another, queue)
        paused.consumer.cancel()
        publish(connection, queue, *range(20))

        other.collect(20, timeout_seconds=40)

        consumer = paused.channel.intake.consumers[queue.name]
        held.ack()
        for message in other.messages:
            message.ack()
        wait_until(lambda: connection.default_channel._size(queue.name) == 0)
        assert consumer.counts.refused_acknowledgements == 0
        paused.consumer.consume()
        other.consumer.cancel()
        publish(connection, queue, *range(4))
        for message in paused.collect(5, timeout_seconds=40)[1:]:
            message.ack()
    dccf.transport.close_clients()


def test_a_member_without_a_topic_asks_once_a_second(connection: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = work_queue(unique("gone"))
    publish(connection, queue, "first")
    collector = Collector(connection, queue)
    collector.collect(1)[0].ack()
    membership = collector.channel.intake.consumers[queue.name]._membership
    connection.default_channel.queue_delete(queue.name)
    wait_until(lambda: not membership.partitions)
    asked: list[int] = []
    ask = membership._cluster.ask

    def count(*arguments: Any) -> Any:
        asked.append(1)
        return ask(*arguments)

    time.sleep(1)
    monkeypatch.setattr(membership._cluster, "ask", count)
    time.sleep(2)
    assert len(asked) <= 10, "every 30 ms before"
    connection.default_channel._client.create_queue(queue.name)
    publish(connection, queue, "second")
    assert collector.collect(2)[1].payload == "second"
    collector.messages[1].ack()


def test_inspecting_again_and_again_leaves_no_routes_behind(connection: Any) -> None:
    exchange = Exchange(unique("direct"), type="topic")
    queue = Queue(unique("reply"), exchange, auto_delete=True, durable=False)
    channel = connection.channel()
    for _ in range(3):
        queue(channel).declare()
        channel.queue_delete(queue.name)
    assert channel.get_table(exchange.name) == []
    channel.close()


def test_an_auto_delete_queue_ends_with_its_consumer(connection: Any) -> None:
    exchange = Exchange(unique("events"), type="fanout")
    queue = Queue(unique("private"), exchange, auto_delete=True, durable=False)
    collector = Collector(connection, queue, no_ack=True)
    subscribed = connection.transport.subscribed
    assert queue.name in subscribed

    collector.consumer.cancel()

    assert subscribed == {}
    again = Collector(connection, queue, no_ack=True)
    publish(connection, queue, "heard")
    assert again.collect(1)[0].payload == "heard"


def test_broadcasts_that_nobody_takes_have_an_end(caplog: pytest.LogCaptureFixture) -> None:
    wake_up = inbox.WakeUp()
    queue = inbox.PrivateQueue("events", wake_up)
    for number in range(inbox.MOST_WAITING + 3):
        queue.put(b"%d" % number)

    assert (len(queue.waiting), queue.waiting[0]) == (inbox.MOST_WAITING, b"3")
    assert caplog.text.count("wait for its consumer") == 1


def test_a_sender_whose_clock_is_wrong_is_served(connection: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 7200)
    queue = work_queue(unique("clock"))

    publish(connection, queue, "from the future")

    Collector(connection, queue).collect(1)[0].ack()


def test_many_messages_that_are_held_at_once_are_said_before_the_queue_stands_still(
    kafka: KafkaCluster, caplog: pytest.LogCaptureFixture
) -> None:
    name = unique("eta")
    with connected(kafka.bootstrap_servers, max_record_locks=100) as connection:
        publish(connection, work_queue(name), *range(60))
        collector = Collector(connection, work_queue(name))
        collector.collect(60)

        wait_until(lambda: "60 messages are held here" in caplog.text)

        for message in collector.messages:
            message.ack()
    dccf.transport.close_clients()


def test_a_connection_that_a_forked_process_has_a_copy_of_is_closed_for_the_broker(kafka: KafkaCluster) -> None:
    host, port = kafka.bootstrap_servers.split(":")
    connection = Connection((host, int(port)), Security(), "test", 3000)
    assert connection._socket is not None
    copy = socket.socket(fileno=os.dup(connection._socket.fileno()))
    copy.settimeout(10)
    assert copy.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60

    connection.close()

    assert copy.recv(1) == b""
    copy.close()


def test_a_broker_that_goes_away_after_connecting_makes_a_worker_connect_again(own_kafka: KafkaCluster) -> None:
    queue = work_queue(unique("vanished"))
    with connected(own_kafka.bootstrap_servers, delivery_timeout_ms=1000) as connection:
        own_kafka.kill()
        with pytest.raises(OperationalError, match="cannot create topic") as raised:
            Collector(connection, queue)
        # Celery's worker begins anew after these, and ends after any other.
        assert isinstance(raised.value, connection.connection_errors)
    dccf.transport.close_clients()
