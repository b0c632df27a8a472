"""Runs a real Apache Kafka on this machine, for `dccf up` and for the tests.

A `KafkaCluster` is one or three KRaft nodes, each a broker and a controller in one process, on loopback only.
The jars come from Maven once and stay in a cache folder. A node dies with the process that started it.
"""

import atexit
import base64
import contextlib
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from dccf.local.kafka_errors import KafkaStartError
from dccf.local.kafka_install import default_cache_dir, ensure_jars, require_java
from dccf.local.kafka_node import HOST, Node, free_ports, require_free
from dccf.local.kafka_settings import CONTROLLER, LOG4J, OPEN, Access, node_properties
from dccf.transport import cluster, errors, names, options, settings

#: Compile once and simply, collect on one thread. Measured on two cores against Java's own choice: 2.6 s of CPU to
#: start instead of 4.2, 0.7 ms for each of the first 3,000 publishes instead of 1.5, and 50 MB less. A broker that
#: has served some ten thousand messages needs twice the CPU for each (0.45 ms instead of 0.2).
QUICK_START = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")


class KafkaCluster:
    """One or three KRaft nodes on loopback.

    `start` formats the storage on the first call, starts every node and waits until they answer. `stop` ends them
    and keeps the data, so `start` again continues with it. `kill`, `restart`, `pause` and `resume` act on one
    node, counted from 0, for tests of faults. Use it as a context manager where that fits.

    Args:
        data_dir: folder for storage, settings and logs of the nodes.
        nodes: 1 or 3.
        cache_dir: folder with the jars, `default_cache_dir()` if not given.
        ports: one client port per node; free ones are chosen if not given.
        heap_mb: Java heap of each node.
        java_options: how Java runs the nodes; `QUICK_START` suits one that serves some thousand messages.
        properties: broker settings that add to or replace the ones here.
        access: listeners with TLS or passwords beside the open one, and ACLs.
        features: feature -> level, where it is not to be the newest; `{"share.version": 0}` is without share groups.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        nodes: int = 1,
        cache_dir: Path | None = None,
        ports: Sequence[int] | None = None,
        heap_mb: int = 512,
        java_options: Sequence[str] = QUICK_START,
        properties: Mapping[str, str] | None = None,
        access: Access | None = None,
        features: Mapping[str, int] | None = None,
    ) -> None:
        if nodes not in (1, 3):
            raise ValueError("a local cluster has 1 or 3 nodes")
        if ports is not None and len(ports) != nodes:
            raise ValueError("one port is needed for each node")
        self.data_dir = data_dir
        self.nodes = nodes
        self._cache_dir = cache_dir or default_cache_dir()
        self._asked_ports = list(ports or ())
        self._heap_mb = heap_mb
        self._java_options = tuple(java_options)
        self._properties = dict(properties or {})
        self._access = access or Access()
        self._features = dict(features or {})
        self._running: dict[int, Node] = {}
        self._listener_ports: dict[str, list[int]] = {}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def servers(self, listener: str = OPEN) -> list[str]:
        """Return host:port of every node for one listener."""
        return [f"{HOST}:{port}" for port in self._listener_ports[listener]]

    @property
    def bootstrap_servers(self) -> str:
        """Return the addresses for clients, separated by commas."""
        return ",".join(self.servers())

    def is_running(self, node: int = 0) -> bool:
        """Tell whether the process of a node is alive (a paused one is)."""
        return node in self._running and self._running[node].running

    def log_path(self, node: int = 0) -> Path:
        """Return the file that holds what a node printed."""
        return self.data_dir / f"node-{node}.log"

    def pid(self, node: int = 0) -> int:
        """Return the process id of a node."""
        return self._running[node].process.pid

    def start(self, timeout_seconds: float = 60) -> None:
        """Format the storage if it is new, start all nodes and wait until they answer."""
        require_java()
        ensure_jars(self._cache_dir)
        self.data_dir.mkdir(parents=True, exist_ok=True)
        if not self._listener_ports:
            self._choose_ports()
        if not (self.data_dir / "cluster.id").exists():
            self._format()
        atexit.register(self.stop)
        for node in range(self.nodes):
            self._spawn(node)
        self.wait_ready(timeout_seconds)

    def stop(self, timeout_seconds: float = 20) -> None:
        """End all nodes in order and keep their data; safe to call twice."""
        atexit.unregister(self.stop)
        # All at once: the last ones of three would wait for a quorum that is gone.
        for node in self._running.values():
            if node.running:
                node.process.send_signal(signal.SIGCONT)
                node.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + timeout_seconds
        for node in self._running.values():
            node.end(signal.SIGTERM, max(0.0, deadline - time.monotonic()))
        self._running.clear()

    def stop_node(self, node: int = 0, timeout_seconds: float = 20) -> None:
        """End one node with SIGTERM."""
        self._running[node].end(signal.SIGTERM, timeout_seconds)

    def kill(self, node: int = 0) -> None:
        """End one node with SIGKILL."""
        self._running[node].end(signal.SIGKILL, 10)

    def restart(self, node: int = 0, *, wait: bool = True) -> None:
        """Start one node again on its data and its ports."""
        self._spawn(node)
        if wait:
            self.wait_ready()

    def pause(self, node: int = 0) -> None:
        """Freeze one node with SIGSTOP; its connections stay open and nothing answers."""
        self._running[node].process.send_signal(signal.SIGSTOP)

    def resume(self, node: int = 0) -> None:
        """Let a frozen node go on."""
        self._running[node].process.send_signal(signal.SIGCONT)

    def wait_ready(self, timeout_seconds: float = 60) -> None:
        """Wait until every running node has registered and answers."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            for node, process in self._running.items():
                if not process.running:
                    raise KafkaStartError(f"node {node} ended: {self._log_tail(node)}")
            if self._answers():
                return
            if time.monotonic() > deadline:
                raise KafkaStartError(f"not ready after {timeout_seconds:g} s: {self._log_tail(0)}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        for server in self.servers():
            host, port = server.split(":")
            try:
                socket.create_connection((host, int(port)), timeout=1).close()
            except OSError:
                return False
        return self._registered() == self.nodes

    def _registered(self) -> int:
        """Return how many brokers the cluster knows, 0 while none answers."""
        servers = tuple(settings.parse_server(server) for server in self.servers())
        plain = settings.Settings(servers, settings.Security(), names.Names(), options.read_options({}))
        with contextlib.closing(cluster.Cluster(plain)) as view:
            try:
                return view.broker_count()
            except errors.BROKER_ERRORS:
                return 0

    def _choose_ports(self) -> None:
        for port in self._asked_ports:
            require_free(port)
        listeners = [OPEN, CONTROLLER, *self._access.listeners]
        free = free_ports(len(listeners) * self.nodes)
        for index, name in enumerate(listeners):
            self._listener_ports[name] = free[index * self.nodes : (index + 1) * self.nodes]
        if self._asked_ports:
            self._listener_ports[OPEN] = self._asked_ports

    def _node_dir(self, node: int) -> Path:
        return self.data_dir / f"node-{node}"

    def _format(self) -> None:
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        (self.data_dir / "log4j2.properties").write_text(LOG4J)
        for node in range(self.nodes):
            self._node_dir(node).mkdir(parents=True, exist_ok=True)
            self._write_properties(node)
            command = [
                *self._java(64, QUICK_START),
                "kafka.tools.StorageTool",
                "format",
                # One word, for an identifier may begin with a hyphen.
                f"--cluster-id={cluster_id}",
                "--config",
                str(self._node_dir(node) / "server.properties"),
                *self._access.format_arguments(),
                *(
                    argument
                    for name, level in self._features.items()
                    for argument in ("--feature", f"{name}={level}")
                ),
            ]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise KafkaStartError(f"cannot format the storage: {done.stdout}{done.stderr}")
        (self.data_dir / "cluster.id").write_text(cluster_id)

    def _write_properties(self, node: int) -> None:
        data_dir = self._node_dir(node) / "data"
        settings = {**node_properties(node, self._listener_ports, data_dir, self._access), **self._properties}
        path = self._node_dir(node) / "server.properties"
        # It may hold passwords.
        path.touch(mode=0o600)
        path.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))

    def _java(self, heap_mb: int, java_options: Sequence[str]) -> list[str]:
        return [
            require_java(),
            f"-Xmx{heap_mb}m",
            *java_options,
            f"-Dlog4j2.configurationFile={self.data_dir / 'log4j2.properties'}",
            "-cp",
            f"{ensure_jars(self._cache_dir)}/*",
        ]

    def _spawn(self, node: int) -> None:
        if self.is_running(node):
            raise KafkaStartError(f"node {node} is running already")
        for ports in self._listener_ports.values():
            require_free(ports[node])
        # Ports differ from run to run, the storage does not.
        self._write_properties(node)
        properties = self._node_dir(node) / "server.properties"
        command = [*self._java(self._heap_mb, self._java_options), "kafka.Kafka", str(properties)]
        self._running[node] = Node(command, self.log_path(node))

    def _log_tail(self, node: int) -> str:
        return self.log_path(node).read_text(errors="replace")[-2000:]
