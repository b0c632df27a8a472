"""Runs a real Apache Kafka on this machine, for `dccf up` and for the tests.

A `KafkaCluster` is one or three KRaft nodes, each a broker and a controller in one process, on loopback only.
The jars come from Maven once and stay in a cache folder. A node dies with the process that started it.

Errors:
    LocalKafkaError
    ├── JavaMissingError      no Java, or one that is too old
    ├── KafkaDownloadError    Maven is missing or could not fetch the jars
    ├── PortInUseError        another process holds a port that was asked for
    └── KafkaStartError       a node ended, or was not ready in time
"""

import atexit
import base64
import contextlib
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from dccf.errors import LocalStackError
from dccf.transport import cluster, errors, names, options, settings

logger = logging.getLogger(__name__)

KAFKA_VERSION = "4.4.0"
LOG4J_VERSION = "2.25.3"
MINIMUM_JAVA = 17
HOST = "127.0.0.1"

_POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>dccf</groupId><artifactId>kafka-jars</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{KAFKA_VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId>
      <version>{LOG4J_VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId><artifactId>log4j-core</artifactId>
      <version>{LOG4J_VERSION}</version>
    </dependency>
  </dependencies>
</project>
"""

_LOG4J = """rootLogger.level = WARN
rootLogger.appenderRef.stdout.ref = STDOUT
appender.stdout.type = Console
appender.stdout.name = STDOUT
appender.stdout.layout.type = PatternLayout
appender.stdout.layout.pattern = [%d] %p %m (%c)%n
"""


class LocalKafkaError(LocalStackError):
    """Kafka cannot be run on this machine."""


class JavaMissingError(LocalKafkaError):
    """No Java was found, or it is older than Kafka needs."""


class KafkaDownloadError(LocalKafkaError):
    """The jars are not in the cache and could not be fetched."""


class PortInUseError(LocalKafkaError):
    """A port that was asked for belongs to another process."""


class KafkaStartError(LocalKafkaError):
    """A node ended by itself, or did not become ready in time."""


def default_cache_dir() -> Path:
    """Return the folder that keeps the jars between runs."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "dccf" / f"kafka-{KAFKA_VERSION}"


def require_java() -> str:
    """Return the path of a Java that can run Kafka."""
    java = shutil.which("java")
    if java is None:
        raise JavaMissingError(f"Kafka needs Java {MINIMUM_JAVA} or newer, and no java is on PATH")
    probe = subprocess.run([java, "-version"], capture_output=True, text=True, check=False)
    found = re.search(r'version "(\d+)', probe.stderr)
    if found is None or int(found.group(1)) < MINIMUM_JAVA:
        raise JavaMissingError(
            f"Kafka needs Java {MINIMUM_JAVA} or newer, {java} is {found.group(1) if found else 'unknown'}"
        )
    return java


def ensure_jars(cache_dir: Path) -> Path:
    """Return the folder with Kafka's jars, fetched with Maven on the first call."""
    jars = cache_dir / "jars"
    if jars.is_dir():
        return jars
    maven = shutil.which("mvn")
    if maven is None:
        raise KafkaDownloadError(f"Kafka's jars are not in {cache_dir}, and no mvn is on PATH to fetch them")
    cache_dir.mkdir(parents=True, exist_ok=True)
    # A private folder that is renamed at the end: two processes may fetch at once, and neither sees half of it.
    with tempfile.TemporaryDirectory(dir=cache_dir) as scratch:
        (Path(scratch) / "pom.xml").write_text(_POM)
        command = [maven, "-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={scratch}/jars"]
        fetch = subprocess.run(command, cwd=scratch, capture_output=True, text=True, check=False)
        if fetch.returncode != 0:
            raise KafkaDownloadError(f"Maven could not fetch Kafka {KAFKA_VERSION}: {fetch.stdout[-2000:]}")
        with contextlib.suppress(OSError):
            (Path(scratch) / "jars").rename(jars)
    return jars


def _free_ports(count: int) -> list[int]:
    """Return ports that were free a moment ago, all different."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in sockets:
            sock.bind((HOST, 0))
        return [int(sock.getsockname()[1]) for sock in sockets]


def _require_free(port: int) -> None:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((HOST, port))
        except OSError as error:
            raise PortInUseError(f"port {port} on {HOST} is in use by another process") from error


class _Node:
    """One process, owned by a thread that lives as long as it does.

    The kernel sends the death signal when the *thread* that forked ends, so a short-lived caller must not fork.
    """

    def __init__(self, command: Sequence[str], log_path: Path) -> None:
        self.log_path = log_path
        self._started = threading.Event()
        self._failure: OSError | None = None
        self._process: subprocess.Popen[bytes] | None = None
        # Without setpriv (a system other than Linux) only a tidy exit of this process stops the node.
        setpriv = shutil.which("setpriv")
        self._command = [setpriv, "--pdeathsig", "KILL", *command] if setpriv else list(command)
        threading.Thread(target=self._own, name="local-kafka", daemon=True).start()
        self._started.wait()
        if self._failure is not None:
            raise KafkaStartError(f"cannot run {command[0]}") from self._failure

    def _own(self) -> None:
        with self.log_path.open("ab") as log:
            try:
                # Its own session: a Ctrl-C at the terminal is for the parent, which stops nodes in order.
                process = subprocess.Popen(
                    self._command,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,
                )
            except OSError as error:
                self._failure = error
                return
            finally:
                self._started.set()
            self._process = process
            process.wait()

    @property
    def process(self) -> subprocess.Popen[bytes]:
        deadline = time.monotonic() + 5
        while self._process is None and time.monotonic() < deadline:
            time.sleep(0.001)
        if self._process is None:
            raise KafkaStartError("the node did not start")
        return self._process

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def end(self, signal_number: int, timeout_seconds: float) -> None:
        """Send a signal, wait, and kill what is still there."""
        if self.running:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(signal_number)
        try:
            self.process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


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
        properties: broker settings that add to or replace the ones here.
        extra_listeners: listener name -> security protocol, each on a port of its own (see `servers`).
        format_arguments: more arguments for the storage tool, such as `--add-scram`.
        jvm_arguments: more arguments for Java.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        nodes: int = 1,
        cache_dir: Path | None = None,
        ports: Sequence[int] | None = None,
        heap_mb: int = 512,
        properties: Mapping[str, str] | None = None,
        extra_listeners: Mapping[str, str] | None = None,
        format_arguments: Sequence[str] = (),
        jvm_arguments: Sequence[str] = (),
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
        self._properties = dict(properties or {})
        self._extra = dict(extra_listeners or {})
        self._format_arguments = list(format_arguments)
        self._jvm_arguments = list(jvm_arguments)
        self._running: dict[int, _Node] = {}
        self._listener_ports: dict[str, list[int]] = {}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def servers(self, listener: str = "PLAINTEXT") -> list[str]:
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
            _require_free(port)
        names = ["PLAINTEXT", "CONTROLLER", *self._extra]
        free = _free_ports(len(names) * self.nodes)
        for index, name in enumerate(names):
            self._listener_ports[name] = free[index * self.nodes : (index + 1) * self.nodes]
        if self._asked_ports:
            self._listener_ports["PLAINTEXT"] = self._asked_ports

    def _node_dir(self, node: int) -> Path:
        return self.data_dir / f"node-{node}"

    def _format(self) -> None:
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        (self.data_dir / "log4j2.properties").write_text(_LOG4J)
        for node in range(self.nodes):
            self._node_dir(node).mkdir(parents=True, exist_ok=True)
            self._write_properties(node)
            command = [
                *self._java(64),
                "kafka.tools.StorageTool",
                "format",
                "--cluster-id",
                cluster_id,
                "--config",
                str(self._node_dir(node) / "server.properties"),
                *self._format_arguments,
            ]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise KafkaStartError(f"cannot format the storage: {done.stdout}{done.stderr}")
        (self.data_dir / "cluster.id").write_text(cluster_id)

    def _write_properties(self, node: int) -> None:
        settings = {**self._settings(node), **self._properties}
        text = "".join(f"{key}={value}\n" for key, value in settings.items())
        (self._node_dir(node) / "server.properties").write_text(text)

    def _settings(self, node: int) -> dict[str, str]:
        copies = str(self.nodes)
        minimum = str(self.nodes // 2 + 1)
        listeners = {name: f"{name}://{HOST}:{ports[node]}" for name, ports in self._listener_ports.items()}
        security = {"PLAINTEXT": "PLAINTEXT", "CONTROLLER": "PLAINTEXT", **self._extra}
        voters = enumerate(self._listener_ports["CONTROLLER"])
        return {
            "node.id": str(node),
            "process.roles": "broker,controller",
            "controller.quorum.voters": ",".join(f"{peer}@{HOST}:{port}" for peer, port in voters),
            "controller.listener.names": "CONTROLLER",
            "listeners": ",".join(listeners.values()),
            "advertised.listeners": ",".join(url for name, url in listeners.items() if name != "CONTROLLER"),
            "listener.security.protocol.map": ",".join(f"{key}:{value}" for key, value in security.items()),
            "log.dirs": str(self._node_dir(node) / "data"),
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
        }

    def _java(self, heap_mb: int) -> list[str]:
        return [
            require_java(),
            f"-Xmx{heap_mb}m",
            f"-Dlog4j2.configurationFile={self.data_dir / 'log4j2.properties'}",
            *self._jvm_arguments,
            "-cp",
            f"{ensure_jars(self._cache_dir)}/*",
        ]

    def _spawn(self, node: int) -> None:
        if self.is_running(node):
            raise KafkaStartError(f"node {node} is running already")
        for ports in self._listener_ports.values():
            _require_free(ports[node])
        # Ports differ from run to run, the storage does not.
        self._write_properties(node)
        properties = self._node_dir(node) / "server.properties"
        command = [*self._java(self._heap_mb), "kafka.Kafka", str(properties)]
        self._running[node] = _Node(command, self.log_path(node))

    def _log_tail(self, node: int) -> str:
        return self.log_path(node).read_text(errors="replace")[-2000:]
