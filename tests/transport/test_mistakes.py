"""Mistakes of people, and brokers that are away: one clear error where the person looks, and the way out of it."""

import os
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kombu.exceptions import ChannelError, OperationalError

import dccf.transport
from dccf.local.kafka import KafkaCluster
from dccf.local.kafka_settings import Access
from dccf.transport.errors import AuthenticationRefusedError, BrokerUnsupportedError, CertificateNotTrustedError

from .certificates import make_certificates
from .fleet import Fleet
from .guarded import USERS, Guarded, allow, old_broker
from .kafkahelp import (
    Collector,
    Connection,
    Exchange,
    Producer,
    Queue,
    application,
    connected,
    publish,
    unique,
    work_queue,
)
from .waiting import wait_until

pytestmark = pytest.mark.kafka

_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_WRONG = "not-the-password"


@pytest.fixture(scope="module")
def guarded(kafka_installed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    certificates = make_certificates(folder / "certificates")
    listeners = {"LOGIN": "SASL_PLAINTEXT", "TLS": "SSL", "SASL_TLS": "SASL_SSL"}
    access = Access(listeners, USERS, certificates.broker, authorize=True)
    with KafkaCluster(folder / "kafka", access=access) as cluster:
        allow(cluster, "alice")
        yield Guarded(cluster, certificates)


@pytest.fixture(autouse=True)
def _no_client_is_left() -> Iterator[None]:
    yield
    dccf.transport.close_clients()


def send(url: str, **options: Any) -> None:
    """Send a task as an application does."""
    at_once = {"max_retries": 0, "interval_start": 0}
    with application(url, "mistakes", **at_once, **options) as app:
        app.send_task("task", ("x",), retry=False)


def refused(kind: type[BaseException], url: str, **options: Any) -> str:
    """Return the words of the error that sending a task raises; they must not contain a password."""
    with pytest.raises(kind) as caught:
        send(url, **options)
    whole = "".join(traceback.format_exception(caught.value))
    assert _WRONG not in whole
    return str(caught.value)


def round_trip(url: str, **options: Any) -> None:
    """Publish, consume and acknowledge one message, purge and delete the queue."""
    dccf.transport.register()
    queue = work_queue(unique("trip"))
    with Connection(url, transport_options=options) as connection:
        publish(connection, queue, "there and back")
        collector = Collector(connection, queue)
        message = collector.collect(1)[0]
        assert message.payload == "there and back"
        message.ack()
        wait_until(lambda: connection.default_channel._size(queue.name) == 0)
        collector.close()
        connection.default_channel.queue_purge(queue.name)
        connection.default_channel.queue_delete(queue.name)


# Brokers that cannot ---------------------------------------------------------------------------------------------


def test_share_groups_that_are_switched_off_are_said(kafka_installed: None, tmp_path: Path) -> None:
    with KafkaCluster(tmp_path, features={"share.version": 0}) as cluster:
        words = refused(BrokerUnsupportedError, f"kafka://{cluster.bootstrap_servers}")

    assert "share groups are switched off" in words
    assert "kafka-features.sh" in words
    assert "share.version=1" in words


def test_a_broker_that_is_too_old_is_said() -> None:
    with old_broker() as server:
        words = refused(BrokerUnsupportedError, f"kafka://{server}")

    assert "no share groups" in words
    assert "Kafka 4.2 or newer is needed" in words
    assert "what Kafka 3." in words or "what Kafka 2." in words


# Addresses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("server", "way_out"),
    [("no-such-host.invalid:9092", "check the host name"), ("127.0.0.1:1", "check host and port")],
)
def test_a_wrong_address_is_said(server: str, way_out: str) -> None:
    words = refused(OperationalError, f"kafka://me:{_WRONG}@{server}")

    assert f"no Kafka broker answers at {server}" in words
    assert way_out in words


@pytest.mark.parametrize(
    "url",
    [
        f"kafka://me:{_WRONG}/more@host",
        f"kafka://me:{_WRONG}#more@host",
        f"kafka://me:{_WRONG}?more@host",
        f"kafka://me:{_WRONG}",
        f"kafka://me:{_WRONG};more@host",
        f"kafka://me:{_WRONG}@host:{_WRONG}",
    ],
)
def test_a_url_that_cannot_be_read_is_not_repeated(url: str) -> None:
    words = refused(ValueError, url)

    assert "user" in words


# Passwords and certificates --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mechanism", _MECHANISMS)
def test_a_wrong_password_is_said(guarded: Guarded, mechanism: str) -> None:
    words = refused(AuthenticationRefusedError, guarded.url("LOGIN", "alice", _WRONG), sasl_mechanism=mechanism)

    assert "check the user and password of the URL" in words


@pytest.mark.parametrize(
    ("user", "password", "error", "way_out"),
    [
        ("alice", _WRONG, "AuthenticationRefusedError", "check the user and password of the URL"),
        ("bob", None, "ChannelError", "ACLs that docs/transport.md lists"),
    ],
)
def test_a_worker_that_may_not_come_in_ends_and_says_why(
    guarded: Guarded, user: str, password: str | None, error: str, way_out: str
) -> None:
    environment = os.environ | {
        "FAULT_BROKER": guarded.url("LOGIN", user, password),
        "FAULT_QUEUE": "mistakes",
        "FAULT_FILE": os.devnull,
    }
    command = [sys.executable, "-m", "celery", "-A", "fault_app", "worker", "-c", "1"]
    done = subprocess.run(
        command, cwd=Path(__file__).parent, env=environment, capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode != 0
    assert error in done.stderr
    assert way_out in done.stderr
    assert (password or USERS[user]) not in done.stdout + done.stderr


def test_a_password_that_is_missing_or_not_wanted_is_said(guarded: Guarded) -> None:
    words = refused(OperationalError, guarded.url("LOGIN"))
    assert "wants a user (kafka://user:password@host)" in words

    words = refused(AuthenticationRefusedError, f"kafka://me:{_WRONG}@{guarded.cluster.bootstrap_servers}")
    assert "takes no password" in words


def test_a_certificate_that_nobody_known_signed_is_said(guarded: Guarded) -> None:
    words = refused(CertificateNotTrustedError, guarded.url("TLS"))

    assert "ssl_cafile" in words


def test_tls_on_the_wrong_port_is_said(guarded: Guarded) -> None:
    words = refused(OperationalError, guarded.url("TLS").replace("kafka+ssl", "kafka"))
    assert "use kafka+ssl://" in words

    words = refused(OperationalError, f"kafka+ssl://{guarded.cluster.bootstrap_servers}", ssl_cafile=guarded.ca_file)
    assert "use kafka:// without +ssl" in words


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_certificate_file_that_cannot_be_used_is_named(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "authority.pem"
    if content is not None:
        path.write_text(content)

    words = refused(ValueError, "kafka+ssl://127.0.0.1:1", ssl_cafile=str(path))

    assert "ssl_cafile" in words
    assert str(path) in words


def test_a_trusted_certificate_lets_messages_through(guarded: Guarded) -> None:
    round_trip(guarded.url("TLS"), ssl_cafile=guarded.ca_file)
    round_trip(guarded.url("SASL_TLS", "alice"), ssl_cafile=guarded.ca_file)


@pytest.mark.parametrize("mechanism", _MECHANISMS)
def test_every_mechanism_lets_messages_through(guarded: Guarded, mechanism: str) -> None:
    round_trip(guarded.url("LOGIN", "alice"), sasl_mechanism=mechanism)


# What the cluster refuses ----------------------------------------------------------------------------------------


def test_a_topic_that_may_not_be_created_is_said(guarded: Guarded) -> None:
    words = refused(ChannelError, guarded.url("LOGIN", "bob"))

    assert "cannot create topic shop.q.mistakes" in words
    assert "ACLs that docs/transport.md lists" in words


def test_more_copies_than_brokers_are_said(kafka: KafkaCluster) -> None:
    words = refused(ChannelError, f"kafka://{kafka.bootstrap_servers}/{unique('copies')}", replication_factor=3)

    assert "set replication_factor to at most the number of brokers" in words


def test_a_task_that_is_too_large_is_refused_and_the_application_goes_on(kafka: KafkaCluster) -> None:
    queue = unique("large")
    with application(f"kafka://{kafka.bootstrap_servers}", queue) as app:
        with pytest.raises(ChannelError, match=r"message\.max\.bytes"):
            app.send_task("task", ("x" * 2_000_000,))

        app.send_task("task", ("small",))
    with connected(kafka.bootstrap_servers) as connection:
        assert connection.default_channel._size(queue) == 1


# Names -----------------------------------------------------------------------------------------------------------


def test_queues_whose_names_are_no_topic_names_work_and_stay_apart(kafka: KafkaCluster) -> None:
    names = ["celery@host", "über alles/ja", "a.b", "a_b", "_2Eb", "x" * 100]
    prefix = unique("names")
    with connected(kafka.bootstrap_servers, prefix) as connection:
        for name in names:
            publish(connection, work_queue(name), name)
        for name in names:
            message = Collector(connection, work_queue(name)).collect(1)[0]
            assert message.payload == name
            message.ack()
        known = connection.default_channel._client.admin.known_topics
        ours = connection.default_channel._client.settings.names

        assert {ours.queue_of(topic) for topic in known if ".q." in topic} == set(names)


def test_a_queue_name_that_is_too_long_is_said(kafka: KafkaCluster) -> None:
    with (
        connected(kafka.bootstrap_servers) as connection,
        pytest.raises(ValueError, match="too long: 308 characters as a topic, 249 allowed"),
    ):
        publish(connection, work_queue("x" * 300), 1)


@pytest.mark.parametrize(("dead", "match"), [("x" * 300, "too long"), ("", "needs a name"), ("own", "its own")])
def test_a_dead_letter_queue_that_cannot_be_is_said_at_once(kafka: KafkaCluster, dead: str, match: str) -> None:
    with (
        connected(kafka.bootstrap_servers, "dead-letters", queues={"own": {"dead_letter_queue": dead}}) as connection,
        pytest.raises(ValueError, match=match),
    ):
        Collector(connection, work_queue("own"))


def test_two_applications_with_the_same_names_do_not_hear_each_other(kafka: KafkaCluster) -> None:
    exchange = Exchange(unique("same"), type="fanout")
    queue = Queue(unique("same"), exchange, auto_delete=True, durable=False)
    with connected(kafka.bootstrap_servers, "one") as one, connected(kafka.bootstrap_servers, "two") as two:
        collectors = {connection: Collector(connection, queue, no_ack=True) for connection in (one, two)}
        for connection, text in ((one, "for one"), (two, "for two")):
            Producer(connection).publish(text, exchange=exchange, routing_key="")

        for connection, text in ((one, "for one"), (two, "for two")):
            assert [message.payload for message in collectors[connection].collect(1)] == [text]
            assert collectors[connection].nothing_comes(0.5)


# A broker that is away -------------------------------------------------------------------------------------------


def test_a_worker_waits_for_a_broker_that_comes_later(own_kafka: KafkaCluster, own_fleet: Fleet) -> None:
    own_kafka.stop()
    own_fleet.launch("early")
    log = own_fleet.folder / "early.log"
    wait_until(lambda: "check host and port" in log.read_text(), 60)

    own_kafka.start()

    own_fleet.wait_for("early")
    own_fleet.send(5)
    own_fleet.wait_for_all()


def test_publishing_without_a_broker_raises_and_works_again_when_it_is_back(own_kafka: KafkaCluster) -> None:
    queue = work_queue(unique("away"))
    with connected(own_kafka.bootstrap_servers, delivery_timeout_ms=1000) as connection:
        publish(connection, queue, "before")
        own_kafka.kill()
        for _ in range(3):
            with pytest.raises(OperationalError, match="not confirmed by Kafka"):
                publish(connection, queue, "lost, and said so")
        own_kafka.restart()
        publish(connection, queue, "after")

        collector = Collector(connection, queue)
        assert [message.payload for message in collector.collect(2)] == ["before", "after"]
        for message in collector.messages:
            message.ack()


def test_an_acknowledgement_without_a_broker_is_not_lost_work(own_kafka: KafkaCluster) -> None:
    queue = work_queue(unique("ack-away"))
    with connected(own_kafka.bootstrap_servers) as connection:
        publish(connection, queue, "once or twice")
        collector = Collector(connection, queue)
        message = collector.collect(1)[0]
        own_kafka.kill()
        message.ack()
        own_kafka.restart()

        again = collector.collect(2)[1]
        assert again.payload == "once or twice"
        again.ack()
        wait_until(lambda: connection.default_channel._size(queue.name) == 0)
