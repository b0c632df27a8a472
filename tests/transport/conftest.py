"""A real Kafka for every test that is marked `kafka`."""

import os
from collections.abc import Iterator

import pytest

from dccf.local.kafka import KafkaCluster
from dccf.local.kafka_errors import JavaMissingError, KafkaDownloadError
from dccf.local.kafka_install import default_cache_dir, ensure_jars, require_java


@pytest.fixture(scope="session")
def kafka_installed() -> None:
    """Skip where Kafka cannot run; on the build server that is a failure."""
    try:
        require_java()
        ensure_jars(default_cache_dir())
    except (JavaMissingError, KafkaDownloadError) as error:
        if os.environ.get("DCCF_CI") == "1":
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def kafka(kafka_installed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    """One broker for all tests that leave it running."""
    with KafkaCluster(tmp_path_factory.mktemp("kafka")) as cluster:
        yield cluster
