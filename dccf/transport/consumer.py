"""Consuming a queue: a thread that acquires, renews and acknowledges its records."""

import collections
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from kombu.exceptions import KombuError

from dccf.transport import acknowledgements, errors
from dccf.transport.acquired import Record
from dccf.transport.backoff import Backoff, Health
from dccf.transport.cluster import Cluster
from dccf.transport.ledger import Ledger
from dccf.transport.membership import Membership
from dccf.transport.options import QueueOptions
from dccf.transport.protocol import Acknowledgement, kafka_errors
from dccf.transport.records import Position, decode_batches, earlier_deliveries
from dccf.transport.session import Session
from dccf.transport.settings import Settings
from dccf.transport.wire import Address

logger = logging.getLogger(__name__)

#: Longest sleep of the thread, so that records that wait for a slot are looked at.
_TICK_SECONDS = 0.25
#: How long acknowledgements wait for the next fetch to take them along, which spares the broker a request.
_LINGER_SECONDS = 0.01
#: Measured: a task starts 1.7 ms after its sending instead of 2.4, and no-op tasks drain a tenth faster.
_HAND_OVER_SECONDS = 0.0003


class Receiver(Protocol):
    """What a consumer needs from its channel. All methods are called on the consumer's thread."""

    def wanted(self, consumer: "ShareConsumer") -> int:
        """Return how many records may be acquired now."""

    def received(self, records: list[Record]) -> None:
        """Take acquired records."""

    def tick(self, consumer: "ShareConsumer") -> float:
        """Do what is due, with the broker at hand, and return in how many seconds to call again at the latest."""


@dataclass
class Counts:
    """What happened, for tests and for the curious."""

    acquired: int = 0
    refused_acknowledgements: int = 0
    lost: int = 0
    by_error: collections.Counter[str] = field(default_factory=collections.Counter)


class ShareConsumer:
    """One member of a queue's share group, with a thread and connections of its own.

    `settle`, `wake` and `close` may be called from any thread. Everything recovers by itself: after a lost
    connection the broker gives the held records to others, so they are forgotten here and the member rejoins.
    """

    def __init__(self, settings: Settings, queue: str, topic: str, options: QueueOptions, receiver: Receiver) -> None:
        self.queue = queue
        self.topic = topic
        self.options = options
        self.counts = Counts()
        self.paused = False
        self._settings = settings
        self._receiver = receiver
        self._cluster = Cluster(settings)
        self._membership = Membership(self._cluster, topic, topic)
        self._sessions: dict[Address, Session] = {}
        self._ledger = Ledger()
        self._lock_seconds = options.lock_duration_ms / 1000
        self._renew_at = 0.0
        self._wake = threading.Event()
        #: Only something to fetch wakes the thread.
        self._lingers = False
        self._closing = False
        self._health = Health(logger, f"consuming queue {queue}")
        self._thread = threading.Thread(target=self._run, name=f"kafka-queue-{queue}", daemon=True)

    def start(self) -> None:
        """Join the group and begin to acquire."""
        self._thread.start()

    def settle(self, record: Record, what: Acknowledgement) -> bool:
        """Decide a record; tell whether it was still held."""
        was_held = self._ledger.settle(record, what)
        if was_held:
            self.wake()
        return was_held

    def held(self) -> list[Record]:
        """Return the records that are held, oldest first."""
        return self._ledger.held()

    def wake(self) -> None:
        """Make the thread look again at what it may acquire."""
        if not self._wake.is_set() and not (self._lingers and self._wanted() == 0):
            self._wake.set()

    def close(self) -> None:
        """Acknowledge what is decided, give back the rest and leave the group; `join` waits for that."""
        self._closing = True
        self._wake.set()

    def join(self, timeout_seconds: float) -> None:
        """Wait for the end of the thread; a broker that does not answer is not waited for."""
        if self._thread.is_alive():
            self._thread.join(timeout_seconds)
        if self._thread.is_alive():
            self._cluster.interrupt()

    def _run(self) -> None:
        backoff = Backoff()
        while not self._closing:
            try:
                self._step()
                self._health.worked()
                backoff.reset()
            except Exception as error:  # noqa: BLE001 - this thread must outlive whatever goes wrong in one step
                self._recover(error)
                if not self._closing:
                    time.sleep(backoff.next_seconds())
        try:
            self._leave()
        except (*errors.BROKER_ERRORS, KombuError) as error:
            logger.debug("leaving %s: %r", self.topic, error)
        finally:
            self._cluster.close()

    def _step(self) -> None:
        self._membership.is_subscribed = not self.paused
        self._membership.beat_if_due()
        if not (self._membership.partitions or self._ledger.holds_any or self._ledger.has_decisions):
            self._pause(self._membership.seconds_to_heartbeat)
            self._wake.clear()
            return
        due_seconds = self._receiver.tick(self)
        if time.monotonic() >= self._renew_at:
            self._renew()
        self._wake.clear()
        count = self._wanted()
        if count == 0 and self._ledger.has_decisions:
            self._lingers = True
            self._wake.wait(_LINGER_SECONDS)
            self._lingers = False
            count = self._wanted()
        if count > 0:
            if self._ledger.gives_back:
                # A fetch does not find what it gives back itself: it would wait its whole time for something else.
                self._acknowledge(self._take())
            self._fetch(count, due_seconds)
        elif self._ledger.has_decisions:
            self._acknowledge(self._take())
        else:
            self._pause(min(_TICK_SECONDS, due_seconds, self._membership.seconds_to_heartbeat))

    def _wanted(self) -> int:
        return self._receiver.wanted(self) if self._membership.partitions and not self.paused else 0

    def _pause(self, seconds: float) -> None:
        self._wake.wait(seconds)

    def _recover(self, error: Exception) -> None:
        """Forget what the broker has given to others, and start again."""
        kind = errors.meaning_of(type(error))
        if kind is None and not isinstance(error, (KombuError, *errors.BROKER_ERRORS)):
            logger.error("consuming queue %s", self.queue, exc_info=error)
        self._health.failed(error)
        self.counts.by_error[type(error).__name__] += 1
        if kind is errors.Meaning.MEMBERSHIP:
            self._membership.rejoin()
        self._cluster.forget()
        self._lose(lambda _: True)
        for session in self._sessions.values():
            session.close()
        self._sessions.clear()

    def _lose(self, which: Callable[[Record], bool]) -> None:
        self.counts.lost += self._ledger.lose(which)

    def _take(self) -> dict[Address, acknowledgements.Offsets]:
        return self._ledger.take(lambda partition: self._cluster.leader(self.topic, partition))

    def _renew(self) -> None:
        """Renew everything held, on requests of their own: a fetch cannot carry renewals and acquire."""
        self._renew_at = time.monotonic() + self._lock_seconds / 3
        # The old decisions go first, or a renewal would follow the acknowledgement of the same record.
        if self._ledger.has_decisions:
            self._acknowledge(self._take())
        if self._ledger.holds_any:
            self._ledger.renew()
            self._acknowledge(self._take())

    def _session(self, address: Address) -> Session:
        session = self._sessions.get(address)
        if session is None:
            session = Session(self._cluster, address, self.topic, self._membership.member_id)
            self._sessions[address] = session
        return session

    def _acknowledge(self, by_leader: dict[Address, acknowledgements.Offsets]) -> None:
        for address, offsets in by_leader.items():
            session = self._session(address)
            if not session.is_open:
                raise kafka_errors.ShareSessionNotFoundError(self.topic)
            answer = session.acknowledge(offsets)
            for topic in answer.responses:
                for part in topic.partitions:
                    self._check_acknowledged(part.partition_index, offsets, part.error_code)

    def _fetch(self, count: int, due_seconds: float) -> None:
        acknowledged = self._take() if self._ledger.has_decisions else {}
        by_leader: dict[Address, list[tuple[Any, int]]] = {}
        for topic_id, partition in self._membership.partitions:
            by_leader.setdefault(self._cluster.leader(self.topic, partition), []).append((topic_id, partition))
        for address in acknowledged.keys() - by_leader.keys():
            self._acknowledge({address: acknowledged[address]})
        options = self._settings.options
        longest_ms = options.busy_fetch_wait_ms if self._ledger.holds_any else options.fetch_wait_ms
        wait_ms = int(min(longest_ms, due_seconds * 1000)) // len(by_leader)
        for address, partitions in by_leader.items():
            offsets = acknowledged.get(address, {})
            session = self._session(address)
            if offsets and not session.is_open:
                raise kafka_errors.ShareSessionNotFoundError(self.topic)
            answer = session.fetch(partitions, offsets, count=count, wait_ms=wait_ms)
            self._lock_seconds = (answer.acquisition_lock_timeout_ms or self.options.lock_duration_ms) / 1000
            self._receive(answer, offsets)

    def _receive(self, answer: Any, offsets: acknowledgements.Offsets) -> None:
        records = []
        failure: Exception | None = None
        for topic in answer.responses:
            for part in topic.partitions:
                self._check_acknowledged(part.partition_index, offsets, part.acknowledge_error_code)
                if part.error_code:
                    failure = kafka_errors.for_code(part.error_code)(part.error_message or "")
                records.extend(self._acquired(topic.topic_id, part))
        if records:
            if not self._ledger.holds_any:
                self._renew_at = time.monotonic() + self._lock_seconds / 3
            self._ledger.hold(records)
            self.counts.acquired += len(records)
            self._receiver.received(records)
            # The thread that was woken goes first: building the next request would keep the interpreter from it.
            time.sleep(_HAND_OVER_SECONDS)
        if failure is not None:
            raise failure

    def _acquired(self, topic_id: Any, part: Any) -> list[Record]:
        """Return the records of an answer that this member has acquired; a batch may hold others, too."""
        counts = [(run.first_offset, run.last_offset, run.delivery_count) for run in part.acquired_records]
        if not counts:
            return []
        now = time.monotonic()
        found = []
        for raw in decode_batches(part.records):
            count = next((times for first, last, times in counts if first <= raw.offset <= last), None)
            if count is not None:
                position = Position(topic_id, part.partition_index, raw.offset)
                total = earlier_deliveries(raw.headers) + count
                found.append(Record(position, raw.key, raw.value or b"", total, count, self, now))
        return found

    def _check_acknowledged(self, partition: int, offsets: acknowledgements.Offsets, code: int) -> None:
        """Log what the broker refused; it has given those records to somebody else."""
        if not code:
            return
        refused = [
            offset
            for parts in offsets.values()
            for part, entries in parts.items()
            if part == partition
            for offset in entries
        ]
        self.counts.refused_acknowledgements += len(refused)
        self._lose(lambda record: record.position.partition == partition and record.position.offset in refused)
        logger.warning(
            "queue %s: acknowledgement of partition %d, offsets %s refused (%s): delivered again",
            self.queue,
            partition,
            refused[:10],
            kafka_errors.for_code(code).__name__,
        )

    def _leave(self) -> None:
        """Say what is decided, end the sessions, which gives back the rest, and leave the group."""
        taken = self._take() if self._ledger.has_decisions else {}
        for address, session in self._sessions.items():
            if session.is_open:
                session.acknowledge(taken.get(address, {}), final=True)
        self._ledger.lose(lambda _: True)
        self._membership.leave()
