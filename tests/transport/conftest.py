"""A real Kafka for every test that is marked `kafka`."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from dccf.local.kafka import KafkaCluster
from tests.conftest import require_kafka

from .fleet import Fleet, figures


@pytest.fixture(scope="session")
def kafka_installed() -> None:
    """Skip where Kafka cannot run; on the build server that is a failure."""
    require_kafka()


@pytest.fixture(scope="session")
def kafka(kafka_installed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    """One broker for all tests that leave it running."""
    with KafkaCluster(tmp_path_factory.mktemp("kafka")) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def _restarted_kafka(kafka_installed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    with KafkaCluster(tmp_path_factory.mktemp("restarted")) as cluster:
        yield cluster


@pytest.fixture
def own_kafka(_restarted_kafka: KafkaCluster) -> KafkaCluster:
    """One broker for a test that stops it; the next such test finds it running again."""
    if not _restarted_kafka.is_running():
        _restarted_kafka.start()
    return _restarted_kafka


@pytest.fixture
def three_kafkas(kafka_installed: None, tmp_path: Path) -> Iterator[KafkaCluster]:
    """Three brokers for a test that stops some of them."""
    with KafkaCluster(tmp_path / "kafka", nodes=3) as cluster:
        yield cluster


@pytest.fixture
def fleet(kafka: KafkaCluster, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Fleet]:
    """Workers on the broker of all tests."""
    yield from _fleet(kafka, tmp_path, request)


@pytest.fixture
def own_fleet(own_kafka: KafkaCluster, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Fleet]:
    """Workers on a broker that may be stopped."""
    yield from _fleet(own_kafka, tmp_path, request)


@pytest.fixture
def fleet_of_three(three_kafkas: KafkaCluster, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Fleet]:
    """Workers on three brokers."""
    yield from _fleet(three_kafkas, tmp_path, request)


def _fleet(cluster: KafkaCluster, folder: Path, request: pytest.FixtureRequest) -> Iterator[Fleet]:
    made = Fleet(cluster.bootstrap_servers, folder, request.node.name)
    try:
        yield made
    finally:
        made.stop()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what became of the tasks in each test of faults."""
    if figures:
        terminalreporter.section("tasks under faults")
        for line in figures:
            terminalreporter.line(line)
