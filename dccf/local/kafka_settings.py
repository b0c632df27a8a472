"""The settings of a local cluster's nodes: who they are, what they listen on, and who may come in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dccf.local.kafka_node import HOST

#: The listener that is always there: open to anybody on this machine, whom the authorizer takes for an administrator.
OPEN = "PLAINTEXT"
CONTROLLER = "CONTROLLER"
_SCRAM = ("SCRAM-SHA-256", "SCRAM-SHA-512")

LOG4J = """rootLogger.level = WARN
rootLogger.appenderRef.stdout.ref = STDOUT
appender.stdout.type = Console
appender.stdout.name = STDOUT
appender.stdout.layout.type = PatternLayout
appender.stdout.layout.pattern = [%d] %p %m (%c)%n
"""


@dataclass(frozen=True)
class Access:
    """Listeners beside the open one, and who may do what there.

    Args:
        listeners: name -> security protocol, each on a port of its own.
        users: name -> password, for PLAIN and for both SCRAM mechanisms.
        certificate: PEM file with the nodes' key and certificate, for listeners with TLS.
        authorize: refuse what no ACL allows; without it everybody may do everything.
    """

    listeners: Mapping[str, str] = field(default_factory=dict)
    users: Mapping[str, str] = field(default_factory=dict, repr=False)
    certificate: Path | None = None
    authorize: bool = False

    def properties(self) -> dict[str, str]:
        """Return the settings that all nodes share."""
        found: dict[str, str] = {}
        for name, protocol in self.listeners.items():
            if protocol.startswith("SASL_"):
                found |= self._sasl(f"listener.name.{name.lower()}.")
        if self.certificate is not None:
            found |= {"ssl.keystore.type": "PEM", "ssl.keystore.location": str(self.certificate)}
        if self.authorize:
            found |= {
                "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
                "super.users": "User:ANONYMOUS",
            }
        return found

    def format_arguments(self) -> list[str]:
        """Return what the storage tool has to be told: SCRAM users are records of the cluster."""
        return [
            argument
            for name, password in self.users.items()
            for mechanism in _SCRAM
            for argument in ("--add-scram", f"{mechanism}=[name={name},password={password}]")
        ]

    def _sasl(self, prefix: str) -> dict[str, str]:
        users = " ".join(f'user_{name}="{password}"' for name, password in self.users.items())
        package = "org.apache.kafka.common.security"
        plain = {f"{prefix}plain.sasl.jaas.config": f"{package}.plain.PlainLoginModule required {users};"}
        scram = {
            f"{prefix}{mechanism.lower()}.sasl.jaas.config": f"{package}.scram.ScramLoginModule required;"
            for mechanism in _SCRAM
        }
        return {f"{prefix}sasl.enabled.mechanisms": ",".join(("PLAIN", *_SCRAM)), **plain, **scram}


def node_properties(node: int, ports: Mapping[str, Sequence[int]], data_dir: Path, access: Access) -> dict[str, str]:
    """Return the settings of one node.

    Args:
        node: its number, from 0.
        ports: listener -> the port of each node.
        data_dir: where it keeps its records.
        access: its further listeners.
    """
    nodes = len(ports[OPEN])
    copies = str(nodes)
    minimum = str(nodes // 2 + 1)
    listeners = {name: f"{name}://{HOST}:{each[node]}" for name, each in ports.items()}
    security = {OPEN: "PLAINTEXT", CONTROLLER: "PLAINTEXT", **access.listeners}
    voters = enumerate(ports[CONTROLLER])
    return {
        "node.id": str(node),
        "process.roles": "broker,controller",
        "controller.quorum.voters": ",".join(f"{peer}@{HOST}:{port}" for peer, port in voters),
        "controller.listener.names": CONTROLLER,
        "listeners": ",".join(listeners.values()),
        "advertised.listeners": ",".join(url for name, url in listeners.items() if name != CONTROLLER),
        "listener.security.protocol.map": ",".join(f"{key}:{value}" for key, value in security.items()),
        "log.dirs": str(data_dir),
        "auto.create.topics.enable": "false",
        "default.replication.factor": copies,
        "min.insync.replicas": minimum,
        "offsets.topic.replication.factor": copies,
        "transaction.state.log.replication.factor": copies,
        "transaction.state.log.min.isr": minimum,
        "share.coordinator.state.topic.replication.factor": copies,
        "share.coordinator.state.topic.min.isr": minimum,
        # One machine needs few; fifty of each (the default) only slow down starts and failovers.
        "offsets.topic.num.partitions": "5",
        "transaction.state.log.num.partitions": "5",
        "share.coordinator.state.topic.num.partitions": "5",
        "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
        # A broker that was killed registers again only when its old session is over (9 s by default).
        "broker.session.timeout.ms": "4000",
        "broker.heartbeat.interval.ms": "500",
        **access.properties(),
    }
