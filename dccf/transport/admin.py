"""Topics and groups: create, configure, measure, purge, delete."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from kombu.exceptions import ChannelError

from dccf.transport import errors
from dccf.transport.backoff import Backoff
from dccf.transport.cluster import Cluster
from dccf.transport.protocol import (
    GROUP_RESOURCE,
    CreateTopicsRequest,
    DeleteGroupsRequest,
    DeleteRecordsRequest,
    DeleteTopicsRequest,
    DescribeShareGroupOffsetsRequest,
    IncrementalAlterConfigsRequest,
    ListOffsetsRequest,
    kafka_errors,
)
from dccf.transport.settings import Settings

logger = logging.getLogger(__name__)

T = TypeVar("T")

_EARLIEST, _LATEST = -2, -1
#: In a DeleteRecords request: up to the end.
_HIGH_WATERMARK = -1
_SET = 0


@dataclass(frozen=True)
class TopicSpec:
    """How a topic is created."""

    partitions: int
    replication_factor: int
    config: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Progress:
    """Where a share group stands in one partition."""

    partition: int
    #: First offset in the log, and the first one that is not in it yet.
    log_start: int
    end: int
    #: Everything before it is finished; the broker counts its window of records in flight from here.
    start: int
    #: Records not finished yet.
    unfinished: int

    @property
    def finished_in_window(self) -> int:
        """Return how many records are finished behind one that is not."""
        return max(0, self.end - self.start - self.unfinished)


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
        """Delete a topic and the share group of the same name, where they exist."""
        self.known_topics.pop(name, None)
        # The group first: its coordinator deletes the state of its topics, too, and for a topic that had just gone it
        # once took longer than a request may.
        self._retry(f"delete group {name}", lambda: self._delete_group(name))
        self._retry(f"delete topic {name}", lambda: self._delete_topic(name))

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
        return self._retry(f"end of {topic}", lambda: self._offset(topic, partition, _LATEST))

    def start_offset(self, topic: str, partition: int = 0) -> int:
        """Return the offset of the first record that a partition still has."""
        return self._retry(f"start of {topic}", lambda: self._offset(topic, partition, _EARLIEST))

    def progress(self, topic: str) -> list[Progress]:
        """Return where the share group of a queue's topic stands, by partition."""
        return self._retry(f"progress of {topic}", lambda: self._progress(topic))

    def unfinished(self, topic: str) -> int:
        """Return how many records of a queue's topic are not finished, those in flight included."""
        return sum(part.unfinished for part in self.progress(topic))

    def purge(self, topic: str) -> int:
        """Delete all records of a queue's topic and return how many were not finished."""

        def delete() -> int:
            count = sum(part.unfinished for part in self._progress(topic))
            partitions = range(len(self._cluster.topic(topic).leaders))
            self._delete_records(topic, dict.fromkeys(partitions, _HIGH_WATERMARK))
            return count

        return self._retry(f"purge {topic}", delete)

    def delete_records(self, topic: str, before: Mapping[int, int]) -> None:
        """Delete the records before an offset, by partition."""
        self._retry(f"delete records of {topic}", lambda: self._delete_records(topic, before))

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            self._cluster.close()

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
                        raise errors.translated(error, f"cannot {doing}") from error
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

    def _delete_topic(self, name: str) -> None:
        self._cluster.forget(name)
        request = DeleteTopicsRequest(topics=[], topic_names=[name], timeout_ms=5000, max_version=5)
        answer = self._cluster.ask(request)
        try:
            errors.raise_for_code(answer.responses[0].error_code, name)
        except kafka_errors.UnknownTopicOrPartitionError:
            return

    def _delete_group(self, name: str) -> None:
        answer = self._cluster.ask(DeleteGroupsRequest(groups_names=[name]), self._cluster.coordinator(name))
        try:
            errors.raise_for_code(answer.results[0].error_code, name)
        except kafka_errors.GroupIdNotFoundError:
            return
        except kafka_errors.NonEmptyGroupError:
            # Members leave when they see that the topic is gone, and an empty group costs nothing.
            return

    def _offset(self, topic: str, partition: int, which: int) -> int:
        wanted = ListOffsetsRequest.ListOffsetsTopic
        at = wanted.ListOffsetsPartition(partition_index=partition, current_leader_epoch=-1, timestamp=which)
        request = ListOffsetsRequest(
            replica_id=-1, isolation_level=0, topics=[wanted(name=topic, partitions=[at])], max_version=7
        )
        answer = self._cluster.ask(request, self._cluster.leader(topic, partition))
        found = answer.topics[0].partitions[0]
        errors.raise_for_code(found.error_code, topic)
        return int(found.offset)

    def _progress(self, topic: str) -> list[Progress]:
        group = self._group_offsets(topic)
        parts = []
        for partition in range(len(self._cluster.topic(topic).leaders)):
            log_start = self._offset(topic, partition, _EARLIEST)
            end = self._offset(topic, partition, _LATEST)
            start, lag = group.get(partition, (-1, -1))
            start = max(start, log_start)
            left = end - start
            # The group learns of deleted records only when a member fetches again.
            unfinished = left if lag < 0 else min(lag, left)
            parts.append(Progress(partition, log_start, end, start, unfinished))
        return parts

    def _group_offsets(self, topic: str) -> dict[int, tuple[int, int]]:
        """Return start offset and lag by partition; nothing for a group that never had a member."""
        group = DescribeShareGroupOffsetsRequest.DescribeShareGroupOffsetsRequestGroup
        topics = group.DescribeShareGroupOffsetsRequestTopic
        partitions = list(range(len(self._cluster.topic(topic).leaders)))
        wanted = topics(topic_name=topic, partitions=partitions)
        answer: Any = self._cluster.ask(
            DescribeShareGroupOffsetsRequest(groups=[group(group_id=topic, topics=[wanted])]),
            self._cluster.coordinator(topic),
        )
        found = answer.groups[0]
        try:
            errors.raise_for_code(found.error_code, found.error_message)
        except kafka_errors.GroupIdNotFoundError:
            return {}
        return {
            part.partition_index: (part.start_offset, part.lag)
            for part in (found.topics[0].partitions if found.topics else ())
            if not part.error_code
        }

    def _delete_records(self, topic: str, before: Mapping[int, int]) -> None:
        wanted = DeleteRecordsRequest.DeleteRecordsTopic
        for partition, offset in before.items():
            part = wanted.DeleteRecordsPartition(partition_index=partition, offset=offset)
            request = DeleteRecordsRequest(topics=[wanted(name=topic, partitions=[part])], timeout_ms=5000)
            answer = self._cluster.ask(request, self._cluster.leader(topic, partition))
            errors.raise_for_code(answer.topics[0].partitions[0].error_code, topic)
