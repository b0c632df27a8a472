"""Kafka's protocol: what is used of kafka-python, and the share group messages that it does not have yet.

This is the one place that imports kafka-python. It builds a message class from a JSON schema, and finds a response
class by the request's API key, so making the classes is all that is needed to send and receive new messages
(KIP-932, KIP-1222, KIP-1226).
"""

import types
import warnings
from enum import IntEnum
from typing import Any

from dccf.transport import schemas

with warnings.catch_warnings():
    # kafka-python reads its schemas with a call that Python 3.11 and 3.12 deprecate.
    warnings.simplefilter("ignore", DeprecationWarning)
    from kafka import __version__ as kafka_python_version
    from kafka import errors as kafka_errors
    from kafka.net.sasl import get_sasl_mechanism
    from kafka.protocol.admin import (
        CreateTopicsRequest,
        DeleteGroupsRequest,
        DeleteRecordsRequest,
        DeleteTopicsRequest,
        IncrementalAlterConfigsRequest,
    )
    from kafka.protocol.api_message import ApiMessage
    from kafka.protocol.broker_version_data import BrokerVersionData
    from kafka.protocol.consumer import FetchRequest, ListOffsetsRequest
    from kafka.protocol.metadata import ApiVersionsRequest, FindCoordinatorRequest, MetadataRequest
    from kafka.protocol.parser import KafkaProtocol
    from kafka.protocol.producer import InitProducerIdRequest, ProduceRequest
    from kafka.protocol.sasl import SaslAuthenticateRequest, SaslHandshakeRequest
    from kafka.record import MemoryRecords
    from kafka.record.memory_records import MemoryRecordsBuilder

__all__ = [
    "FINAL_EPOCH",
    "GROUP_RESOURCE",
    "INITIAL_EPOCH",
    "JOIN_EPOCH",
    "LEAVE_EPOCH",
    "MAX_FETCH_VERSION",
    "MAX_PRODUCE_VERSION",
    "RECORD_LIMIT_MODE",
    "Acknowledgement",
    "ApiVersionsRequest",
    "BrokerVersionData",
    "CreateTopicsRequest",
    "DeleteGroupsRequest",
    "DeleteRecordsRequest",
    "DeleteTopicsRequest",
    "DescribeShareGroupOffsetsRequest",
    "FetchRequest",
    "FindCoordinatorRequest",
    "IncrementalAlterConfigsRequest",
    "InitProducerIdRequest",
    "KafkaProtocol",
    "ListOffsetsRequest",
    "MemoryRecords",
    "MemoryRecordsBuilder",
    "MetadataRequest",
    "ProduceRequest",
    "SaslAuthenticateRequest",
    "SaslHandshakeRequest",
    "ShareAcknowledgeRequest",
    "ShareFetchRequest",
    "ShareGroupHeartbeatRequest",
    "get_sasl_mechanism",
    "kafka_errors",
    "kafka_python_version",
]


class Acknowledgement(IntEnum):
    """What a member tells the broker about a record that it has acquired."""

    #: Finished: never delivered again.
    ACCEPT = 1
    #: Available again at once, to any member; the delivery still counts.
    RELEASE = 2
    #: Never delivered again, by decision of the consumer.
    REJECT = 3
    #: Still being worked on: the lock starts anew (KIP-1222).
    RENEW = 4


#: `share_acquire_mode` of a fetch: never more records than were asked for (KIP-1206).
RECORD_LIMIT_MODE = 1
#: Session epoch of the first request of a share session, and of the one that ends it.
INITIAL_EPOCH, FINAL_EPOCH = 0, -1
#: Member epoch that joins a share group, and the one that leaves it.
JOIN_EPOCH, LEAVE_EPOCH = 0, -1
#: Resource type of a group in the requests that read and change settings.
GROUP_RESOURCE = 32
#: Newest versions of these requests that name topics, not topic ids.
MAX_PRODUCE_VERSION, MAX_FETCH_VERSION = 12, 12


def _message(name: str, meaning: str) -> Any:
    """Make the class of a message from the schema of that name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return types.new_class(name, (ApiMessage,), {"load_json": schemas}, lambda body: body.update(__doc__=meaning))


ShareGroupHeartbeatRequest = _message("ShareGroupHeartbeatRequest", "Joins a share group, stays in it, leaves it.")
ShareGroupHeartbeatResponse = _message("ShareGroupHeartbeatResponse", "Member epoch, assignment, next heartbeat.")
ShareFetchRequest = _message("ShareFetchRequest", "Acquires records, and acknowledges earlier ones.")
ShareFetchResponse = _message("ShareFetchResponse", "The acquired records, and errors by partition.")
ShareAcknowledgeRequest = _message("ShareAcknowledgeRequest", "Acknowledges or renews without fetching.")
ShareAcknowledgeResponse = _message("ShareAcknowledgeResponse", "Errors by partition.")
DescribeShareGroupOffsetsRequest = _message(
    "DescribeShareGroupOffsetsRequest", "Asks where a share group stands in its topics."
)
#: The lag counts the records that are not yet finished.
DescribeShareGroupOffsetsResponse = _message(
    "DescribeShareGroupOffsetsResponse", "Start offset and lag by partition."
)
