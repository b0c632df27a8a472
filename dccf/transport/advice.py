"""An error of Kafka in words: what happened, where, and what a person can do about it."""

import socket
import ssl

from dccf.transport.protocol import kafka_errors
from dccf.transport.wire import ClosedUnusedError

_ACLS = "ask who runs the cluster for the ACLs that docs/transport.md lists"

_WAYS_OUT: dict[type[BaseException], str] = {
    socket.gaierror: "check the host name",
    ConnectionRefusedError: "check host and port, and that the broker runs",
    TimeoutError: "check host and port, and that no firewall stands between",
    ssl.SSLCertVerificationError: "name the file of the authority that signed it with ssl_cafile; if only the host "
    "name is wrong, use one that the certificate names",
    ssl.SSLError: "if this port does not speak TLS, use kafka:// without +ssl; if it wants a client's certificate, "
    "name it with ssl_certfile",
    ClosedUnusedError: "if it does so every time, this port wants a user (kafka://user:password@host) or TLS "
    "(kafka+ssl://)",
    kafka_errors.InvalidReceiveError: "if this port speaks TLS, use kafka+ssl://",
    kafka_errors.SaslAuthenticationFailedError: "check the user and password of the URL, and sasl_mechanism",
    kafka_errors.UnsupportedSaslMechanismError: "set sasl_mechanism to one that the broker offers",
    kafka_errors.IllegalSaslStateError: "this port takes no password: leave it out of the URL, or use another port",
    kafka_errors.AuthorizationError: _ACLS,
    kafka_errors.MessageSizeTooLargeError: "send less: keep large data elsewhere and send a reference to it, or "
    "raise message.max.bytes at the broker or max.message.bytes of the topic",
    kafka_errors.RecordListTooLargeError: "send less, or raise segment.bytes of the topic",
    kafka_errors.InvalidReplicationFactorError: "set replication_factor to at most the number of brokers; -1 takes "
    "the broker's default",
    kafka_errors.PolicyViolationError: "the cluster has rules of its own for topics: ask who runs it",
    kafka_errors.NotEnoughReplicasError: "fewer brokers are up than min.insync.replicas asks for",
    kafka_errors.GroupMaxSizeReachedError: "raise group.share.max.size at the broker",
}


def describe(error: BaseException) -> str:
    """Return what happened, where, and the way out where one is known."""
    where = "".join(f"{note}: " for note in getattr(error, "__notes__", ()))
    way_out = next((_WAYS_OUT[kind] for kind in type(error).__mro__ if kind in _WAYS_OUT), None)
    return f"{where}{_words(error)}" + (f" ({way_out})" if way_out else "")


def _words(error: BaseException) -> str:
    if isinstance(error, kafka_errors.KafkaError):
        # Its own text would name the class twice and, where the broker gave no message, nothing else.
        text = (str(error.args[0]) if error.args else "") or getattr(error, "description", None)
        return f"{type(error).__name__}: {text}" if text else type(error).__name__
    return str(error) or type(error).__name__
