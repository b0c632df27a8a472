"""Publishing: on the caller's thread, confirmed, in batches when many threads publish."""

import collections
import itertools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kombu.exceptions import OperationalError

from dccf.transport import errors
from dccf.transport.backoff import Backoff, Health
from dccf.transport.cluster import Cluster
from dccf.transport.protocol import (
    MAX_PRODUCE_VERSION,
    InitProducerIdRequest,
    ProduceRequest,
    kafka_errors,
)
from dccf.transport.records import OutgoingRecord, ProducerState, encode_batch
from dccf.transport.settings import Settings
from dccf.transport.wire import Address

logger = logging.getLogger(__name__)

Partition = tuple[str, int]

_ALL_IN_SYNC = -1
#: Half of Kafka's default for the largest batch; a single larger message travels alone.
_BATCH_BYTES = 500_000
_LARGEST_SEQUENCE = 2**31 - 1


@dataclass(eq=False, slots=True)
class _Pending:
    """A record and what became of it."""

    record: OutgoingRecord
    deadline: float
    done: bool = False
    failure: Exception | None = None
    #: Kafka refused a batch with this record and others: it must be tried alone, to find the guilty one.
    alone: bool = False

    def finish(self, failure: Exception | None = None) -> None:
        self.failure = failure
        self.done = True


@dataclass(eq=False, slots=True)
class _Batch:
    """Records of one partition that are sent together, and sent again unchanged."""

    partition: Partition
    items: list[_Pending]
    data: bytes
    failure: Exception | None = None

    @property
    def done(self) -> bool:
        return all(item.done for item in self.items)

    def finish(self, failure: Exception | None = None) -> None:
        for item in self.items:
            item.finish(failure)


class Producer:
    """Writes records with the confirmation of all in-sync replicas, each once however often it is sent again.

    Any thread may call `publish`. The thread that gets the lock sends for all that wait, so that a request carries
    whatever came together while the one before was on its way. Nothing runs in the background.
    """

    def __init__(self, settings: Settings, recreate_topic: Callable[[str], None]) -> None:
        self._timeout_ms = settings.options.delivery_timeout_ms
        self._cluster = Cluster(settings)
        self._recreate_topic = recreate_topic
        self._lock = threading.Lock()
        self._waiting: collections.deque[_Pending] = collections.deque()
        self._identity: tuple[int, int] | None = None
        self._sequences: dict[Partition, int] = {}
        self._turns: dict[str, itertools.cycle[int]] = {}
        self._health = Health(logger, "publishing to Kafka")
        #: The last record was given up because no broker answered: the next one gets one try, not ten seconds.
        self._known_down = False

    def publish(self, records: Sequence[OutgoingRecord]) -> None:
        """Write records and return when all are confirmed.

        Raises:
            OperationalError: not confirmed in time; it may have been written or not.
            ChannelError: Kafka refused it, and would again.
        """
        deadline = time.monotonic() + self._timeout_ms / 1000
        items = [_Pending(record, deadline) for record in records]
        self._waiting.extend(items)
        for item in items:
            self._see_to(item)
        failure = next((item.failure for item in items if item.failure is not None), None)
        if failure is not None:
            raise failure

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            self._cluster.close()

    def _see_to(self, item: _Pending) -> None:
        """Wait until somebody has sent a record, and be that somebody if nobody else is."""
        while not item.done:
            left = item.deadline - time.monotonic()
            if not self._lock.acquire(timeout=max(0.0, left) + 1):
                raise OperationalError("not confirmed in time: another publish holds the connection")
            try:
                if not item.done:
                    self._send_waiting()
            finally:
                self._lock.release()

    def _send_waiting(self) -> None:
        taken = []
        size = 0
        while self._waiting and size < _BATCH_BYTES:
            taken.append(self._waiting.popleft())
            size += len(taken[-1].record.value)
        try:
            self._send(taken)
        finally:
            # Whatever went wrong, nobody may wait for a record that nobody has any more.
            for item in taken:
                if not item.done:
                    item.finish(OperationalError("not confirmed: the publishing thread was interrupted"))

    def _send(self, items: list[_Pending]) -> None:
        backoff = Backoff()
        batches: list[_Batch] = []
        while left := [item for item in items if not item.done]:
            try:
                batches = [batch for batch in batches if not batch.done] or self._batches(left)
                self._attempt(batches, max(item.deadline for item in left))
                failure = next((batch.failure for batch in batches if batch.failure is not None), None)
            except errors.BROKER_ERRORS as error:
                failure = error
            if failure is None:
                self._health.worked()
                self._known_down = False
                continue
            if errors.meaning_of(type(failure)) is errors.Meaning.PRODUCER:
                self._forget_identity()
                batches = []
            wait_seconds = backoff.next_seconds()
            self._give_up(left, failure, wait_seconds)
            if not all(item.done for item in left):
                self._repair(left, failure)
                time.sleep(wait_seconds)

    def _give_up(self, items: list[_Pending], failure: Exception, wait_seconds: float) -> None:
        """Fail the records for which another try would come too late, or be of no use."""
        transient = errors.is_transient(failure)
        unreachable = isinstance(failure, (OSError, kafka_errors.KafkaConnectionError))
        if unreachable:
            self._health.failed(failure)
        hopeless = not transient or (unreachable and self._known_down)
        next_try = time.monotonic() + wait_seconds
        for item in items:
            if not item.done and (hopeless or item.deadline < next_try):
                item.finish(errors.translated(failure, f"not confirmed by Kafka ({item.record.topic})"))
        self._known_down = unreachable and all(item.done for item in items)

    def _repair(self, items: list[_Pending], failure: Exception) -> None:
        self._cluster.forget()
        if isinstance(failure, kafka_errors.UnknownTopicOrPartitionError):
            for topic in {item.record.topic for item in items if not item.done}:
                self._recreate_topic(topic)

    def _forget_identity(self) -> None:
        self._identity = None
        self._sequences.clear()

    def _batches(self, items: list[_Pending]) -> list[_Batch]:
        """Group records by partition, number and encode them."""
        if self._identity is None:
            self._identity = self._new_identity()
        groups: dict[Partition, list[_Pending]] = {}
        for item in items:
            groups.setdefault(self._partition(item.record.topic), []).append(item)
        batches = []
        for partition, group in groups.items():
            single = next((item for item in group if item.alone), None)
            batches.append(self._encode(partition, group if single is None else [single]))
        return batches

    def _encode(self, partition: Partition, items: list[_Pending]) -> _Batch:
        if self._identity is None:
            raise kafka_errors.UnknownProducerIdError
        sequence = self._sequences.get(partition, 0)
        state = ProducerState(*self._identity, sequence)
        self._sequences[partition] = (sequence + len(items)) & _LARGEST_SEQUENCE
        return _Batch(partition, items, encode_batch([item.record for item in items], state))

    def _partition(self, topic: str) -> Partition:
        turns = self._turns.get(topic)
        if turns is None:
            turns = self._turns[topic] = itertools.cycle(range(len(self._cluster.topic(topic).leaders)))
        return topic, next(turns)

    def _new_identity(self) -> tuple[int, int]:
        answer = self._cluster.ask(InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=60_000))
        errors.raise_for_code(answer.error_code)
        return answer.producer_id, answer.producer_epoch

    def _attempt(self, batches: list[_Batch], deadline: float) -> None:
        """Send each leader its batches once, and note what came of each."""
        by_leader: dict[Address, list[_Batch]] = {}
        for batch in batches:
            by_leader.setdefault(self._cluster.leader(*batch.partition), []).append(batch)
        for address, group in by_leader.items():
            self._send_to(address, group, max(1, int((deadline - time.monotonic()) * 1000)))

    def _send_to(self, address: Address, batches: list[_Batch], timeout_ms: int) -> None:
        topics = ProduceRequest.TopicProduceData
        parts = topics.PartitionProduceData
        by_topic: dict[str, list[_Batch]] = {}
        for batch in batches:
            by_topic.setdefault(batch.partition[0], []).append(batch)
        request = ProduceRequest(
            transactional_id=None,
            acks=_ALL_IN_SYNC,
            timeout_ms=timeout_ms,
            topic_data=[
                topics(
                    name=topic,
                    partition_data=[parts(index=batch.partition[1], records=batch.data) for batch in group],
                )
                for topic, group in by_topic.items()
            ],
            max_version=MAX_PRODUCE_VERSION,
        )
        answer = self._cluster.ask(request, address, timeout_ms=timeout_ms)
        results = {(topic.name, part.index): part for topic in answer.responses for part in topic.partition_responses}
        for batch in batches:
            result = results[batch.partition]
            self._settle(batch, result.error_code, result.error_message)

    def _settle(self, batch: _Batch, code: int, message: str | None) -> None:
        """Note what a leader said about a batch."""
        batch.failure = None
        try:
            errors.raise_for_code(code, message)
        except kafka_errors.KafkaError as error:
            if errors.meaning_of(type(error)) is errors.Meaning.DONE:
                batch.finish()
            elif errors.is_transient(error):
                batch.failure = error
            elif len(batch.items) == 1:
                batch.finish(errors.translated(error, f"refused by Kafka ({batch.partition[0]})"))
            else:
                for item in batch.items:
                    item.alone = True
                batch.failure = kafka_errors.OutOfOrderSequenceNumberError("one of several records was refused")
        else:
            batch.finish()
