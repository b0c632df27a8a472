"""Reading broadcasts: every reader sees every record, and chooses by routing key what it wants."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from dccf.transport import errors
from dccf.transport.admin import Admin
from dccf.transport.backoff import Backoff, Health
from dccf.transport.cluster import Cluster
from dccf.transport.protocol import MAX_FETCH_VERSION, FetchRequest, kafka_errors
from dccf.transport.records import decode_batches
from dccf.transport.settings import Settings

logger = logging.getLogger(__name__)

_LARGEST_FETCH_BYTES = 16 * 1024 * 1024
#: A reader without subscriptions stays this long: an inspecting client comes back every few seconds.
_LINGER_SECONDS = 30


@dataclass(eq=False)
class Subscription:
    """What one queue wants of one exchange's topic. `matches` and `sink` are called on the reader's thread."""

    matches: Callable[[str], bool]
    sink: Callable[[bytes], None]
    start: int


class _Reader:
    """Reads one topic from an offset on, in a thread and over a connection of its own."""

    def __init__(self, settings: Settings, topic: str, start: int, done: Callable[["_Reader"], bool]) -> None:
        self.topic = topic
        self.subscriptions: list[Subscription] = []
        self._settings = settings
        self._cluster = Cluster(settings)
        self._next = start
        self._done = done
        self._closing = False
        self._idle_since = time.monotonic()
        self._health = Health(logger, f"reading broadcasts of {topic}")
        self._thread = threading.Thread(target=self._run, name=f"kafka-broadcast-{topic}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread at once."""
        self._closing = True
        self._cluster.interrupt()
        self._thread.join(5)

    def _run(self) -> None:
        backoff = Backoff()
        try:
            while not self._closing and not self._lingered():
                try:
                    self._read()
                    self._health.worked()
                    backoff.reset()
                except Exception as error:  # noqa: BLE001 - without this thread the process hears no broadcast any more
                    if not self._closing:
                        self._recover(error)
                        time.sleep(backoff.next_seconds())
        finally:
            self._cluster.close()

    def _recover(self, error: Exception) -> None:
        if not isinstance(error, errors.BROKER_ERRORS):
            logger.error("reading broadcasts of %s", self.topic, exc_info=error)
        self._health.failed(error)
        self._cluster.forget()

    def _lingered(self) -> bool:
        if self.subscriptions:
            self._idle_since = time.monotonic()
        return time.monotonic() - self._idle_since > _LINGER_SECONDS and self._done(self)

    def _read(self) -> None:
        topics = FetchRequest.FetchTopic
        part = topics.FetchPartition(
            partition=0,
            current_leader_epoch=-1,
            fetch_offset=self._next,
            last_fetched_epoch=-1,
            log_start_offset=-1,
            partition_max_bytes=_LARGEST_FETCH_BYTES,
        )
        wait_ms = self._settings.options.fetch_wait_ms
        request = FetchRequest(
            replica_id=-1,
            max_wait_ms=wait_ms,
            min_bytes=1,
            max_bytes=_LARGEST_FETCH_BYTES,
            isolation_level=0,
            session_id=0,
            session_epoch=-1,
            topics=[topics(topic=self.topic, partitions=[part])],
            forgotten_topics_data=[],
            rack_id="",
            max_version=MAX_FETCH_VERSION,
        )
        leader = self._cluster.leader(self.topic, 0)
        answer = self._cluster.ask(request, leader, self._settings.options.request_timeout_ms + wait_ms)
        found = answer.responses[0].partitions[0]
        try:
            errors.raise_for_code(found.error_code, self.topic)
        except kafka_errors.OffsetOutOfRangeError:
            # Retention was faster, or the topic was made anew: what it has now is all there is.
            self._next = max(0, found.log_start_offset)
            for subscription in self.subscriptions:
                subscription.start = 0
            return
        self._deliver(found.records)

    def _deliver(self, data: object) -> None:
        for record in decode_batches(data):
            if record.offset < self._next:
                continue
            self._next = record.offset + 1
            key = (record.key or b"").decode(errors="replace")
            for subscription in list(self.subscriptions):
                if record.offset >= subscription.start and subscription.matches(key):
                    subscription.sink(record.value or b"")


class Broadcasts:
    """The readers of one process, one for each topic that somebody listens to."""

    def __init__(self, settings: Settings, admin: Admin) -> None:
        self._settings = settings
        self._admin = admin
        self._lock = threading.Lock()
        self._readers: dict[str, _Reader] = {}

    def subscribe(
        self, topic: str, matches: Callable[[str], bool], sink: Callable[[bytes], None]
    ) -> Callable[[], None]:
        """Pass on what is published from now on; return the function that ends it."""
        subscription = Subscription(matches, sink, self._admin.end_offset(topic))
        with self._lock:
            reader = self._readers.get(topic)
            if reader is None:
                reader = self._readers[topic] = _Reader(self._settings, topic, subscription.start, self._forget)
            reader.subscriptions.append(subscription)

        def unsubscribe() -> None:
            if subscription in reader.subscriptions:
                reader.subscriptions.remove(subscription)

        return unsubscribe

    def close(self) -> None:
        """End all readers."""
        with self._lock:
            readers = list(self._readers.values())
            self._readers.clear()
        for reader in readers:
            reader.close()

    def _forget(self, reader: _Reader) -> bool:
        with self._lock:
            if reader.subscriptions:
                return False
            self._readers.pop(reader.topic, None)
            return True
