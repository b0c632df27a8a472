"""A share session with one broker: numbered requests that acquire, acknowledge and renew."""

import uuid
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from dccf.transport import errors
from dccf.transport.acknowledgements import Offsets, ranges
from dccf.transport.cluster import Cluster
from dccf.transport.protocol import (
    FINAL_EPOCH,
    INITIAL_EPOCH,
    RECORD_LIMIT_MODE,
    Acknowledgement,
    ShareAcknowledgeRequest,
    ShareFetchRequest,
)
from dccf.transport.wire import Address

_LARGEST_FETCH_BYTES = 64 * 1024 * 1024


class _Kinds(NamedTuple):
    """The classes of a request's topics; the two requests have the same fields under different names."""

    topic: Any
    partition: Any
    batch: Any


_FETCH = _Kinds(
    ShareFetchRequest.FetchTopic,
    ShareFetchRequest.FetchTopic.FetchPartition,
    ShareFetchRequest.FetchTopic.FetchPartition.AcknowledgementBatch,
)
_ACKNOWLEDGE = _Kinds(
    ShareAcknowledgeRequest.AcknowledgeTopic,
    ShareAcknowledgeRequest.AcknowledgeTopic.AcknowledgePartition,
    ShareAcknowledgeRequest.AcknowledgeTopic.AcknowledgePartition.AcknowledgementBatch,
)


class Session:
    """Requests of one member to one broker, in order.

    A session lives as long as its connection. Any error ends it: the broker gives back what it has handed out, and
    the owner has to open a new one.
    """

    def __init__(self, cluster: Cluster, address: Address, group: str, member_id: str) -> None:
        self.address = address
        self._cluster = cluster
        self._connection = cluster.connection(address)
        self._group = group
        self._member_id = member_id
        self._epoch = INITIAL_EPOCH
        self._partitions: set[tuple[uuid.UUID, int]] = set()

    @property
    def is_open(self) -> bool:
        """Tell whether the broker knows the session, and so can take acknowledgements."""
        return self._epoch != INITIAL_EPOCH and not self._connection.closed

    def fetch(
        self,
        partitions: Iterable[tuple[uuid.UUID, int]],
        acknowledged: Offsets,
        *,
        count: int,
        wait_ms: int,
    ) -> Any:
        """Acknowledge, and acquire up to `count` records of these partitions; return the broker's answer."""
        wanted = set(partitions)
        topics = {topic_id: dict(parts) for topic_id, parts in acknowledged.items()}
        for topic_id, partition in wanted - self._partitions:
            topics.setdefault(topic_id, {}).setdefault(partition, {})
        gone: dict[uuid.UUID, list[int]] = {}
        for topic_id, partition in self._partitions - wanted:
            gone.setdefault(topic_id, []).append(partition)
        self._partitions = wanted
        forgotten = ShareFetchRequest.ForgottenTopic
        request = ShareFetchRequest(
            group_id=self._group,
            member_id=self._member_id,
            share_session_epoch=self._next_epoch(),
            max_wait_ms=wait_ms,
            min_bytes=1,
            max_bytes=_LARGEST_FETCH_BYTES,
            max_records=count,
            batch_size=count,
            share_acquire_mode=RECORD_LIMIT_MODE,
            is_renew_ack=False,
            topics=_topics(_FETCH, topics),
            forgotten_topics_data=[forgotten(topic_id=key, partitions=value) for key, value in gone.items()],
        )
        options = self._cluster.settings.options
        answer = self._connection.request(request, options.request_timeout_ms + wait_ms)
        errors.raise_for_code(answer.error_code, answer.error_message)
        return answer

    def acknowledge(self, acknowledged: Offsets, *, final: bool = False) -> Any:
        """Acknowledge or renew without fetching; return the broker's answer."""
        renewing = any(
            what is Acknowledgement.RENEW
            for parts in acknowledged.values()
            for offsets in parts.values()
            for what in offsets.values()
        )
        request = ShareAcknowledgeRequest(
            group_id=self._group,
            member_id=self._member_id,
            share_session_epoch=FINAL_EPOCH if final else self._next_epoch(),
            is_renew_ack=renewing,
            topics=_topics(_ACKNOWLEDGE, acknowledged),
        )
        answer = self._connection.request(request, self._cluster.settings.options.request_timeout_ms)
        errors.raise_for_code(answer.error_code, answer.error_message)
        return answer

    def close(self) -> None:
        """Close the connection, by which the broker gives everything back."""
        self._connection.close()

    def _next_epoch(self) -> int:
        epoch = self._epoch
        self._epoch += 1
        return epoch


def _topics(
    kinds: _Kinds, acknowledged: Mapping[uuid.UUID, Mapping[int, Mapping[int, Acknowledgement]]]
) -> list[Any]:
    """Arrange acknowledgements as a request carries them."""
    return [
        kinds.topic(
            topic_id=topic_id,
            partitions=[
                kinds.partition(
                    partition_index=partition,
                    acknowledgement_batches=[
                        kinds.batch(first_offset=first, last_offset=last, acknowledge_types=[int(what)])
                        for first, last, what in ranges(offsets)
                    ],
                )
                for partition, offsets in parts.items()
            ],
        )
        for topic_id, parts in acknowledged.items()
    ]
