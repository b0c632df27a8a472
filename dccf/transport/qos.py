"""Messages that the consumer has and has not acknowledged."""

import os
import time
from typing import Any

from kombu.transport import virtual

from dccf.transport.acquired import Record
from dccf.transport.protocol import Acknowledgement
from dccf.transport.readahead import HoldTime


class QoS(virtual.QoS):
    """Counts slots and settles records.

    Acknowledgements may come from any thread. In a forked child nothing is settled: the records are the parent's.
    """

    def __init__(self, channel: Any, prefetch_count: int = 0) -> None:
        parent: Any = super()
        parent.__init__(channel, prefetch_count)
        self.hold_time = HoldTime()
        self._records: dict[str, Record] = {}
        self._pid = os.getpid()

    @property
    def in_use(self) -> int:
        """Return how many messages are with the consumer."""
        return len(self._delivered)

    def track(self, delivery_tag: str, record: Record) -> None:
        """Remember the record behind a message that is about to be delivered."""
        record.delivered_at = time.monotonic()
        self._records[delivery_tag] = record

    def oldest_seconds(self) -> float:
        """Return how long ago the oldest unacknowledged message was delivered."""
        # In the order of delivery.
        oldest = next(iter(list(self._records.values())), None)
        return time.monotonic() - oldest.delivered_at if oldest is not None else 0.0

    def append(self, message: Any, delivery_tag: str) -> None:
        """Count a message that is delivered."""
        self._delivered[delivery_tag] = message

    def ack(self, delivery_tag: str) -> None:
        """Finish a message."""
        record = self._forget(delivery_tag)
        if record is not None:
            self.hold_time.add(time.monotonic() - record.delivered_at)
            record.consumer.settle(record, Acknowledgement.ACCEPT)
        self._slot_is_free()

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Give a message back, or put it aside for good."""
        record = self._forget(delivery_tag)
        if record is not None:
            if requeue:
                self.channel.intake.returns.give_back(record)
            else:
                self.channel.intake.returns.put_aside(record)
        self._slot_is_free()

    def restore_unacked(self) -> list[Any]:
        """Give back all that the consumer still has."""
        for tag in list(self._delivered):
            record = self._forget(tag)
            if record is not None:
                self.channel.intake.returns.give_back(record)
        return []

    def _forget(self, delivery_tag: str) -> Record | None:
        self._delivered.pop(delivery_tag, None)
        record = self._records.pop(delivery_tag, None)
        return record if self._pid == os.getpid() else None

    def _slot_is_free(self) -> None:
        if self._pid == os.getpid():
            self.channel.intake.slot_is_free()
