"""Topics and groups: create, configure, measure, purge, delete."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

from kombu.exceptions import ChannelError

from dccf.transport import errors, offsets
from dccf.transport.backoff import Backoff
from dccf.transport.cluster import Cluster
from dccf.transport.protocol import (
    GROUP_RESOURCE,
    CreateTopicsRequest,
    DeleteGroupsRequest,
    DeleteTopicsRequest,
    IncrementalAlterConfigsRequest,
    kafka_errors,
)
from dccf.transport.settings import Settings

logger = logging.getLogger(__name__)

T = TypeVar("T")

_SET = 0
#: A consumer that waited for longer would not renew what it holds in time.
_BUSY_SECONDS = 0.1


@dataclass(frozen=True)
class TopicSpec:
    """How a topic is created."""

    partitions: int
    replication_factor: int
    config: tuple[tuple[str, str], ...]


class Admin:
    """Administration over connections of its own; any thread may call it, one at a time gets through.

    Every call tries again while the cluster is unsettled, within `delivery_timeout_ms`, and then raises what
    `errors.translated` makes of Kafka's error.
    """

    def __init__(self, settings: Settings, known_topics: Mapping[str, TopicSpec] | None = None) -> None:
        self._settings = settings
        self._cluster = Cluster(settings)
        self._lock = threading.Lock()
        #: Topics that were seen, or created, by this process or by the one it was forked from.
        self.known_topics: dict[str, TopicSpec] = dict(known_topics or {})

    def check_broker(self) -> None:
        """Raise unless a broker answers and has the share groups that are needed."""
        with self._lock:
            self._cluster.require_share_groups()

    def ensure_topic(self, name: str, spec: TopicSpec) -> bool:
        """Create a topic unless it exists, and wait until every broker knows it; tell whether it was created."""
        if name in self.known_topics:
            return False
        is_new = self._retry(f"create topic {name}", lambda: self._create(name, spec))
        if is_new:
            self._retry(f"wait for topic {name}", lambda: self._require_everywhere(name))
        self.known_topics[name] = spec
        return is_new

    def recreate_topic(self, name: str) -> None:
        """Create a topic again that somebody deleted."""
        spec = self.known_topics.pop(name, None)
        if spec is not None:
            self.ensure_topic(name, spec)

    def topic_exists(self, name: str) -> bool:
        """Tell whether the brokers know a topic."""

        def look() -> bool:
            self._cluster.forget(name)
            try:
                self._cluster.topic(name)
            except kafka_errors.UnknownTopicOrPartitionError:
                return False
            return True

        return self._retry(f"look up topic {name}", look)

    def delete_queue(self, name: str) -> None:
        """Delete a topic and the share group of the same name, where they exist; wait until no broker knows it."""
        self.known_topics.pop(name, None)
        # The group first: its coordinator deletes the state of its topics, too, and for a topic that had just gone it
        # once took longer than a request may.
        self._retry(f"delete group {name}", lambda: self._delete_group(name))
        deleted = self._retry(f"delete topic {name}", lambda: self._delete_topic(name))
        if deleted is not None:
            self._retry(f"wait until topic {name} is gone", lambda: self._require_nowhere(name, deleted))

    def configure_group(self, group: str, config: Mapping[str, str]) -> None:
        """Set a share group's settings; they hold from the first member on."""
        request = IncrementalAlterConfigsRequest
        resource = request.AlterConfigsResource
        setting = resource.AlterableConfig
        entries = [setting(name=name, config_operation=_SET, value=value) for name, value in config.items()]

        def alter() -> None:
            answer = self._cluster.ask(
                request(
                    resources=[resource(resource_type=GROUP_RESOURCE, resource_name=group, configs=entries)],
                    validate_only=False,
                )
            )
            errors.raise_for_code(answer.responses[0].error_code, answer.responses[0].error_message)

        self._retry(f"configure group {group}", alter)

    def end_offset(self, topic: str, partition: int = 0) -> int:
        """Return the offset that the next record of a partition will get."""
        return self._retry(
            f"end of {topic}", lambda: offsets.get_offset(self._cluster, topic, partition, offsets.LATEST)
        )

    def start_offset(self, topic: str, partition: int = 0) -> int:
        """Return the offset of the first record that a partition still has."""
        return self._retry(
            f"start of {topic}", lambda: offsets.get_offset(self._cluster, topic, partition, offsets.EARLIEST)
        )

    def progress(self, topic: str) -> list[offsets.Progress]:
        """Return where the share group of a queue's topic stands, by partition; one try, for consumers."""
        return self._once(f"progress of {topic}", lambda: offsets.get_progress(self._cluster, topic))

    def unfinished(self, topic: str) -> int:
        """Return how many records of a queue's topic are not finished, those in flight included."""
        return sum(
            part.unfinished
            for part in self._retry(f"progress of {topic}", lambda: offsets.get_progress(self._cluster, topic))
        )

    def purge(self, topic: str) -> int:
        """Delete all records of a queue's topic and return how many were not finished."""

        def delete() -> int:
            count = sum(part.unfinished for part in offsets.get_progress(self._cluster, topic))
            partitions = range(len(self._cluster.topic(topic).leaders))
            offsets.delete_records(self._cluster, topic, dict.fromkeys(partitions, offsets.HIGH_WATERMARK))
            return count

        return self._retry(f"purge {topic}", delete)

    def delete_records(self, topic: str, before: Mapping[int, int]) -> None:
        """Delete the records before an offset, by partition; one try, for consumers."""
        self._once(f"delete records of {topic}", lambda: offsets.delete_records(self._cluster, topic, before))

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            self._cluster.close()

    def _once(self, doing: str, action: Callable[[], T]) -> T:
        """Do something that may as well be done later, unless others are at work or the cluster is unsettled."""
        if not self._lock.acquire(timeout=_BUSY_SECONDS):
            raise errors.BrokerAwayError(f"cannot {doing} now: others ask the cluster")
        try:
            return action()
        except errors.BROKER_ERRORS as error:
            self._cluster.forget()
            raise errors.translated(error, f"cannot {doing}", errors.BrokerAwayError) from error
        finally:
            self._lock.release()

    def _retry(self, doing: str, action: Callable[[], T]) -> T:
        deadline = time.monotonic() + self._settings.options.delivery_timeout_ms / 1000
        backoff = Backoff()
        with self._lock:
            while True:
                try:
                    return action()
                except kafka_errors.UnknownTopicOrPartitionError as error:
                    # Topics are used after every broker knew them: this one was deleted.
                    raise ChannelError(f"cannot {doing}: no such queue or exchange") from error
                except errors.BROKER_ERRORS as error:
                    self._cluster.forget()
                    wait_seconds = backoff.next_seconds()
                    if not errors.is_transient(error) or time.monotonic() + wait_seconds > deadline:
                        raise errors.translated(error, f"cannot {doing}", errors.BrokerAwayError) from error
                    logger.debug("%s: %r, again in %.2f s", doing, error, wait_seconds)
                    time.sleep(wait_seconds)

    def _create(self, name: str, spec: TopicSpec) -> bool:
        """Create a topic unless some broker knows it; tell whether this call created it."""
        try:
            self._cluster.topic(name)
        except kafka_errors.UnknownTopicOrPartitionError:
            self._send_create(name, spec)
            return True
        return False

    def _require_everywhere(self, name: str) -> None:
        # Brokers learn of a new topic one after the other; a request must not meet one that has not.
        for address in self._cluster.addresses():
            self._cluster.require_topic(name, address)

    def _require_nowhere(self, name: str, deleted: UUID) -> None:
        # Likewise: who declares the queue again must not meet a broker that takes it for one that is there.
        for address in self._cluster.addresses():
            self._cluster.require_gone(name, deleted, address)

    def _send_create(self, name: str, spec: TopicSpec) -> None:
        topic = CreateTopicsRequest.CreatableTopic
        config = topic.CreatableTopicConfig
        answer = self._cluster.ask(
            CreateTopicsRequest(
                topics=[
                    topic(
                        name=name,
                        num_partitions=spec.partitions,
                        replication_factor=spec.replication_factor,
                        assignments=[],
                        configs=[config(name=key, value=value) for key, value in spec.config],
                    )
                ],
                timeout_ms=self._settings.options.request_timeout_ms,
                validate_only=False,
            )
        )
        try:
            errors.raise_for_code(answer.topics[0].error_code, answer.topics[0].error_message)
        except kafka_errors.TopicAlreadyExistsError:
            # Another process was first.
            return

    def _delete_topic(self, name: str) -> UUID | None:
        """Delete a topic if there is one; give its id, if the broker that was asked knew it."""
        self._cluster.forget(name)
        topic_id = None
        with suppress(kafka_errors.UnknownTopicOrPartitionError):
            topic_id = self._cluster.topic(name).topic_id
        request = DeleteTopicsRequest(topics=[], topic_names=[name], timeout_ms=5000, max_version=5)
        answer = self._cluster.ask(request)
        try:
            errors.raise_for_code(answer.responses[0].error_code, name)
        except kafka_errors.UnknownTopicOrPartitionError:  # another process was first
            return None
        self._cluster.forget(name)
        return topic_id

    def _delete_group(self, name: str) -> None:
        answer = self._cluster.ask(DeleteGroupsRequest(groups_names=[name]), self._cluster.coordinator(name))
        try:
            errors.raise_for_code(answer.results[0].error_code, name)
        except kafka_errors.GroupIdNotFoundError:
            return
        except kafka_errors.NonEmptyGroupError:
            # Members leave when they see that the topic is gone, and an empty group costs nothing.
            return
