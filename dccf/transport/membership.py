"""Membership of a share group: heartbeats, and the partitions that they bring."""

import time
import uuid

from dccf.transport import errors
from dccf.transport.cluster import Cluster
from dccf.transport.protocol import JOIN_EPOCH, LEAVE_EPOCH, ShareGroupHeartbeatRequest, kafka_errors

#: Until an assignment arrives, which takes the coordinator a moment; doubled up to a second, where there is no topic.
_FIRST_JOINING_SECONDS, _LONGEST_JOINING_SECONDS = 0.03, 1.0


class Membership:
    """One member of one share group that reads one topic."""

    def __init__(self, cluster: Cluster, group: str, topic: str) -> None:
        self.member_id = str(uuid.uuid4())
        #: Topic id and partition of everything this member may fetch.
        self.partitions: frozenset[tuple[uuid.UUID, int]] = frozenset()
        #: Whether it wants partitions; while it does not, others get all of them, and it may finish what it holds.
        self.is_subscribed = True
        self._was_subscribed = True
        self._cluster = cluster
        self._group = group
        self._topic = topic
        self._epoch = JOIN_EPOCH
        self._due = 0.0
        self._joining_seconds = _FIRST_JOINING_SECONDS

    @property
    def seconds_to_heartbeat(self) -> float:
        """Return how long the next heartbeat may wait."""
        if self.is_subscribed != self._was_subscribed:
            return 0.0
        return max(0.0, self._due - time.monotonic())

    def beat_if_due(self) -> None:
        """Join, or tell the coordinator that this member is alive."""
        if self.seconds_to_heartbeat > 0:
            return
        # One joins with a subscription, and may give it up then.
        subscribes = self.is_subscribed or self._epoch == JOIN_EPOCH
        is_news = self._epoch == JOIN_EPOCH or subscribes != self._was_subscribed
        topics = [self._topic] if subscribes else []
        answer = self._cluster.ask(
            ShareGroupHeartbeatRequest(
                group_id=self._group,
                member_id=self.member_id,
                member_epoch=self._epoch,
                rack_id=None,
                subscribed_topic_names=topics if is_news else None,
            ),
            self._cluster.coordinator(self._group),
        )
        try:
            errors.raise_for_code(answer.error_code, answer.error_message)
        except kafka_errors.KafkaError as error:
            if errors.meaning_of(type(error)) is errors.Meaning.MEMBERSHIP:
                self.rejoin()
            raise
        self._epoch = answer.member_epoch
        self._was_subscribed = subscribes
        if answer.assignment is not None:
            self.partitions = frozenset(
                (part.topic_id, index) for part in answer.assignment.topic_partitions for index in part.partitions
            )
        if self.partitions or not subscribes:
            self._joining_seconds = _FIRST_JOINING_SECONDS
            self._due = time.monotonic() + answer.heartbeat_interval_ms / 1000
        else:
            self._due = time.monotonic() + self._joining_seconds
            self._joining_seconds = min(self._joining_seconds * 2, _LONGEST_JOINING_SECONDS)

    def rejoin(self) -> None:
        """Begin anew: the coordinator no longer knows this member."""
        self._epoch = JOIN_EPOCH
        self._due = 0.0
        self.partitions = frozenset()

    def leave(self) -> None:
        """Tell the coordinator that this member is gone."""
        if self._epoch == JOIN_EPOCH:
            return
        self._cluster.ask(
            ShareGroupHeartbeatRequest(
                group_id=self._group,
                member_id=self.member_id,
                member_epoch=LEAVE_EPOCH,
                rack_id=None,
                subscribed_topic_names=None,
            ),
            self._cluster.coordinator(self._group),
        )
