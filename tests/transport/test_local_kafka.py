"""The Kafka of one machine starts, keeps its data, and never outlives its owner."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from dccf.local.kafka import KafkaCluster
from dccf.local.kafka_errors import JavaMissingError, KafkaDownloadError, PortInUseError
from dccf.local.kafka_install import ensure_jars, require_java
from dccf.local.kafka_node import HOST

from .waiting import wait_until


@pytest.mark.kafka
def test_a_stopped_node_starts_again_with_its_data(kafka_installed: None, tmp_path: Path) -> None:
    cluster = KafkaCluster(tmp_path)
    cluster.start()
    first = (tmp_path / "cluster.id").read_text()
    cluster.stop()
    assert not cluster.is_running()

    cluster.start()

    assert (tmp_path / "cluster.id").read_text() == first
    assert cluster.is_running()
    cluster.stop()


@pytest.mark.kafka
def test_a_killed_node_can_be_restarted(kafka_installed: None, tmp_path: Path) -> None:
    with KafkaCluster(tmp_path) as cluster:
        before = cluster.pid()
        cluster.kill()
        assert not cluster.is_running()

        cluster.restart()

        assert cluster.pid() != before


_OWNER = """
import sys, time
from pathlib import Path
from dccf.local.kafka import KafkaCluster
cluster = KafkaCluster(Path(sys.argv[1]))
cluster.start()
print(cluster.pid(), flush=True)
time.sleep(600)
"""


@pytest.mark.kafka
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
def test_a_node_dies_with_the_process_that_started_it(kafka_installed: None, tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", _OWNER, str(tmp_path)], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        node = int(owner.stdout.readline())

        owner.send_signal(signal.SIGKILL)
        owner.wait()

    wait_until(lambda: not Path(f"/proc/{node}/cmdline").exists() or not Path(f"/proc/{node}/cmdline").read_bytes())


@pytest.mark.kafka
def test_a_port_of_another_process_is_named(kafka_installed: None, tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind((HOST, 0))
        other.listen()
        port = other.getsockname()[1]

        with pytest.raises(PortInUseError, match=str(port)):
            KafkaCluster(tmp_path, ports=[port]).start()


def test_missing_java_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(JavaMissingError, match="17"):
        require_java()


def test_an_old_java_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\"' >&2\n")
    java.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/bin")

    with pytest.raises(JavaMissingError, match="is 11"):
        require_java()


def test_missing_maven_is_said_only_when_jars_are_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(KafkaDownloadError, match="mvn"):
        ensure_jars(tmp_path)

    (tmp_path / "jars").mkdir()
    assert ensure_jars(tmp_path) == tmp_path / "jars"


def test_a_cluster_has_one_or_three_nodes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="1 or 3"):
        KafkaCluster(tmp_path, nodes=2)
