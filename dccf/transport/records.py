"""Records: what is written to a topic and what is read from it. Pure translation, no I/O."""

import json
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from kombu.utils import json as kombu_json

from dccf.transport.protocol import MemoryRecords, MemoryRecordsBuilder

#: Record header with the deliveries that a message had before it was republished.
DELIVERIES_HEADER = "deliveries"
#: Message header with the deliveries before the present one; RabbitMQ's quorum queues use the same name.
DELIVERY_COUNT = "x-delivery-count"
#: Message header by which a sender says when this message is finished, whatever its queue says.
SETTLE = "x-settle"
#: What AMQP carries beside headers and body; brokers drop anything else, and JSON could not hold it.
AMQP_PROPERTIES = frozenset(
    {
        "app_id",
        "application_headers",
        "body_encoding",
        "cluster_id",
        "content_encoding",
        "content_type",
        "correlation_id",
        "delivery_info",
        "delivery_mode",
        "delivery_tag",
        "expiration",
        "message_id",
        "priority",
        "reply_to",
        "timestamp",
        "type",
        "user_id",
    }
)

_dumps: Any = kombu_json.dumps
_loads: Any = kombu_json.loads

#: What every message of kombu has beside its body.
_PARTS = ("headers", "properties")

_MAGIC = 2
_NO_COMPRESSION = 0
_UNLIMITED = 1 << 30


@dataclass(frozen=True, slots=True)
class OutgoingRecord:
    """A record to be written."""

    topic: str
    value: bytes
    key: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class ProducerState:
    """Identity and next sequence number, by which a broker knows a batch that was sent twice (KIP-98)."""

    producer_id: int
    epoch: int
    sequence: int


def encode_batch(records: Sequence[OutgoingRecord], state: ProducerState) -> bytes:
    """Return records of one partition as one batch."""
    builder = MemoryRecordsBuilder(
        _MAGIC,
        _NO_COMPRESSION,
        _UNLIMITED,
        producer_id=state.producer_id,
        producer_epoch=state.epoch,
        base_sequence=state.sequence,
    )
    now_ms = int(time.time() * 1000)
    for record in records:
        builder.append(now_ms, record.key, record.value, list(record.headers))
    builder.close()
    return bytes(builder.buffer())


def decode_batches(data: Any) -> Iterator[Any]:
    """Yield the records in an answer to a fetch; records of transactions' markers are left out."""
    if not data:
        return
    batches = MemoryRecords(bytes(data))
    while batches.has_next():
        batch = batches.next_batch()
        if not batch.is_control_batch:
            yield from batch


def earlier_deliveries(headers: Iterable[tuple[str, bytes]]) -> int:
    """Return how many deliveries a message had under earlier offsets."""
    for name, value in headers or ():
        if name == DELIVERIES_HEADER:
            return int(value)
    return 0


def encode_message(message: dict[str, Any]) -> bytes:
    """Return a kombu message as the value of a record."""
    text: str = _dumps(message)
    return text.encode()


def decode_message(value: bytes) -> dict[str, Any]:
    """Return the kombu message in a record.

    Raises:
        ValueError: the record was not written by this transport.
    """
    # kombu's decoder looks at every mapping for a type of its own; almost no message has one.
    decoded = _loads(value) if b'"__type__"' in value else json.loads(value)
    if not isinstance(decoded, dict) or not all(isinstance(decoded.get(part), dict) for part in _PARTS):
        raise ValueError("the record is not a kombu message")
    return decoded


def task_id(value: bytes) -> str:
    """Return the task's id in a record, for a log line; a dash if there is none."""
    try:
        headers = decode_message(value)["headers"]
    except ValueError:
        return "-"
    return str(headers.get("id", "-"))


@dataclass(frozen=True, slots=True)
class Position:
    """Where a record stands."""

    topic_id: uuid.UUID
    partition: int
    offset: int
