"""What threads of one process do to each other."""

import threading
import uuid
from types import SimpleNamespace
from typing import Any

import pytest
from kombu.exceptions import OperationalError

from dccf.transport.acquired import Record
from dccf.transport.background import BackgroundProducer
from dccf.transport.options import read_options
from dccf.transport.records import OutgoingRecord, Position
from dccf.transport.returns import Returns

from .waiting import wait_until


class _Holder:
    """A member of a group, as far as a record needs one."""

    queue = topic = "work"
    options = read_options({}).queue("work")

    def __init__(self) -> None:
        self.settled: list[int] = []

    def settle(self, record: Record, what: object) -> bool:
        self.settled.append(record.position.offset)
        return True

    def wake(self) -> None:
        """Nobody sleeps."""


def test_copies_that_two_threads_write_are_written_once_each() -> None:
    holder = _Holder()
    written: list[bytes] = []
    first_is_sending, go_on = threading.Event(), threading.Event()

    def publish(records: list[OutgoingRecord]) -> None:
        written.extend(record.value for record in records)
        first_is_sending.set()
        assert go_on.wait(10)

    client: Any = SimpleNamespace(producer=SimpleNamespace(publish=publish))
    returns = Returns(lambda: client)
    for offset in range(3):
        position = Position(uuid.UUID(int=1), 0, offset)
        # One delivery below the broker's limit, where only a copy brings a record back.
        record = Record(position, None, b"%d" % offset, 9, 9, holder, 0.0)
        returns.give_back(record)
    one = threading.Thread(target=returns.write)
    one.start()
    assert first_is_sending.wait(10)
    other = threading.Thread(target=returns.write)
    other.start()
    last = threading.Thread(target=returns.finish)
    last.start()
    other.join(10)
    go_on.set()
    for thread in (one, last):
        thread.join(10)

    assert written == [b"0", b"1", b"2"]
    assert holder.settled == [0, 1, 2]


@pytest.mark.parametrize("error", [OperationalError("away"), RuntimeError("whatever")])
def test_events_go_on_after_one_that_could_not_be_sent(error: Exception) -> None:
    sent: list[bytes] = []

    def publish(records: list[OutgoingRecord]) -> None:
        values = [record.value for record in records]
        if b"bad" in values:
            raise error
        sent.extend(values)

    producer: Any = SimpleNamespace(publish=publish)
    events = BackgroundProducer(producer)
    events.publish(OutgoingRecord("events", b"bad"))
    wait_until(lambda: not events._waiting)
    events.publish(OutgoingRecord("events", b"good"))

    wait_until(lambda: sent == [b"good"], 10)
    events.close(5)
