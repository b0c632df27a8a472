"""The options of the transport: one table, from which values are read and which the documentation repeats."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any


class Settle(StrEnum):
    """When a record of a queue is finished for Kafka."""

    #: When Celery acknowledges: held and renewed until then.
    ACK = "ack"
    #: When it is handed to Celery: the message is a hint, its truth lies elsewhere.
    DELIVERY = "delivery"


@dataclass(frozen=True)
class Option:
    """One row of the table of options."""

    name: str
    kind: type | tuple[type, ...]
    default: object
    #: May also stand under `queues`, for one queue.
    per_queue: bool
    help: str


#: Every option of `broker_transport_options`.
TABLE: tuple[Option, ...] = (
    Option(
        "bootstrap_servers",
        (str, list, tuple),
        None,
        False,
        "Brokers as host:port, instead of those in the URL.",
    ),
    Option("prefix", str, "kombu", False, "First part of all topic and group names; the path of the URL wins."),
    Option("client_id", str, "kombu", False, "Name of this client in the broker's log and quotas."),
    Option("queues", dict, {}, False, "Queue name to a mapping of the options that are marked per queue."),
    Option("settle", str, "ack", True, "When a record is finished: `ack` or `delivery`."),
    Option("partitions", int, 1, True, "Partitions of a queue's topic. More than one makes idle workers."),
    Option("replication_factor", int, -1, True, "Copies of a queue's topic; -1 takes the broker's default."),
    Option(
        "max_deliveries",
        int,
        None,
        True,
        "Deliveries after which a message is dead-lettered; none is no limit.",
    ),
    Option("dead_letter_queue", str, None, True, "Queue that gets rejected messages, and those over the limit."),
    Option("lock_duration_ms", int, 30_000, True, "How long the broker waits for a renewal; 15,000 to 60,000."),
    Option(
        "delivery_count_limit",
        int,
        10,
        True,
        "Deliveries the broker counts before a record is republished; 3 to 10.",
    ),
    Option("max_record_locks", int, 4_000, True, "Records in flight per partition; 100 to 4,000."),
    Option(
        "read_ahead",
        int,
        64,
        True,
        "Most records acquired beyond the free slots; 0 is none, and so it is where `max_deliveries` is set.",
    ),
    Option(
        "read_ahead_ms",
        int,
        50,
        False,
        "Only as many are read ahead as will have begun in this time; a task that takes longer returns them.",
    ),
    Option("unlimited_batch", int, 100, False, "Records per fetch when the consumer sets no prefetch limit."),
    Option(
        "give_back_after_ms",
        int,
        1_000,
        False,
        "How long a record waits for a free slot before others may have it.",
    ),
    Option("fetch_wait_ms", int, 500, False, "How long a fetch waits at the broker while nothing is held."),
    Option(
        "busy_fetch_wait_ms",
        int,
        100,
        False,
        "The same while records are held: acknowledgements wait for it.",
    ),
    Option(
        "broadcast_retention_ms",
        int,
        600_000,
        False,
        "How long broadcasts, replies and events stay on their topics.",
    ),
    Option(
        "broadcast_replication_factor",
        int,
        -1,
        False,
        "Copies of the topics of exchanges; -1 takes the broker's default.",
    ),
    Option("delivery_timeout_ms", int, 10_000, False, "Longest time that a publish waits for its confirmation."),
    Option("request_timeout_ms", int, 10_000, False, "Longest time that a broker may take for one answer."),
    Option("connect_timeout_ms", int, 3_000, False, "Longest time to connect to one broker."),
    Option(
        "security_protocol",
        str,
        None,
        False,
        "`PLAINTEXT`, `SSL`, `SASL_PLAINTEXT` or `SASL_SSL`; else from the URL.",
    ),
    Option("sasl_mechanism", str, "PLAIN", False, "`PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`."),
    Option("ssl_cafile", str, None, False, "Certificates that sign the broker's; else those of the system."),
    Option("ssl_certfile", str, None, False, "Certificate of this client."),
    Option("ssl_keyfile", str, None, False, "Key of that certificate."),
    Option("ssl_check_hostname", bool, True, False, "Whether the broker's certificate must name its host."),
)

#: Read by kombu from the same mapping.
KOMBU_OPTIONS = frozenset(
    {
        "body_encoding",
        "callback",
        "connect_retries_timeout",
        "deadletter_queue",
        "errback",
        "interval_max",
        "interval_start",
        "interval_step",
        "max_retries",
        "polling_interval",
    }
)

_RANGES: dict[str, tuple[int, int]] = {
    "lock_duration_ms": (15_000, 60_000),
    "delivery_count_limit": (3, 10),
    "max_record_locks": (100, 4_000),
    "partitions": (1, 10_000),
    "max_deliveries": (1, 1_000_000),
    "unlimited_batch": (1, 4_000),
    "read_ahead": (0, 1_000),
}
_CHOICES: dict[str, frozenset[str]] = {
    "settle": frozenset(Settle),
    "security_protocol": frozenset({"PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"}),
    "sasl_mechanism": frozenset({"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"}),
}
_BY_NAME = {option.name: option for option in TABLE}


@dataclass(frozen=True)
class QueueOptions:
    """The options of one queue."""

    settle: Settle
    partitions: int
    replication_factor: int
    max_deliveries: int | None
    dead_letter_queue: str | None
    lock_duration_ms: int
    delivery_count_limit: int
    max_record_locks: int
    read_ahead: int


@dataclass(frozen=True)
class Options:
    """The options of one connection, checked."""

    client_id: str
    read_ahead_ms: int
    unlimited_batch: int
    give_back_after_ms: int
    fetch_wait_ms: int
    busy_fetch_wait_ms: int
    broadcast_retention_ms: int
    broadcast_replication_factor: int
    delivery_timeout_ms: int
    request_timeout_ms: int
    connect_timeout_ms: int
    queue_defaults: QueueOptions
    #: Pairs, so that equal options are equal keys of the registry of clients.
    queue_overrides: tuple[tuple[str, QueueOptions], ...]

    def queue(self, name: str) -> QueueOptions:
        """Return the options of a queue."""
        return dict(self.queue_overrides).get(name, self.queue_defaults)


def read_options(given: Mapping[str, Any]) -> Options:
    """Return the options in a mapping, with defaults for the others.

    Raises:
        ValueError: an option is unknown, has the wrong type or is out of its range; the message names it.
    """
    values = checked(given)
    defaults = _queue_options(values)
    overrides = []
    for queue, special in values["queues"].items():
        if not isinstance(special, Mapping):
            raise TypeError(f"transport option queues: {queue!r} needs a mapping of options")
        for name in special:
            if name not in _BY_NAME or not _BY_NAME[name].per_queue:
                raise ValueError(f"transport option queues: {name!r} is not an option of a queue ({queue!r})")
        overrides.append((queue, _queue_options({**values, **_check_all(special)})))
    plain = {field.name for field in fields(Options)} - {"queue_defaults", "queue_overrides"}
    return Options(
        queue_defaults=defaults,
        queue_overrides=tuple(sorted(overrides, key=lambda pair: pair[0])),
        **{name: values[name] for name in plain},
    )


def checked(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return every option's value, after checking names, types and ranges."""
    unknown = sorted(set(given) - set(_BY_NAME) - KOMBU_OPTIONS)
    if unknown:
        raise ValueError(f"unknown transport option: {', '.join(unknown)}")
    own = {name: value for name, value in given.items() if name in _BY_NAME}
    return {option.name: option.default for option in TABLE} | _check_all(own)


def _check_all(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _check(_BY_NAME[name], value) for name, value in given.items()}


def _check(option: Option, value: Any) -> Any:
    if value is None and option.default is None:
        return None
    kinds: tuple[type, ...] = option.kind if isinstance(option.kind, tuple) else (option.kind,)
    # bool is an int to Python, and never what a number of milliseconds was meant to be.
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        names = " or ".join(kind.__name__ for kind in kinds)
        raise ValueError(f"transport option {option.name} must be {names}, not {type(value).__name__}")
    if option.name in _RANGES:
        _check_range(option.name, value)
    choices = _CHOICES.get(option.name)
    if choices and value not in choices:
        raise ValueError(f"transport option {option.name} must be one of {', '.join(sorted(choices))}, not {value!r}")
    return value


def _check_range(name: str, value: Any) -> None:
    low, high = _RANGES[name]
    if not low <= value <= high:
        raise ValueError(f"transport option {name} must be {low} to {high}, not {value}")


def _queue_options(values: Mapping[str, Any]) -> QueueOptions:
    chosen = {field.name: values[field.name] for field in fields(QueueOptions)}
    if chosen["max_deliveries"] is not None:
        # The broker counts what was read ahead and given back as delivered: a task could reach the limit unstarted.
        chosen["read_ahead"] = 0
    return QueueOptions(**{**chosen, "settle": Settle(chosen["settle"])})
