"""Publishing without waiting, for events that may be lost and must not hold up a worker."""

import collections
import logging
import threading
import time

from kombu.exceptions import KombuError

from dccf.transport.producer import Producer
from dccf.transport.records import OutgoingRecord

logger = logging.getLogger(__name__)

_MOST_WAITING = 10_000
_BATCH = 500


class BackgroundProducer:
    """Hands records to a producer on a thread of its own, in order. When too many wait, the oldest are dropped."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer
        self._waiting: collections.deque[OutgoingRecord] = collections.deque(maxlen=_MOST_WAITING)
        self._wake = threading.Event()
        self._idle = threading.Event()
        self._idle.set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closing = False

    def publish(self, record: OutgoingRecord) -> None:
        """Take a record and return at once."""
        self._waiting.append(record)
        self._idle.clear()
        self._wake.set()
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="kafka-events", daemon=True)
                    self._thread.start()

    def close(self, timeout_seconds: float) -> None:
        """Publish what waits, within a time, and end the thread."""
        if self._thread is None:
            return
        deadline = time.monotonic() + timeout_seconds
        self._idle.wait(timeout_seconds)
        self._closing = True
        self._wake.set()
        self._thread.join(max(0.1, deadline - time.monotonic()))

    def _publish(self, batch: list[OutgoingRecord]) -> None:
        try:
            self._producer.publish(batch)
        except KombuError as error:
            logger.debug("%d events were not published: %r", len(batch), error)
        except Exception:  # without this thread the process would send no event any more
            logger.exception("%d events were not published", len(batch))

    def _run(self) -> None:
        while not self._closing:
            self._wake.wait()
            self._wake.clear()
            while self._waiting and not self._closing:
                batch: list[OutgoingRecord] = []
                while self._waiting and len(batch) < _BATCH:
                    batch.append(self._waiting.popleft())
                self._publish(batch)
            if not self._waiting:
                self._idle.set()
