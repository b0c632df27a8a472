"""What can be decided without a broker."""

import inspect
import logging
import re
import uuid
from pathlib import Path
from typing import Any

import pytest

import dccf.transport
from dccf.transport import acknowledgements, errors, names, options, readahead, records, settings
from dccf.transport.options import Settle
from dccf.transport.protocol import Acknowledgement, kafka_errors

from . import guarded
from .kafkahelp import Connection


@pytest.mark.parametrize(
    "name", ["celery", "my_queue", "my.queue", "celery@host", "_40", "__4F", "_4@", "ü", "a b/c", "_", "_5F40"]
)
def test_escaping_is_reversible_and_legal(name: str) -> None:
    escaped = names.escape(name)

    assert names.unescape(escaped) == name
    assert set(escaped) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")


def test_names_that_kafka_takes_for_equal_get_different_topics() -> None:
    here = names.Names("app")

    assert here.queue_topic("a.b").replace(".", "_") != here.queue_topic("a_b").replace(".", "_")
    assert here.queue_of(here.queue_topic("celery@host")) == "celery@host"


def test_a_name_that_is_too_long_is_said() -> None:
    with pytest.raises(ValueError, match="too long"):
        names.Names().queue_topic("q" * 300)


def test_every_error_of_kafka_is_mapped_or_ignored_on_purpose() -> None:
    known: set[Any] = {
        kind
        for kind in vars(kafka_errors).values()
        if inspect.isclass(kind) and issubclass(kind, kafka_errors.KafkaError)
    }
    mapped = {kind.__name__ for kind in known if errors.meaning_of(kind) is not None}

    assert mapped | errors.IGNORED == {kind.__name__ for kind in known}
    assert not mapped & errors.IGNORED


def test_unknown_options_and_wrong_values_are_named() -> None:
    with pytest.raises(ValueError, match="prefetch"):
        options.read_options({"prefetch": 1})
    with pytest.raises(ValueError, match="partitions must be int"):
        options.read_options({"partitions": "3"})
    with pytest.raises(ValueError, match="lock_duration_ms must be 15000 to 60000"):
        options.read_options({"lock_duration_ms": 1000})
    with pytest.raises(ValueError, match="settle must be one of"):
        options.read_options({"settle": "never"})
    with pytest.raises(ValueError, match="'client_id' is not an option of a queue"):
        options.read_options({"queues": {"a": {"client_id": "x"}}})


def test_options_of_one_queue_override_the_defaults() -> None:
    read = options.read_options({"partitions": 2, "queues": {"fast": {"settle": "delivery"}}})

    assert read.queue("fast").settle is Settle.DELIVERY
    assert read.queue("fast").partitions == 2
    assert read.queue("other").settle is Settle.ACK


@pytest.mark.parametrize(
    ("url", "servers", "prefix", "protocol"),
    [
        ("kafka://", (("localhost", 9092),), "kombu", "PLAINTEXT"),
        ("kafka://b1:1", (("b1", 1),), "kombu", "PLAINTEXT"),
        ("kafka://b1:1/shop;kafka://b2:2/shop", (("b1", 1), ("b2", 2)), "shop", "PLAINTEXT"),
        ("kafka://me:s%40cret@b1", (("b1", 9092),), "kombu", "SASL_PLAINTEXT"),
        ("kafka+ssl://b1", (("b1", 9092),), "kombu", "SSL"),
        ("kafka+ssl://me:secret@b1:7/x", (("b1", 7),), "x", "SASL_SSL"),
    ],
)
def test_urls(url: str, servers: Any, prefix: str, protocol: str) -> None:
    dccf.transport.register()
    found = Connection(url).transport.settings

    assert found.servers == servers
    assert found.names.prefix == prefix
    assert found.security.protocol == protocol
    if "secret" in url or "s%40cret" in url:
        assert found.security.password in ("secret", "s@cret")


def test_bootstrap_servers_replace_those_of_the_url() -> None:
    dccf.transport.register()
    connection = Connection("kafka://ignored", transport_options={"bootstrap_servers": ["a:1", "b"]})

    assert connection.transport.settings.servers == (("a", 1), ("b", 9092))


@pytest.mark.parametrize("url", ["kafka://me:secret@b1:1/x", "kafka+ssl://me:secret@b1;kafka+ssl://me:secret@b2"])
def test_passwords_are_hidden(url: str) -> None:
    dccf.transport.register()
    connection = Connection(url)

    assert "secret" not in connection.as_uri()
    assert "me:**@b1" in connection.as_uri()
    assert "secret" in connection.as_uri(include_password=True)
    assert "secret" not in repr(connection.transport.settings)
    assert settings.masked_url(url).count("**") == url.count("secret")


def test_register_replaces_the_alias_and_silences_the_library() -> None:
    dccf.transport.register()

    assert Connection("kafka://").transport_cls == "kafka"
    assert type(Connection("kafka://").transport).__module__ == "dccf.transport.transport"
    assert logging.getLogger("kafka").getEffectiveLevel() >= logging.WARNING


def test_neighbouring_offsets_travel_as_one_range() -> None:
    accept, reject = Acknowledgement.ACCEPT, Acknowledgement.REJECT

    assert acknowledgements.ranges({3: accept, 1: accept, 2: accept, 5: accept, 6: reject}) == [
        (1, 3, accept),
        (5, 5, accept),
        (6, 6, reject),
    ]


def test_the_last_word_about_a_record_counts() -> None:
    topic = uuid.uuid4()
    renew, accept = Acknowledgement.RENEW, Acknowledgement.ACCEPT

    assert acknowledgements.collect([(topic, 0, 7, renew), (topic, 0, 7, accept)]) == {topic: {0: {7: accept}}}


@pytest.mark.parametrize(
    ("prefetch", "in_use", "waiting", "ahead", "queues", "expected"),
    [
        (4, 0, 0, 0, 1, 4),
        (4, 4, 0, 0, 1, 0),
        (4, 3, 0, 0, 3, 1),
        (4, 2, 1, 0, 1, 1),
        (2, 0, 0, 0, 4, 1),
        (1, 1, 0, 8, 1, 8),
        (1, 1, 4, 8, 1, 4),
        (1, 1, 5, 8, 1, 0),
        (1, 0, 2, 1, 1, 0),
        (0, 0, 0, 0, 1, 100),
        (0, 60, 40, 0, 1, 0),
    ],
)
def test_how_many_records_are_asked_for(
    prefetch: int, in_use: int, waiting: int, ahead: int, queues: int, expected: int
) -> None:
    assert expected == readahead.wanted(
        prefetch=prefetch, in_use=in_use, waiting=waiting, ahead=ahead, queues=queues, unlimited=100
    )


@pytest.mark.parametrize(
    ("prefetch", "average_seconds", "expected"), [(8, 0.004, 64), (4, 0.04, 5), (1, 0.04, 1), (1, 0.06, 0), (0, 1, 0)]
)
def test_only_what_will_have_begun_soon_is_read_ahead(prefetch: int, average_seconds: float, expected: int) -> None:
    found = readahead.ahead(prefetch=prefetch, average_seconds=average_seconds, within_ms=50, most=64)

    assert expected == found


def test_a_limit_of_deliveries_counts_no_reading_ahead() -> None:
    read = options.read_options({"read_ahead": 9, "queues": {"limited": {"max_deliveries": 3}}})

    assert read.queue("other").read_ahead == 9
    assert read.queue("limited").read_ahead == 0


def test_a_task_is_long_beside_those_before_it() -> None:
    assert not readahead.is_long(average_seconds=0.004, oldest_seconds=0.04, within_ms=50)
    assert readahead.is_long(average_seconds=0.004, oldest_seconds=0.06, within_ms=50)
    assert not readahead.is_long(average_seconds=0.1, oldest_seconds=0.2, within_ms=50)
    assert readahead.is_long(average_seconds=0.1, oldest_seconds=0.4, within_ms=50)


@pytest.mark.parametrize(
    ("is_long", "most", "expected"), [(True, 64, 0.0), (False, 64, 0.1), (True, 0, 1.0), (False, 0, 1.0)]
)
def test_what_is_read_ahead_does_not_wait_for_a_long_task(is_long: bool, most: int, expected: float) -> None:
    found = readahead.patience_seconds(is_long=is_long, within_ms=50, most=most, give_back_after_ms=1000)

    assert expected == found


def test_read_ahead_is_earned_by_short_tasks() -> None:
    hold = readahead.HoldTime()
    assert hold.seconds >= 0.05
    for _ in range(30):
        hold.add(0.005)

    assert hold.seconds < 0.05


def test_the_window_is_looked_at_in_time() -> None:
    assert acknowledgements.window_check_delay_seconds(0, 0, 1, 2000) == 10
    assert acknowledgements.window_check_delay_seconds(1000, 0, 1, 2000) == 0.5


def test_values_of_kombus_own_types_survive() -> None:
    some = uuid.uuid4()
    message = {"body": "x", "headers": {"id": some}, "properties": {}}

    assert records.decode_message(records.encode_message(message)) == message
    assert records.task_id(records.encode_message(message)) == str(some)


@pytest.mark.parametrize("value", [b"", b"no json", b"[]", b"{}", b'{"properties": 1}'])
def test_a_record_of_somebody_else_is_told_apart(value: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        records.decode_message(value)
    assert records.task_id(value) == "-"


def test_the_documented_table_is_the_table_in_the_code() -> None:
    manual = (Path(__file__).parents[2] / "docs" / "transport.md").read_text()
    rows = [row for row in manual.splitlines() if row.startswith("| `") and row.count(" | ") == 4]
    documented = {row.split("`")[1]: [cell.strip() for cell in row.strip("|").split(" | ")] for row in rows}

    assert list(documented) == [option.name for option in options.TABLE]
    for option in options.TABLE:
        cells = documented[option.name]
        assert cells[2] == ("none" if option.default is None else f"`{option.default}`")
        assert (cells[3] == "yes") is option.per_queue
        assert cells[4] == option.help


def test_the_rights_in_the_manual_are_those_that_the_tests_give() -> None:
    manual = (Path(__file__).parents[2] / "docs" / "transport.md").read_text()
    rows = dict(re.findall(r"^\| (topics|groups) \| (.*) \|$", manual, re.MULTILINE))

    given = {"topics": guarded.TOPIC_RIGHTS, "groups": guarded.GROUP_RIGHTS}
    for resource, rights in given.items():
        assert rows[resource].upper().split(", ") == [right.replace("_", "") for right in rights]
