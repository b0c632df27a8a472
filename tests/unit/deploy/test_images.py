"""What the images and the compose file promise."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import yaml

import dccf
from dccf import config
from dccf.config import Settings
from dccf.local import kafka_install
from dccf.runner import firewall
from tests.unit.deploy.conftest import REPOSITORY

DOCKER = REPOSITORY / "docker"
DOCKERFILES = sorted(DOCKER.glob("*/Dockerfile"))
OURS = [path for path in DOCKERFILES if path.parent.name != "postgres"]
SETTINGS = {config.variable_of(field) for field in Settings.model_fields}
#: What the Dockerfiles and compose name with our prefix for other purposes.
OTHER = {"DCCF_IMAGE_TAG"}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The compose file."""
    document: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text("utf-8"))
    return document


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.parent.name)
def test_an_image_has_labels_a_health_check_and_this_version(path: Path) -> None:
    text = path.read_text("utf-8")

    assert "HEALTHCHECK" in text
    assert "org.opencontainers.image.version" in text
    assert f"ARG VERSION={dccf.__version__}" in text


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.parent.name)
def test_only_the_docker_daemons_image_is_root(path: Path) -> None:
    users = re.findall(r"^USER (\S+)$", path.read_text("utf-8"), re.MULTILINE)

    if path.parent.name == "dind":
        assert not users
    else:
        assert users
        assert not users[-1].startswith(("0", "root"))


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.parent.name)
def test_base_images_are_never_latest(path: Path) -> None:
    text = path.read_text("utf-8")
    (base,) = re.findall(r"^ARG BASE=(\S+)$", text, re.MULTILINE)

    assert set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) == {"${BASE}"}
    assert base.partition(":")[2] not in {"", "latest"}


def test_the_docker_image_brings_the_firewall_that_the_command_prints() -> None:
    """A build cannot reach outside of its folder, so there are two copies."""
    assert (DOCKER / "dind" / "firewall").read_text("utf-8") == firewall.script()


def test_the_kafka_image_has_the_versions_that_the_tests_run_against() -> None:
    space = {"m": "http://maven.apache.org/POM/4.0.0"}
    dependencies = ET.parse(DOCKER / "kafka" / "pom.xml").findall(".//m:dependency", space)
    versions = {one.findtext("m:artifactId", "", space): one.findtext("m:version", "", space) for one in dependencies}

    assert versions == {
        "kafka_2.13": kafka_install.KAFKA_VERSION,
        "log4j-slf4j-impl": kafka_install.LOG4J_VERSION,
        "log4j-core": kafka_install.LOG4J_VERSION,
    }


def test_every_variable_of_ours_in_an_image_or_in_compose_is_a_documented_setting(compose: dict[str, Any]) -> None:
    document = (REPOSITORY / "docs" / "configuration.md").read_text("utf-8")
    text = "".join(path.read_text("utf-8") for path in DOCKERFILES)
    text += (DOCKER / "compose.yaml").read_text("utf-8")
    named = set(re.findall(r"\bDCCF_[A-Z_]+\b", text)) - OTHER

    assert len(named) > 8
    assert named <= SETTINGS
    assert all(f"`{name}`" in document for name in named)
    for service in compose["services"].values():
        ours = {name for name in service.get("environment", {}) if name.startswith(config.PREFIX)}
        assert ours <= SETTINGS


def test_compose_opens_ports_on_loopback_only_and_only_the_docker_daemon_is_privileged(
    compose: dict[str, Any],
) -> None:
    for name, service in compose["services"].items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        assert service.get("privileged", False) is (name == "dind"), name
        tag = service["image"].partition(":")[2]
        assert tag, name
        assert "latest" not in tag, name


def test_compose_has_one_broker_or_three_with_three_copies(compose: dict[str, Any]) -> None:
    brokers = {name: one for name, one in compose["services"].items() if name.startswith("kafka")}
    by_profile = {
        profile: [one["environment"] for one in brokers.values() if one["profiles"] == [profile]]
        for profile in ("one", "three")
    }

    assert [one["KAFKA_DEFAULT_REPLICATION_FACTOR"] for one in by_profile["one"]] == ["1"]
    assert [one["KAFKA_DEFAULT_REPLICATION_FACTOR"] for one in by_profile["three"]] == ["3"] * 3
    assert [one["KAFKA_NODE_ID"] for one in by_profile["three"]] == ["0", "1", "2"]


def test_secrets_are_made_once_and_never_changed(tmp_path: Path) -> None:
    script, file = REPOSITORY / "scripts" / "secrets", tmp_path / "secrets.env"
    subprocess.run([script, file], check=True, capture_output=True)
    first = file.read_text("ascii")
    subprocess.run([script, file], check=True, capture_output=True)

    assert file.read_text("ascii") == first
    assert file.stat().st_mode & 0o077 == 0
    rows = dict(row.split("=", 1) for row in first.splitlines())
    assert len(set(rows.values())) == len(rows) == 5
    assert len(rows["POSTGRES_PASSWORD"]) >= 32
    # What stands in a URL must not need quoting there.
    assert re.fullmatch(r"[A-Za-z0-9_-]+", rows["POSTGRES_PASSWORD"])
