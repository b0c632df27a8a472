"""Offsets: where a topic begins and ends, where its share group stands, and what may be deleted."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dccf.transport import errors
from dccf.transport.cluster import Cluster
from dccf.transport.protocol import (
    DeleteRecordsRequest,
    DescribeShareGroupOffsetsRequest,
    ListOffsetsRequest,
    kafka_errors,
)

EARLIEST, LATEST = -2, -1
#: In a DeleteRecords request: up to the end.
HIGH_WATERMARK = -1


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


def get_offset(cluster: Cluster, topic: str, partition: int, which: int) -> int:
    """Return the first offset of a partition (`EARLIEST`), or the one that its next record will get (`LATEST`)."""
    wanted = ListOffsetsRequest.ListOffsetsTopic
    at = wanted.ListOffsetsPartition(partition_index=partition, current_leader_epoch=-1, timestamp=which)
    request = ListOffsetsRequest(
        replica_id=-1, isolation_level=0, topics=[wanted(name=topic, partitions=[at])], max_version=7
    )
    answer = cluster.ask(request, cluster.leader(topic, partition))
    found = answer.topics[0].partitions[0]
    errors.raise_for_code(found.error_code, topic)
    return int(found.offset)


def get_progress(cluster: Cluster, topic: str) -> list[Progress]:
    """Return where the share group of a queue's topic stands, by partition."""
    group = _group_offsets(cluster, topic)
    parts = []
    for partition in range(len(cluster.topic(topic).leaders)):
        log_start = get_offset(cluster, topic, partition, EARLIEST)
        end = get_offset(cluster, topic, partition, LATEST)
        start, lag = group.get(partition, (-1, -1))
        start = max(start, log_start)
        left = end - start
        # The group learns of deleted records only when a member fetches again.
        unfinished = left if lag < 0 else min(lag, left)
        parts.append(Progress(partition, log_start, end, start, unfinished))
    return parts


def _group_offsets(cluster: Cluster, topic: str) -> dict[int, tuple[int, int]]:
    """Return start offset and lag by partition; nothing for a group that never had a member."""
    group = DescribeShareGroupOffsetsRequest.DescribeShareGroupOffsetsRequestGroup
    topics = group.DescribeShareGroupOffsetsRequestTopic
    partitions = list(range(len(cluster.topic(topic).leaders)))
    wanted = topics(topic_name=topic, partitions=partitions)
    answer: Any = cluster.ask(
        DescribeShareGroupOffsetsRequest(groups=[group(group_id=topic, topics=[wanted])]),
        cluster.coordinator(topic),
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


def delete_records(cluster: Cluster, topic: str, before: Mapping[int, int]) -> None:
    """Delete the records before an offset, by partition."""
    wanted = DeleteRecordsRequest.DeleteRecordsTopic
    for partition, offset in before.items():
        part = wanted.DeleteRecordsPartition(partition_index=partition, offset=offset)
        request = DeleteRecordsRequest(topics=[wanted(name=topic, partitions=[part])], timeout_ms=5000)
        answer = cluster.ask(request, cluster.leader(topic, partition))
        errors.raise_for_code(answer.topics[0].partitions[0].error_code, topic)
