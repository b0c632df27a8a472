"""Errors of the transport, and what each error of Kafka means to it.

    KombuError (kombu)
    ├── ChannelError (kombu)                 the request is at fault: too large, a bad name, not allowed
    └── OperationalError (kombu)             a message was not confirmed in time, or the broker is away
        ├── BrokerUnsupportedError           the broker has no share groups, or they are switched off
        ├── AuthenticationRefusedError       wrong user, password or mechanism
        └── CertificateNotTrustedError       nobody known signed the broker's certificate, or it names another host
    ConnectionError (built in)
    └── BrokerUnreachableError               no broker answers; worth another try
        └── BrokerAwayError                  the same at work, and an OperationalError as well

Kafka's own errors never leave the package. They are told apart by type, never by text.
"""

import ssl
from enum import Enum, auto
from typing import Any

from kombu import exceptions as kombu_errors

from dccf.transport import advice
from dccf.transport.protocol import kafka_errors

#: kombu is typed in parts only.
ChannelError: Any = kombu_errors.ChannelError
OperationalError: Any = kombu_errors.OperationalError


class BrokerUnsupportedError(OperationalError):
    """The broker cannot do what the transport needs, and trying again will not help."""


class AuthenticationRefusedError(OperationalError):
    """The broker refused the user, the password or the mechanism."""


class CertificateNotTrustedError(OperationalError):
    """The broker's certificate does not prove that it is the broker that was asked for."""


class BrokerUnreachableError(ConnectionError):
    """No broker answers at the moment."""


class BrokerAwayError(OperationalError, BrokerUnreachableError):
    """The cluster did not do in time what a consumer or a new queue needs; a worker connects again and goes on."""


class Meaning(Enum):
    """What an error of Kafka asks the transport to do."""

    #: Look up leaders and coordinators again, wait, and try once more.
    TRANSIENT = auto()
    #: Rejoin the share group and open a new session; the records held so far are gone.
    MEMBERSHIP = auto()
    #: Take a new producer id and send again.
    PRODUCER = auto()
    #: An earlier try did it: the answer was lost on the way.
    DONE = auto()
    #: Tell the caller: the same request fails again.
    REQUEST = auto()
    #: Tell the caller: the credentials are wrong.
    AUTHENTICATION = auto()
    #: Tell the caller: the broker's certificate is not trusted.
    CERTIFICATE = auto()
    #: Tell the caller: the broker is too old.
    UNSUPPORTED = auto()


_MEANINGS: dict[type[Exception], Meaning] = {
    OSError: Meaning.TRANSIENT,
    ssl.SSLCertVerificationError: Meaning.CERTIFICATE,
    kafka_errors.RetriableError: Meaning.TRANSIENT,
    kafka_errors.KafkaConnectionError: Meaning.TRANSIENT,
    kafka_errors.KafkaProtocolError: Meaning.TRANSIENT,
    kafka_errors.UnknownError: Meaning.TRANSIENT,
    kafka_errors.BrokerNotAvailableError: Meaning.TRANSIENT,
    kafka_errors.UnknownBrokerIdError: Meaning.TRANSIENT,
    kafka_errors.BrokerIdNotRegisteredError: Meaning.TRANSIENT,
    kafka_errors.StaleBrokerEpochError: Meaning.TRANSIENT,
    kafka_errors.CorruptRecordError: Meaning.TRANSIENT,
    kafka_errors.NewLeaderElectedError: Meaning.TRANSIENT,
    kafka_errors.FencedStateEpochError: Meaning.TRANSIENT,
    kafka_errors.OffsetOutOfRangeError: Meaning.TRANSIENT,
    kafka_errors.GroupIdNotFoundError: Meaning.MEMBERSHIP,
    kafka_errors.UnknownMemberIdError: Meaning.MEMBERSHIP,
    kafka_errors.FencedMemberEpochError: Meaning.MEMBERSHIP,
    kafka_errors.StaleMemberEpochError: Meaning.MEMBERSHIP,
    kafka_errors.UnreleasedInstanceIdError: Meaning.MEMBERSHIP,
    kafka_errors.RebalanceInProgressError: Meaning.MEMBERSHIP,
    kafka_errors.ShareSessionNotFoundError: Meaning.MEMBERSHIP,
    kafka_errors.InvalidShareSessionEpochError: Meaning.MEMBERSHIP,
    kafka_errors.OutOfOrderSequenceNumberError: Meaning.PRODUCER,
    kafka_errors.UnknownProducerIdError: Meaning.PRODUCER,
    kafka_errors.InvalidProducerEpochError: Meaning.PRODUCER,
    kafka_errors.InvalidProducerIdMappingError: Meaning.PRODUCER,
    kafka_errors.ProducerFencedError: Meaning.PRODUCER,
    kafka_errors.DuplicateSequenceNumberError: Meaning.DONE,
    kafka_errors.MessageSizeTooLargeError: Meaning.REQUEST,
    kafka_errors.RecordListTooLargeError: Meaning.REQUEST,
    kafka_errors.InvalidRecordError: Meaning.REQUEST,
    kafka_errors.InvalidRecordStateError: Meaning.REQUEST,
    kafka_errors.InvalidTimestampError: Meaning.REQUEST,
    kafka_errors.InvalidTopicError: Meaning.REQUEST,
    kafka_errors.InvalidPartitionsError: Meaning.REQUEST,
    kafka_errors.InvalidReplicationFactorError: Meaning.REQUEST,
    kafka_errors.InvalidConfigurationError: Meaning.REQUEST,
    kafka_errors.InvalidRequestError: Meaning.REQUEST,
    kafka_errors.InvalidRequiredAcksError: Meaning.REQUEST,
    kafka_errors.InvalidGroupIdError: Meaning.REQUEST,
    kafka_errors.InvalidFetchRequestError: Meaning.REQUEST,
    kafka_errors.PolicyViolationError: Meaning.REQUEST,
    kafka_errors.TopicAlreadyExistsError: Meaning.REQUEST,
    kafka_errors.TopicDeletionDisabledError: Meaning.REQUEST,
    kafka_errors.PositionOutOfRangeError: Meaning.REQUEST,
    kafka_errors.QuotaViolationError: Meaning.REQUEST,
    kafka_errors.GroupMaxSizeReachedError: Meaning.REQUEST,
    kafka_errors.NonEmptyGroupError: Meaning.REQUEST,
    kafka_errors.GroupSubscribedToTopicError: Meaning.REQUEST,
    kafka_errors.ResourceNotFoundError: Meaning.REQUEST,
    kafka_errors.AuthorizationError: Meaning.REQUEST,
    kafka_errors.IllegalArgumentError: Meaning.REQUEST,
    kafka_errors.SaslAuthenticationFailedError: Meaning.AUTHENTICATION,
    kafka_errors.IllegalSaslStateError: Meaning.AUTHENTICATION,
    kafka_errors.UnsupportedSaslMechanismError: Meaning.AUTHENTICATION,
    kafka_errors.SecurityDisabledError: Meaning.AUTHENTICATION,
    kafka_errors.UnsupportedVersionError: Meaning.UNSUPPORTED,
    kafka_errors.UnsupportedForMessageFormatError: Meaning.UNSUPPORTED,
    kafka_errors.UnrecognizedBrokerVersion: Meaning.UNSUPPORTED,
}

#: Errors that answer requests which the transport never sends (transactions, consumer groups, delegation
#: tokens, quorum and partition management, telemetry), or that belong to parts of kafka-python it does not use.
IGNORED: frozenset[str] = frozenset(
    {
        "BrokerResponseError",
        "CommitFailedError",
        "DelegationTokenAuthDisabledError",
        "DelegationTokenExpiredError",
        "DelegationTokenNotFoundError",
        "DelegationTokenOwnerMismatchError",
        "DelegationTokenRequestNotAllowedError",
        "DuplicateBrokerRegistrationError",
        "DuplicateResourceError",
        "DuplicateVoterError",
        "FeatureUpdateFailedError",
        "FencedInstanceIdError",
        "IllegalGenerationError",
        "IllegalStateError",
        "InconsistentClusterIdError",
        "InconsistentGroupProtocolError",
        "InconsistentVoterSetError",
        "IneligibleReplicaError",
        "InvalidCommitOffsetSizeError",
        "InvalidPrincipalTypeError",
        "InvalidRegistrationError",
        "InvalidReplicationAssignmentError",
        "InvalidSessionTimeoutError",
        "InvalidTransactionTimeoutError",
        "InvalidTxnStateError",
        "InvalidUpdateVersionError",
        "InvalidVoterKeyError",
        "KafkaConfigurationError",
        "KafkaError",
        "LogDirNotFoundError",
        "LogTruncationError",
        "MemberIdRequiredError",
        "MismatchedEndpointTypeError",
        "NoError",
        "NoOffsetForPartitionError",
        "NoReassignmentInProgressError",
        "OffsetMetadataTooLargeError",
        "OffsetMovedToTieredStorageError",
        "OperationNotAttemptedError",
        "PrincipalDeserializationFailureError",
        "ReassignmentInProgressError",
        "SnapshotNotFoundError",
        "StaleControllerEpochError",
        "TelemetryTooLargeError",
        "TransactionAbortableError",
        "TransactionAbortedError",
        "TransactionCoordinatorFencedError",
        "TransactionalIdNotFoundError",
        "UnacceptableCredentialError",
        "UnknownControllerIdError",
        "UnknownSubscriptionIdError",
        "UnsupportedAssignorError",
        "UnsupportedCodecError",
        "UnsupportedCompressionTypeError",
        "UnsupportedEndpointTypeError",
        "VoterNotFoundError",
    }
)

#: What a caller of kombu gets; for any other meaning it is `OperationalError`.
_RAISED_AS: dict[Meaning | None, Any] = {
    Meaning.REQUEST: ChannelError,
    Meaning.AUTHENTICATION: AuthenticationRefusedError,
    Meaning.CERTIFICATE: CertificateNotTrustedError,
    Meaning.UNSUPPORTED: BrokerUnsupportedError,
}

#: What talking to a broker can raise.
BROKER_ERRORS = (kafka_errors.KafkaError, OSError)


def meaning_of(kind: type[BaseException]) -> Meaning | None:
    """Return what an error class asks for: the entry of the class itself, or of its nearest base."""
    return next((_MEANINGS[base] for base in kind.__mro__ if base in _MEANINGS), None)


def is_transient(error: BaseException) -> bool:
    """Tell whether the same request may work in a moment."""
    return meaning_of(type(error)) in (Meaning.TRANSIENT, Meaning.MEMBERSHIP, Meaning.PRODUCER)


def raise_for_code(code: int, message: str | None = None) -> None:
    """Raise Kafka's error for a code in a response; 0 is no error."""
    if code:
        error: Exception = kafka_errors.for_code(code)(message or "")
        raise error


def translated(error: BaseException, doing: str, transient: Any = OperationalError) -> Exception:
    """Return the error that a caller of kombu understands, for one of Kafka; `transient` for what may pass."""
    text = f"{doing}: {advice.describe(error)}"
    kind = transient if is_transient(error) else _RAISED_AS.get(meaning_of(type(error)), OperationalError)
    made: Exception = kind(text)
    return made
