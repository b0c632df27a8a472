"""The self-test passes on a good daemon, and sees each wall that is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dccf.runner import selftest
from dccf.runner import spec as translation
from tests.runner_kit import runner_settings

pytestmark = pytest.mark.docker


def failed(docker_url: str, **changes: object) -> list[str]:
    """Run the self-test, and name what failed."""
    checks = selftest.run(runner_settings(docker_url=docker_url, **changes))
    return [check.name for check in checks if not check.passed]


def test_all_walls_of_the_private_daemon_stand(docker_url: str) -> None:
    checks = selftest.run(runner_settings(docker_url=docker_url))

    assert [check for check in checks if not check.passed] == []
    assert selftest.failures(checks) == ""
    assert {"daemon", "builder", "network", "memory limit", "process limit"} <= {check.name for check in checks}


@pytest.mark.parametrize(
    ("wall", "changes"),
    [
        ("network", {"NetworkMode": "bridge"}),
        ("read-only root", {"ReadonlyRootfs": False}),
        ("capabilities", {"CapDrop": []}),
        ("no new privileges", {"SecurityOpt": []}),
        ("seccomp", {"SecurityOpt": ["no-new-privileges", "seccomp=unconfined"]}),
        ("memory limit", {"Memory": 256 << 20, "MemorySwap": 256 << 20}),
        ("process limit", {"PidsLimit": -1}),
    ],
)
def test_a_missing_wall_is_seen(
    docker_url: str, monkeypatch: pytest.MonkeyPatch, wall: str, changes: dict[str, Any]
) -> None:
    original = translation.container_config

    def weakened(*arguments: Any) -> dict[str, Any]:
        config = original(*arguments)
        config["HostConfig"].update(changes)
        config["NetworkDisabled"] = config["HostConfig"]["NetworkMode"] == "none"
        if wall == "memory limit":
            # As if no limit were applied: it would need the machine's whole memory to be reached.
            config["Entrypoint"] = ["true"]
        return config

    monkeypatch.setattr(translation, "container_config", weakened)

    assert [wall] == failed(docker_url)


def test_a_daemon_that_is_away_is_one_failed_check(tmp_path: Path) -> None:
    assert failed(f"unix://{tmp_path / 'none.sock'}") == ["daemon"]


def test_an_image_that_cannot_be_had_is_said(docker_url: str) -> None:
    assert failed(docker_url, self_test_image="127.0.0.1:1/none") == ["walls", "memory limit", "process limit"]


def test_files_that_cannot_be_read_are_seen_and_stop_no_worker(docker_url: str, tmp_path: Path) -> None:
    missing = {"secrets_folder": tmp_path / "none", "registry_auth_file": tmp_path / "none.json"}

    checks = selftest.run(runner_settings(docker_url=docker_url, **missing))

    assert [check.name for check in checks if not check.passed] == ["secrets", "registry passwords"]
    assert selftest.failures(checks) == ""
