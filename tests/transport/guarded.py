"""A cluster that asks for passwords, certificates and rights, and a broker that is too old."""

import contextlib
import socket
import struct
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    KafkaAdminClient,
    ResourcePattern,
)
from kafka.admin import ResourceType as Kind

from dccf.local.kafka import KafkaCluster

from .certificates import Certificates

USERS = {"alice": "wonder-land", "bob": "can-we-fix-it"}
PREFIX = "shop"
#: What docs/transport.md says that a user needs, for topics and for groups.
TOPIC_RIGHTS = ("CREATE", "DESCRIBE", "READ", "WRITE", "DELETE")
GROUP_RIGHTS = ("DESCRIBE", "READ", "DELETE", "ALTER_CONFIGS")


@dataclass(frozen=True)
class Guarded:
    """The cluster and what its clients need."""

    cluster: KafkaCluster
    certificates: Certificates

    def url(self, listener: str, user: str | None = None, password: str | None = None) -> str:
        """Return a broker URL for one listener."""
        scheme = "kafka+ssl" if listener in ("TLS", "SASL_TLS") else "kafka"
        login = f"{user}:{password or USERS[user]}@" if user else ""
        return f"{scheme}://{login}{self.cluster.servers(listener)[0]}/{PREFIX}"

    @property
    def ca_file(self) -> str:
        """Return the authority that signed the brokers' certificate."""
        return str(self.certificates.authority)


def allow(cluster: KafkaCluster, user: str) -> None:
    """Give a user the rights that the manual lists."""
    admin: Any = KafkaAdminClient(bootstrap_servers=cluster.bootstrap_servers)
    try:
        admin.create_acls([*_rights(user, Kind.TOPIC, TOPIC_RIGHTS), *_rights(user, Kind.GROUP, GROUP_RIGHTS)])
    finally:
        admin.close()


def _rights(user: str, kind: Any, operations: Iterable[str]) -> list[Any]:
    what = ResourcePattern(kind, f"{PREFIX}.", ACLResourcePatternType.PREFIXED)
    return [
        ACL(f"User:{user}", "*", ACLOperation[operation], ACLPermissionType.ALLOW, what) for operation in operations
    ]


@contextlib.contextmanager
def old_broker() -> Iterator[str]:
    """Yield the address of something that offers what Kafka 3.0 offered, and answers nothing else."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_serve, args=(server,), daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"


#: Newest versions of some requests in Kafka 3.0: Produce, Fetch, ListOffsets, Metadata, ApiVersions, CreateTopics.
_OLD_VERSIONS = {0: 9, 1: 12, 2: 7, 3: 11, 18: 0, 19: 7}
_UNSUPPORTED_VERSION = 35


def _serve(server: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            client, _ = server.accept()
            with client, contextlib.suppress(ConnectionError, struct.error):
                while True:
                    _answer(client)


def _answer(client: socket.socket) -> None:
    (size,) = struct.unpack(">i", client.recv(4, socket.MSG_WAITALL))
    key, version, correlation = struct.unpack_from(">hhi", client.recv(size, socket.MSG_WAITALL))
    if key != 18:
        raise ConnectionError("an old broker that is asked for more than its versions")
    body = struct.pack(">ihi", correlation, _UNSUPPORTED_VERSION if version else 0, len(_OLD_VERSIONS))
    body += b"".join(struct.pack(">hhh", which, 0, newest) for which, newest in _OLD_VERSIONS.items())
    client.sendall(struct.pack(">i", len(body)) + body)
