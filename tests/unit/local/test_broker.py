"""Which broker `dccf up` takes, and what it says about it."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from dccf import errors
from dccf.local import broker
from dccf.local.kafka_install import KAFKA_VERSION

JAVA = "#!/bin/sh\necho 'openjdk version \"{version}.0.1\"' >&2\n"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with nothing on PATH and nothing in the cache; its folder of programs."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return programs


def program(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)


def jars(folder: Path) -> None:
    (folder / "dccf" / f"kafka-{KAFKA_VERSION}" / "jars").mkdir(parents=True)


def test_auto_takes_kafka_where_java_and_its_jars_are(machine: Path, tmp_path: Path) -> None:
    program(machine, "java", JAVA.format(version=17))
    jars(tmp_path / "cache")

    assert broker.choose("auto", {}).kind == "kafka"


def test_auto_without_java_takes_files_and_says_why(machine: Path) -> None:
    choice = broker.choose("auto", {})

    assert choice.kind == "file"
    assert "no java is on PATH" in broker.describe(choice)


def test_auto_with_an_old_java_takes_files_and_names_it(machine: Path, tmp_path: Path) -> None:
    program(machine, "java", JAVA.format(version=11))
    jars(tmp_path / "cache")

    choice = broker.choose("auto", {})

    assert choice.kind == "file"
    assert "17 or newer" in choice.reason
    assert "is 11" in choice.reason


def test_auto_without_jars_and_without_maven_takes_files_and_says_why(machine: Path) -> None:
    program(machine, "java", JAVA.format(version=17))

    choice = broker.choose("auto", {})

    assert choice.kind == "file"
    assert "no mvn is on PATH" in choice.reason


def test_auto_with_a_maven_that_cannot_fetch_takes_files_and_says_why(machine: Path) -> None:
    program(machine, "java", JAVA.format(version=17))
    program(machine, "mvn", "#!/bin/sh\necho no network; exit 1\n")

    choice = broker.choose("auto", {})

    assert choice.kind == "file"
    assert "no network" in choice.reason


def test_auto_takes_the_broker_that_the_environment_names_and_hides_its_password() -> None:
    choice = broker.choose("auto", {"DCCF_BROKER_URL": "kafka://ada:hush@broker:9092"})

    assert choice.kind == "named"
    assert "broker:9092" in broker.describe(choice)
    assert "hush" not in broker.describe(choice)


@pytest.mark.parametrize("asked", ["kafka", "file"])
def test_the_option_wins_over_the_environment(asked: broker.Asked) -> None:
    assert broker.choose(asked, {"DCCF_BROKER_URL": "kafka://broker:9092"}).kind == asked


def test_a_named_broker_that_does_not_answer_says_the_way_out(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        choice = broker.choose("auto", {"DCCF_BROKER_URL": f"kafka://127.0.0.1:{unused.getsockname()[1]}"})
        with (
            pytest.raises(errors.LocalStackError, match=r"DCCF_BROKER_URL.*--broker file"),
            broker.running(choice, tmp_path),
        ):
            pass
