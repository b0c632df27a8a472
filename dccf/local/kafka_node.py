"""One process of Kafka, and the ports it listens on."""

import contextlib
import random
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from dccf.local.kafka_errors import KafkaStartError, PortInUseError

HOST = "127.0.0.1"


def free_ports(count: int) -> list[int]:
    """Return ports that were free a moment ago, all different.

    They lie below those that the kernel gives to outgoing connections: while a node is down, a client that tries
    again and again would sooner or later get the node's port as its own, and be connected to itself.
    """
    with contextlib.ExitStack() as stack:
        ports: list[int] = []
        while len(ports) < count:
            port = random.randrange(20_000, 32_000)  # noqa: S311 - not a secret
            sock = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                sock.bind((HOST, port))
                ports.append(port)
        return ports


def require_free(port: int) -> None:
    """Raise an error that names the port if another process listens on it."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((HOST, port))
        except OSError as error:
            raise PortInUseError(f"port {port} on {HOST} is in use by another process") from error


class Node:
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
        """Return the process, once it runs."""
        deadline = time.monotonic() + 5
        while self._process is None and time.monotonic() < deadline:
            time.sleep(0.001)
        if self._process is None:
            raise KafkaStartError("the node did not start")
        return self._process

    @property
    def running(self) -> bool:
        """Tell whether the process is alive."""
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
