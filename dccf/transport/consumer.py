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
from dccf.transport.acquired import Record, State
from dccf.transport.backoff import Backoff, Health
from dccf.transport.cluster import Cluster
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
#: Measured: a task starts 1.7 ms after its sending instead of 2.4, and no-op tasks drain a tenth faster.
_HAND_OVER_SECONDS = 0.0003


class Receiver(Protocol):
    """What a consumer needs from its channel. All methods are called on the consumer's thread."""

    def wanted(self, consumer: "ShareConsumer") -> int:
        """Return how many records may be acquired now."""

    def received(self, records: list[Record]) -> None:
        """Take acquired records."""

    def tick(self, consumer: "ShareConsumer") -> None:
        """Do what is due: this is called several times a second, with the broker at hand."""


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
        self._held: dict[Position, Record] = {}
        self._outbox: collections.deque[tuple[Record, Acknowledgement]] = collections.deque()
        self._lock_seconds = options.lock_duration_ms / 1000
        self._renew_at = 0.0
        self._wake = threading.Event()
        self._closing = False
        self._health = Health(logger, f"consuming queue {queue}")
        self._thread = threading.Thread(target=self._run, name=f"kafka-queue-{queue}", daemon=True)

    def start(self) -> None:
        """Join the group and begin to acquire."""
        self._thread.start()

    def settle(self, record: Record, what: Acknowledgement) -> bool:
        """Decide a record; tell whether it was still held."""
        if record.state is not State.HELD:
            return False
        record.state = State.SETTLED
        self._held.pop(record.position, None)
        self._outbox.append((record, what))
        self.wake()
        return True

    def held(self) -> list[Record]:
        """Return the records that are held, oldest first."""
        return list(self._held.values())

    def wake(self) -> None:
        """Make the thread look again at what it may acquire."""
        if not self._wake.is_set():
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
        self._membership.beat_if_due()
        if not self._membership.partitions:
            self._pause(self._membership.seconds_to_heartbeat)
            return
        self._receiver.tick(self)
        if time.monotonic() >= self._renew_at:
            self._renew()
        self._wake.clear()
        count = 0 if self.paused else self._receiver.wanted(self)
        if count > 0:
            if any(what is Acknowledgement.RELEASE for _, what in list(self._outbox)):
                # A fetch does not find what it gives back itself: it would wait its whole time for something else.
                self._acknowledge(self._take())
            self._fetch(count)
        elif self._outbox:
            self._acknowledge(self._take())
        else:
            self._pause(min(_TICK_SECONDS, self._membership.seconds_to_heartbeat))

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
        for record in self.held():
            if which(record):
                record.state = State.LOST
                self._held.pop(record.position, None)
                self.counts.lost += 1
        # Acknowledgements on their way are void as well: the broker would refuse them.
        kept = [(record, what) for record, what in self._drain() if not which(record)]
        self._outbox.extend(kept)

    def _drain(self) -> list[tuple[Record, Acknowledgement]]:
        taken = []
        while self._outbox:
            taken.append(self._outbox.popleft())
        return taken

    def _take(self) -> dict[Address, acknowledgements.Offsets]:
        """Return what is to be acknowledged, by leader."""
        by_leader: dict[Address, list[tuple[Any, int, int, Acknowledgement]]] = {}
        for record, what in self._drain():
            if what is Acknowledgement.RENEW and record.state is not State.HELD:
                continue
            at = record.position
            leader = self._cluster.leader(self.topic, at.partition)
            by_leader.setdefault(leader, []).append((at.topic_id, at.partition, at.offset, what))
        return {leader: acknowledgements.collect(entries) for leader, entries in by_leader.items()}

    def _renew(self) -> None:
        """Renew everything held, on requests of their own: a fetch cannot carry renewals and acquire."""
        self._renew_at = time.monotonic() + self._lock_seconds / 3
        # The old decisions go first, or a renewal would follow the acknowledgement of the same record.
        if self._outbox:
            self._acknowledge(self._take())
        held = self.held()
        if held:
            self._outbox.extend((record, Acknowledgement.RENEW) for record in held)
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

    def _fetch(self, count: int) -> None:
        acknowledged = self._take() if self._outbox else {}
        by_leader: dict[Address, list[tuple[Any, int]]] = {}
        for topic_id, partition in self._membership.partitions:
            by_leader.setdefault(self._cluster.leader(self.topic, partition), []).append((topic_id, partition))
        for address in acknowledged.keys() - by_leader.keys():
            self._acknowledge({address: acknowledged[address]})
        options = self._settings.options
        wait_ms = (options.busy_fetch_wait_ms if self._held else options.fetch_wait_ms) // len(by_leader)
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
            if not self._held:
                self._renew_at = time.monotonic() + self._lock_seconds / 3
            self._held.update((record.position, record) for record in records)
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
        taken = self._take() if self._outbox else {}
        for address, session in self._sessions.items():
            if session.is_open:
                session.acknowledge(taken.get(address, {}), final=True)
        for record in self.held():
            record.state = State.LOST
        self._held.clear()
        self._membership.leave()
