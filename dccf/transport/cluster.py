"""Brokers, leaders and coordinators, seen by one thread at a time."""

import logging
import random
import uuid
from dataclasses import dataclass
from typing import Any

from dccf.transport import errors
from dccf.transport.protocol import (
    FindCoordinatorRequest,
    MetadataRequest,
    ShareFetchRequest,
    kafka_errors,
)
from dccf.transport.settings import Settings
from dccf.transport.wire import Address, Connection

logger = logging.getLogger(__name__)

#: First version of Kafka whose share groups can renew a record and fetch by number of records.
MINIMUM_KAFKA = "4.2"


@dataclass(frozen=True)
class Topic:
    """A topic as the brokers see it."""

    topic_id: uuid.UUID
    #: Address of the leader by partition; none while there is no leader.
    leaders: tuple[Address | None, ...]


class Cluster:
    """A set of connections, one per broker, and what was learned about topics and groups.

    Not thread safe: each user (a consumer, the producer, the administration) has its own, so that a request that
    waits at a broker holds up nobody else. Kafka's errors and `OSError` pass through.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._connections: dict[Address, Connection] = {}
        self._addresses: dict[int, Address] = {}
        self._topics: dict[str, Topic] = {}
        self._coordinators: dict[str, Address] = {}

    def connection(self, address: Address) -> Connection:
        """Return an open connection to a broker."""
        connection = self._connections.get(address)
        if connection is None or connection.closed:
            options = self.settings.options
            connection = Connection(address, self.settings.security, options.client_id, options.connect_timeout_ms)
            self._connections[address] = connection
        return connection

    def any_connection(self) -> Connection:
        """Return a connection to whichever broker answers, an open one if there is one."""
        for connection in self._connections.values():
            if not connection.closed:
                return connection
        # Known brokers first: those of the URL may be gone. Shuffled, so that clients spread.
        known = list(dict.fromkeys([*self._addresses.values(), *self.settings.servers]))
        random.shuffle(known)
        failure: Exception | None = None
        for address in known:
            try:
                return self.connection(address)
            except errors.BROKER_ERRORS as error:
                if not errors.is_transient(error):
                    raise
                failure = error
        raise failure or kafka_errors.KafkaConnectionError("no broker is known")

    def ask(self, request: Any, address: Address | None = None, timeout_ms: int | None = None) -> Any:
        """Send a request to one broker, or to any, and return the answer.

        Args:
            request: what to ask.
            address: the broker; any one if not given.
            timeout_ms: how long the answer may take; `request_timeout_ms` if not given.
        """
        connection = self.any_connection() if address is None else self.connection(address)
        return connection.request(request, timeout_ms or self.settings.options.request_timeout_ms)

    def topic(self, name: str) -> Topic:
        """Return a topic, from memory if it is known."""
        known = self._topics.get(name)
        return known if known is not None else self._look_up(name)

    def leader(self, name: str, partition: int) -> Address:
        """Return the address of a partition's leader."""
        topic = self.topic(name)
        address = topic.leaders[partition] if partition < len(topic.leaders) else None
        if address is None:
            self.forget(name)
            raise kafka_errors.LeaderNotAvailableError(f"{name}-{partition}")
        return address

    def coordinator(self, group: str) -> Address:
        """Return the address of a group's coordinator, from memory if it is known."""
        known = self._coordinators.get(group)
        if known is not None:
            return known
        answer = self.ask(FindCoordinatorRequest(key=group, key_type=0, coordinator_keys=[group]))
        found = answer.coordinators[0] if answer.coordinators else answer
        errors.raise_for_code(found.error_code, found.error_message)
        self._coordinators[group] = (found.host, found.port)
        return found.host, found.port

    def forget(self, topic: str | None = None) -> None:
        """Forget leaders and coordinators, so that they are looked up again."""
        self._coordinators.clear()
        if topic is None:
            self._topics.clear()
        else:
            self._topics.pop(topic, None)

    def addresses(self) -> list[Address]:
        """Return the brokers of the last answer that named them."""
        return list(self._addresses.values())

    def require_topic(self, name: str, address: Address) -> None:
        """Raise a transient error unless this broker knows the topic and its leaders."""
        try:
            ready = all(self._look_up(name, address).leaders)
        except kafka_errors.UnknownTopicOrPartitionError:
            ready = False
        if not ready:
            raise kafka_errors.LeaderNotAvailableError(name)

    def require_gone(self, name: str, deleted: uuid.UUID, address: Address) -> None:
        """Raise a transient error while this broker still knows a deleted topic; a new one of its name is another."""
        try:
            found = self._look_up(name, address)
        except kafka_errors.UnknownTopicOrPartitionError:
            return
        if found.topic_id == deleted:
            self.forget(name)
            raise kafka_errors.LeaderNotAvailableError(name)

    def broker_count(self) -> int:
        """Return how many brokers the cluster has now."""
        answer = self.ask(MetadataRequest(topics=[], allow_auto_topic_creation=False))
        return len(answer.brokers)

    def require_share_groups(self) -> None:
        """Raise an error that says what is missing, unless a broker has the share groups that are needed."""
        connection = self.any_connection()
        if not connection.supports(ShareFetchRequest):
            raise errors.BrokerUnsupportedError(
                f"this broker offers what Kafka {connection.broker_version} offers, and no share groups: "
                f"Kafka {MINIMUM_KAFKA} or newer is needed"
            )
        if not connection.features.get("share.version"):
            raise errors.BrokerUnsupportedError(
                f"share groups are switched off in this cluster (Kafka {connection.broker_version} or newer): switch "
                "them on with kafka-features.sh --bootstrap-server HOST:PORT upgrade --feature share.version=1"
            )
        if connection.max_version(ShareFetchRequest) < ShareFetchRequest.max_version:
            raise errors.BrokerUnsupportedError(
                f"this broker (Kafka {connection.broker_version}) can neither renew a record nor fetch by number of "
                f"records: Kafka {MINIMUM_KAFKA} or newer is needed"
            )
        # A broker tells anybody its versions; whether one may come in shows at the first other request.
        self.broker_count()

    def close(self) -> None:
        """Close all connections."""
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()

    def interrupt(self) -> None:
        """Make a request that waits in another thread fail at once."""
        for connection in list(self._connections.values()):
            connection.interrupt()

    def _look_up(self, name: str, address: Address | None = None) -> Topic:
        wanted = MetadataRequest.MetadataRequestTopic(topic_id=uuid.UUID(int=0), name=name)
        answer = self.ask(MetadataRequest(topics=[wanted], allow_auto_topic_creation=False), address)
        self._addresses = {broker.node_id: (broker.host, broker.port) for broker in answer.brokers}
        found = answer.topics[0]
        errors.raise_for_code(found.error_code, name)
        partitions = sorted(found.partitions, key=lambda partition: partition.partition_index)
        topic = Topic(
            topic_id=found.topic_id,
            leaders=tuple(self._addresses.get(partition.leader_id) for partition in partitions),
        )
        # Without all leaders it would have to be looked up again anyway.
        if all(topic.leaders):
            self._topics[name] = topic
        return topic
