"""The transport under kombu, on a real broker."""

import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from kombu.exceptions import ChannelError, OperationalError

import dccf.transport
from dccf.local.kafka import KafkaCluster
from dccf.transport.records import DELIVERY_COUNT, SETTLE, OutgoingRecord, encode_message

from .kafkahelp import Collector, Connection, Exchange, Producer, Queue, connected, publish, unique, work_queue
from .waiting import wait_until

pytestmark = pytest.mark.kafka


@pytest.fixture
def connection(kafka: KafkaCluster) -> Iterator[Any]:
    with connected(kafka.bootstrap_servers) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    dccf.transport.close_clients()
    wait_until(lambda: not [t for t in threading.enumerate() if t.name.startswith("kafka-")])


def test_a_message_is_delivered_once_and_finished_by_its_acknowledgement(connection: Any) -> None:
    queue = work_queue(unique("ack"))
    publish(connection, queue, {"n": 1})
    collector = Collector(connection, queue)

    message = collector.collect(1)[0]
    assert message.payload == {"n": 1}
    assert not message.delivery_info["redelivered"]
    message.ack()

    channel = connection.default_channel
    wait_until(lambda: channel._size(queue.name) == 0)
    assert collector.nothing_comes()


def test_bytes_and_headers_survive(connection: Any) -> None:
    queue = work_queue(unique("bytes"))
    Producer(connection).publish(
        b"\x00\xff", exchange=queue.exchange, routing_key=queue.name, declare=[queue], headers={"a": "ü"}
    )
    message = Collector(connection, queue).collect(1)[0]

    assert bytes(message.body) == b"\x00\xff"
    assert message.headers == {"a": "ü"}
    message.ack()


def test_requeueing_a_hundred_times_loses_nothing_and_counts(connection: Any) -> None:
    queue = work_queue(unique("requeue"))
    publish(connection, queue, "again")
    collector = Collector(connection, queue, prefetch=1)

    counts = []
    for turn in range(100):
        message = collector.collect(turn + 1)[-1]
        counts.append(message.headers.get(DELIVERY_COUNT, 0))
        message.requeue()
    message = collector.collect(101)[-1]
    message.ack()

    assert counts == list(range(100))
    wait_until(lambda: connection.default_channel._size(queue.name) == 0)


def test_a_rejected_message_goes_to_the_dead_letter_queue(kafka: KafkaCluster) -> None:
    name, dead = unique("poison"), unique("dead")
    with connected(kafka.bootstrap_servers, queues={name: {"dead_letter_queue": dead}}) as connection:
        queue = work_queue(name)
        publish(connection, queue, "bad")
        Collector(connection, queue).collect(1)[0].reject()

        message = Collector(connection, work_queue(dead)).collect(1)[0]

        assert message.payload == "bad"
        message.ack()
        wait_until(lambda: connection.default_channel._size(name) == 0)


def test_a_message_over_its_limit_of_deliveries_is_put_aside(kafka: KafkaCluster) -> None:
    name, dead = unique("limited"), unique("dead")
    special = {name: {"max_deliveries": 3, "dead_letter_queue": dead}}
    with connected(kafka.bootstrap_servers, queues=special) as connection:
        queue = work_queue(name)
        publish(connection, queue, "poison")
        collector = Collector(connection, queue)
        for turn in range(3):
            collector.collect(turn + 1)[-1].requeue()

        Collector(connection, work_queue(dead)).collect(1)[0].ack()

        assert len(collector.messages) == 3


def test_unacknowledged_messages_come_back_when_a_channel_closes(connection: Any) -> None:
    queue = work_queue(unique("close"))
    publish(connection, queue, *range(5))
    first = Collector(connection, queue)
    first.collect(5)
    first.close()

    again = Collector(connection, queue).collect(5)

    assert sorted(message.payload for message in again) == list(range(5))
    assert all(message.delivery_info["redelivered"] for message in again)
    for message in again:
        message.ack()


def test_prefetch_is_a_limit(connection: Any) -> None:
    queue = work_queue(unique("prefetch"))
    publish(connection, queue, *range(5))
    collector = Collector(connection, queue, prefetch=2)
    collector.collect(2)

    assert collector.nothing_comes()

    collector.messages[0].ack()
    assert len(collector.collect(3)) == 3


def test_what_was_read_ahead_goes_to_others_when_a_task_gets_long(kafka: KafkaCluster) -> None:
    # Waiting for a slot alone would keep the messages for a minute, which is longer than the other one waits.
    with connected(kafka.bootstrap_servers, read_ahead_ms=500, give_back_after_ms=60_000) as connection:
        queue = work_queue(unique("mixed"))
        publish(connection, queue, *range(40))
        first = Collector(connection, queue, prefetch=1)
        for turn in range(40):
            first.collect(turn + 1)[-1].ack()
        publish(connection, queue, *range(40, 60))
        acquired = first.channel.intake.consumers[queue.name].counts
        wait_until(lambda: acquired.acquired > 41)
        long = first.collect(41)[-1]

        other = Collector(connection, queue, prefetch=1)
        for turn in range(19):
            other.collect(turn + 1)[-1].ack()

        assert len(first.messages) == 41, "its slot is taken"
        assert {message.payload for message in other.messages} == set(range(40, 60)) - {long.payload}
        long.ack()
        wait_until(lambda: connection.default_channel._size(queue.name) == 0)


def test_settled_by_delivery_a_message_is_finished_when_handed_over(kafka: KafkaCluster) -> None:
    name = unique("hint")
    with connected(kafka.bootstrap_servers, queues={name: {"settle": "delivery"}}) as connection:
        queue = work_queue(name)
        publish(connection, queue, 1, 2)
        collector = Collector(connection, queue, prefetch=1)
        collector.collect(1)

        wait_until(lambda: connection.default_channel._size(name) == 1)
        assert collector.nothing_comes(), "the slot is taken until the acknowledgement"

        collector.messages[0].ack()
        assert [message.payload for message in collector.collect(2)] == [1, 2]
        collector.messages[1].requeue()
        assert collector.collect(3)[-1].payload == 2


def test_a_sender_may_say_that_a_message_is_finished_when_handed_over(connection: Any) -> None:
    name = unique("chosen")
    queue = work_queue(name)
    publish(connection, queue, "held")
    Producer(connection.default_channel).publish("hint", routing_key=name, headers={SETTLE: "delivery"})
    collector = Collector(connection, queue)
    held, hint = collector.collect(2)

    wait_until(lambda: connection.default_channel._size(name) == 1)
    assert (held.payload, hint.payload) == ("held", "hint")
    hint.requeue()
    assert collector.collect(3)[-1].payload == "hint", "handed over is not lost: it can be given back"
    held.ack()


def test_every_consumer_of_a_fanout_exchange_gets_every_message(connection: Any) -> None:
    exchange = Exchange(unique("fan"), type="fanout")
    queues = [Queue(unique("private"), exchange, auto_delete=True, durable=False) for _ in range(2)]
    durable = Queue(unique("durable"), exchange)
    collectors = [Collector(connection, queue, no_ack=True) for queue in queues]
    durable(connection.default_channel).declare()

    Producer(connection).publish("all", exchange=exchange, routing_key="")

    for collector in (*collectors, Collector(connection, durable)):
        collected = collector.collect(1)
        assert [message.payload for message in collected] == ["all"]
    assert not any(connection.default_channel._client.admin.topic_exists(f"kombu.q.{queue.name}") for queue in queues)


def test_a_broadcast_between_binding_and_consuming_is_kept(connection: Any) -> None:
    exchange = Exchange(unique("early"), type="fanout")
    queue = Queue(unique("private"), exchange, auto_delete=True, durable=False)
    Producer(connection).publish("before", exchange=exchange, routing_key="", declare=[exchange])
    queue(connection.default_channel).declare()
    Producer(connection).publish("after", exchange=exchange, routing_key="")
    queue(connection.default_channel).declare()

    collector = Collector(connection, queue, no_ack=True)

    assert [message.payload for message in collector.collect(1)] == ["after"]


def test_a_topic_exchange_chooses_by_pattern(connection: Any) -> None:
    exchange = Exchange(unique("topic"), type="topic")
    queue = Queue(unique("private"), exchange, routing_key="task.#", auto_delete=True, durable=False)
    collector = Collector(connection, queue, no_ack=True)
    for key in ("worker.online", "task.sent"):
        Producer(connection).publish(key, exchange=exchange, routing_key=key, delivery_mode=1)

    assert [message.payload for message in collector.collect(1)] == ["task.sent"]


def test_purging_says_how_many_and_leaves_nothing(connection: Any) -> None:
    queue = work_queue(unique("purge"))
    publish(connection, queue, *range(7))
    channel = connection.default_channel

    assert channel.queue_declare(unique("new")).message_count == 0
    assert channel.queue_declare(queue.name).message_count == 7
    assert channel.queue_purge(queue.name) == 7
    assert channel._size(queue.name) == 0
    assert channel.queue_declare(queue.name, passive=True).message_count == 0


def test_a_queue_that_does_not_exist_is_said(connection: Any) -> None:
    with pytest.raises(ChannelError, match="NOT_FOUND"):
        connection.default_channel.queue_declare(unique("missing"), passive=True)


def test_a_deleted_queue_is_gone_and_can_be_declared_again(connection: Any) -> None:
    queue = work_queue(unique("deleted"))
    publish(connection, queue, 1)
    channel = connection.default_channel
    channel.queue_delete(queue.name)
    with pytest.raises(ChannelError, match="NOT_FOUND"):
        channel.queue_declare(queue.name, passive=True)

    queue(channel).declare()

    wait_until(lambda: channel._size(queue.name) == 0)


def test_prefixes_keep_applications_apart(kafka: KafkaCluster) -> None:
    queue = work_queue(unique("shared"))
    with connected(kafka.bootstrap_servers, "one") as one, connected(kafka.bootstrap_servers, "two") as two:
        publish(one, queue, "for one")
        publish(two, queue, "for two")

        assert [message.payload for message in Collector(two, queue).collect(1)] == ["for two"]


def test_a_message_that_is_too_large_is_refused_and_spares_the_others(connection: Any) -> None:
    queue = work_queue(unique("large"))
    with pytest.raises(ChannelError, match="MessageSizeTooLarge"):
        publish(connection, queue, "x" * 2_000_000)

    publish(connection, queue, "small")

    assert connection.default_channel._size(queue.name) == 1


def test_many_threads_publish_through_one_client(kafka: KafkaCluster) -> None:
    queue = work_queue(unique("threads"))

    def send() -> None:
        with connected(kafka.bootstrap_servers) as own:
            publish(own, queue, *range(50))

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    with connected(kafka.bootstrap_servers) as connection:
        assert connection.default_channel._size(queue.name) == 200


def test_a_forked_child_publishes_and_leaves_the_parent_alone(connection: Any) -> None:
    queue = work_queue(unique("fork"))
    publish(connection, queue, "parent")
    collector = Collector(connection, queue)
    message = collector.collect(1)[0]
    child = os.fork()
    if child == 0:
        try:
            message.ack()
            publish(connection, queue, "child")
            dccf.transport.close_clients()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    assert collector.collect(2)[1].payload == "child"
    assert connection.default_channel._size(queue.name) == 2, "the child's acknowledgement must not count"
    publish(connection, queue, "parent again")
    assert collector.collect(3)[2].payload == "parent again"
    for received in collector.messages:
        received.ack()


def test_a_broker_that_is_not_there_is_an_operational_error() -> None:
    dccf.transport.register()
    with (
        Connection("kafka://127.0.0.1:1") as connection,
        pytest.raises(OperationalError, match=r"127\.0\.0\.1:1"),
    ):
        connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0)


@pytest.mark.soak
def test_a_held_record_is_renewed_beyond_its_lock(kafka: KafkaCluster) -> None:
    with connected(kafka.bootstrap_servers, lock_duration_ms=15_000) as connection:
        queue = work_queue(unique("long"))
        publish(connection, queue, "long")
        collector = Collector(connection, queue)
        message = collector.collect(1)[0]
        other = Collector(connection, queue)
        deadline = time.monotonic() + float(os.environ.get("DCCF_LONG_SECONDS", "60"))
        while time.monotonic() < deadline:
            assert other.nothing_comes(5)
        message.ack()
        wait_until(lambda: connection.default_channel._size(queue.name) == 0)


@pytest.mark.parametrize("settle", ["ack", "delivery"])
def test_a_record_held_while_thousands_finish(
    kafka: KafkaCluster, settle: str, caplog: pytest.LogCaptureFixture
) -> None:
    name = unique("window")
    with connected(kafka.bootstrap_servers, queues={name: {"settle": settle}}) as connection:
        queue = work_queue(name)
        channel = connection.default_channel
        publish(connection, queue, "held")
        collector = Collector(connection, queue, prefetch=1000)
        collector.collect(1)
        body = channel.prepare_message("x", content_type="text/plain", content_encoding="utf-8")
        body["properties"]["delivery_info"] = {"exchange": "", "routing_key": name}
        record = OutgoingRecord(channel._client.ensure_queue(name), encode_message(body))
        for _ in range(10):
            channel._client.producer.publish([record] * 500)

        def finish(count: int) -> None:
            for number in range(len(collector.messages) + 1, count + 2):
                collector.collect(number)[-1].ack()

        if settle == "ack":
            # The broker hands out no more than its 4,000 locks from the oldest unfinished record on.
            finish(3000)
            wait_until(lambda: "is held for" in caplog.text)
            collector.messages[0].ack()
        finish(5000)

        assert ("is held for" in caplog.text) is (settle == "ack")
        if settle == "delivery":
            collector.messages[0].ack()
        wait_until(lambda: channel._size(name) == 0)
