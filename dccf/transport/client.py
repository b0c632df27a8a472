"""What one process shares per cluster, and how it survives a fork."""

import atexit
import os
import threading
from collections.abc import Mapping

from dccf.transport import wire
from dccf.transport.admin import Admin, TopicSpec
from dccf.transport.background import BackgroundProducer
from dccf.transport.broadcast import Broadcasts
from dccf.transport.producer import Producer
from dccf.transport.settings import Settings

_EXIT_SECONDS = 3.0
_ALWAYS = (
    # Small enough that deleted records free their disk space soon.
    ("segment.bytes", str(64 * 1024 * 1024)),
    # The broker's time: it refuses records of a sender whose clock is an hour ahead, and expires by their time.
    ("message.timestamp.type", "LogAppendTime"),
)


class Client:
    """Administration, producers and broadcast readers of one process for one cluster. Thread safe."""

    def __init__(self, settings: Settings, known_topics: Mapping[str, TopicSpec] | None = None) -> None:
        self.settings = settings
        self.admin = Admin(settings, known_topics)
        self.producer = Producer(settings, self.admin.recreate_topic)
        self._events_producer = Producer(settings, self.admin.recreate_topic)
        self.events = BackgroundProducer(self._events_producer)
        self.broadcasts = Broadcasts(settings, self.admin)

    def ensure_queue(self, queue: str) -> str:
        """Create a queue's topic where it is missing, and return its name."""
        topic = self.settings.names.queue_topic(queue)
        if topic not in self.admin.known_topics:
            self.create_queue(queue)
        return topic

    def create_queue(self, queue: str) -> bool:
        """Create a queue's topic where it is missing; tell whether it was."""
        options = self.settings.options.queue(queue)
        # Kept until finished: Kafka's default of seven days would lose tasks without a word.
        config = (("retention.ms", "-1"), ("retention.bytes", "-1"), *_ALWAYS)
        spec = TopicSpec(options.partitions, options.replication_factor, config)
        return self.admin.ensure_topic(self.settings.names.queue_topic(queue), spec)

    def ensure_exchange(self, exchange: str) -> str:
        """Create an exchange's topic where it is missing, and return its name."""
        topic = self.settings.names.exchange_topic(exchange)
        if topic not in self.admin.known_topics:
            options = self.settings.options
            keep = str(options.broadcast_retention_ms)
            config = (("retention.ms", keep), ("segment.ms", keep), *_ALWAYS)
            self.admin.ensure_topic(topic, TopicSpec(1, options.broadcast_replication_factor, config))
        return topic

    def close(self) -> None:
        """Publish waiting events, and close all connections."""
        self.events.close(_EXIT_SECONDS)
        self.broadcasts.close()
        self._events_producer.close()
        self.producer.close()
        self.admin.close()


class _Registry:
    """The clients of this process. A forked child starts empty, and knows which topics exist."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clients: dict[tuple[int, Settings], Client] = {}
        #: The parent's: closing or collecting them would touch what the parent still uses.
        self._inherited: list[Client] = []

    def get(self, settings: Settings) -> Client:
        """Return this process's client for these settings."""
        key = (os.getpid(), settings)
        client = self._clients.get(key)
        if client is None:
            with self._lock:
                client = self._clients.get(key)
                if client is None:
                    parents = next((old for old in self._inherited if old.settings == settings), None)
                    known = parents.admin.known_topics if parents else None
                    client = self._clients[key] = Client(settings, known)
        return client

    def close(self) -> None:
        """Close the clients that this process made."""
        with self._lock:
            clients = list(self._clients.values())
            self._clients.clear()
        for client in clients:
            client.close()

    def after_fork_in_child(self) -> None:
        """Leave the parent's clients and connections alone."""
        self._lock = threading.Lock()
        self._inherited.extend(self._clients.values())
        self._clients = {}
        wire.close_inherited()


_registry = _Registry()
get_client = _registry.get
close_clients = _registry.close

os.register_at_fork(after_in_child=_registry.after_fork_in_child)
atexit.register(close_clients)
