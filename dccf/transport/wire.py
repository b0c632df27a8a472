"""One blocking connection to one broker."""

import os
import socket
import ssl
import threading
import time
from typing import Any

from dccf.transport.protocol import (
    ApiVersionsRequest,
    BrokerVersionData,
    KafkaProtocol,
    SaslAuthenticateRequest,
    SaslHandshakeRequest,
    get_sasl_mechanism,
    kafka_errors,
)
from dccf.transport.settings import Security

Address = tuple[str, int]

_READ_BYTES = 32 * 1024
_LARGEST_ANSWER_BYTES = 256 * 1024 * 1024
_UNSUPPORTED_VERSION = 35


#: Firewalls forget a silent connection after some minutes, and the next publish would wait in vain. In seconds.
_KEEPALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}


class ClosedUnusedError(kafka_errors.KafkaConnectionError):
    """The broker closed a new connection at the first request that needs permission."""


#: Open sockets of this process by file descriptor, for `close_inherited`.
_open_sockets: dict[int, socket.socket] = {}


def close_inherited() -> None:
    """Close, in a forked child, the sockets that belong to the parent.

    Only the descriptors: nothing is sent, so the parent's connections go on. Were they left open here, the broker
    would not notice that the parent is dead until the child is, too, and would keep the parent's records locked.
    """
    for sock in list(_open_sockets.values()):
        descriptor = sock.detach()
        if descriptor >= 0:
            os.close(descriptor)
    _open_sockets.clear()


class Connection:
    """A connection that has negotiated versions and logged in.

    It handles one request at a time and belongs to one thread; `interrupt` alone may be called from others. After
    any exception from `request` it is closed for good.

    Raises:
        OSError, kafka_errors.KafkaError: the broker cannot be reached, or refuses.
    """

    def __init__(self, address: Address, security: Security, client_id: str, connect_timeout_ms: int) -> None:
        self.address = address
        self._security = security
        self._protocol = KafkaProtocol(client_id=client_id, receive_message_max_bytes=_LARGEST_ANSWER_BYTES)
        self._socket: socket.socket | None = None
        self._close_lock = threading.Lock()
        self._used = False
        #: Features that are switched on in the cluster, and their level.
        self.features: dict[str, int] = {}
        timeout_seconds = connect_timeout_ms / 1000
        self._deadline = time.monotonic() + timeout_seconds
        try:
            self._attach(socket.create_connection(address, timeout=timeout_seconds))
            if security.uses_tls:
                self._encrypt()
            self._versions = self._negotiate()
            if security.uses_sasl:
                self._log_in()
        except BaseException as error:
            self.close()
            error.add_note(f"broker {address[0]}:{address[1]}")
            raise

    @property
    def closed(self) -> bool:
        """Tell whether the connection can no longer be used."""
        return self._socket is None

    def supports(self, request: Any) -> bool:
        """Tell whether the broker knows a request at all."""
        return request.API_KEY in self._versions.api_versions

    def max_version(self, request: Any) -> int:
        """Return the newest version of a request that the broker knows."""
        return int(self._versions.api_versions[request.API_KEY][1])

    @property
    def broker_version(self) -> str:
        """Return the oldest version of Kafka that offers what this broker offers."""
        return str(self._versions.broker_version_str)

    def request(self, request: Any, timeout_ms: int) -> Any:
        """Send a request and return the broker's answer."""
        self._deadline = time.monotonic() + timeout_ms / 1000
        try:
            request.API_VERSION = self._versions.api_version(request)
            answer = self._exchange(request)
        except BaseException as error:
            # An answer that comes later would be taken for that of the next request.
            self.close()
            error.add_note(f"broker {self.address[0]}:{self.address[1]}")
            raise
        self._used = True
        return answer

    def interrupt(self) -> None:
        """Make a request that waits in another thread fail at once."""
        with self._close_lock:
            if self._socket is not None:
                self._shut_down(self._socket)

    def close(self) -> None:
        """Close the connection; safe to call twice."""
        with self._close_lock:
            sock, self._socket = self._socket, None
        if sock is not None:
            _open_sockets.pop(sock.fileno(), None)
            # A process that was forked a moment ago may have a copy, which would keep the broker from noticing.
            self._shut_down(sock)
            sock.close()

    @staticmethod
    def _shut_down(sock: socket.socket) -> None:
        try:
            sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            # The broker was first.
            return

    def _attach(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE.items():
            if hasattr(socket, name):  # not on every system
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        self._socket = sock
        _open_sockets[sock.fileno()] = sock

    def _encrypt(self) -> None:
        security = self._security
        context = ssl.create_default_context(cafile=security.ca_file)
        context.check_hostname = security.check_hostname
        if security.certificate_file:
            context.load_cert_chain(security.certificate_file, security.key_file)
        plain = self._socket
        if plain is None:
            raise kafka_errors.KafkaConnectionError("closed")
        # Wrapping detaches the plain socket; the descriptor stays the same.
        _open_sockets.pop(plain.fileno(), None)
        encrypted = context.wrap_socket(plain, server_hostname=self.address[0])
        self._socket = encrypted
        _open_sockets[encrypted.fileno()] = encrypted

    def _negotiate(self) -> Any:
        version = ApiVersionsRequest.max_version
        while True:
            request = ApiVersionsRequest(
                version=version, client_software_name="dccf-transport", client_software_version="1"
            )
            answer = self._exchange(request)
            if answer.error_code != _UNSUPPORTED_VERSION:
                break
            if version == 0:
                raise kafka_errors.UnsupportedVersionError("ApiVersions")
            version = 0
        self.features = {feature.name: feature.max_version_level for feature in answer.finalized_features or ()}
        keys = {key.api_key: (key.min_version, key.max_version) for key in answer.api_keys}
        return BrokerVersionData(api_versions=keys)

    def _log_in(self) -> None:
        security = self._security
        self._raise(self._ask(SaslHandshakeRequest(mechanism=security.mechanism, max_version=1)))
        mechanism = get_sasl_mechanism(security.mechanism)(
            host=self.address[0],
            sasl_mechanism=security.mechanism,
            sasl_plain_username=security.user,
            sasl_plain_password=security.password,
        )
        while not mechanism.is_done():
            answer = self._ask(SaslAuthenticateRequest(mechanism.auth_bytes()))
            self._raise(answer)
            mechanism.receive(answer.auth_bytes)
        if not mechanism.is_authenticated():
            raise kafka_errors.SaslAuthenticationFailedError(security.mechanism)

    def _ask(self, request: Any) -> Any:
        request.API_VERSION = self._versions.api_version(request)
        return self._exchange(request)

    @staticmethod
    def _raise(answer: Any) -> None:
        if answer.error_code:
            raise kafka_errors.for_code(answer.error_code)(getattr(answer, "error_message", None) or "")

    def _exchange(self, request: Any) -> Any:
        sock = self._socket
        if sock is None:
            raise kafka_errors.KafkaConnectionError("closed")
        self._protocol.send_request(request)
        self._limit(sock)
        sock.sendall(self._protocol.send_bytes())
        while True:
            self._limit(sock)
            received = sock.recv(_READ_BYTES)
            if not received:
                kind = kafka_errors.KafkaConnectionError if self._used else ClosedUnusedError
                raise kind("it closed the connection")
            answers = self._protocol.receive_bytes(received)
            if answers:
                return answers[0][1]

    def _limit(self, sock: socket.socket) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the broker did not answer in time")
        sock.settimeout(left)
