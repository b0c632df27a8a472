"""A job and its limits become exactly what the daemon is asked for."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from pydantic import SecretStr

from dccf.models import JobSpec
from dccf.runner import spec as translation
from dccf.runner.base import AttemptRef
from dccf.runner.engine import ImageFacts
from tests.runner_kit import runner_settings

ATTEMPT = AttemptRef(uuid.UUID(int=7), 3, "w1")
NAME = "dccf-00000000-0000-0000-0000-000000000007-3"
LABELS = {
    "dccf.managed": "true",
    "dccf.job": "00000000-0000-0000-0000-000000000007",
    "dccf.fence": "3",
    "dccf.worker": "w1",
}


def config(
    spec: JobSpec | None = None, image: ImageFacts | None = None, secrets: dict[str, SecretStr] | None = None
) -> dict[str, Any]:
    """Translate with defaults for what a test does not care about."""
    settings = runner_settings(output_limit_bytes=8 << 20, pids_limit=99)
    facts = image or ImageFacts("sha256:x", 1)
    return translation.container_config(ATTEMPT, spec or JobSpec(), facts, settings, {}, secrets or {})


def test_the_whole_configuration() -> None:
    spec = JobSpec(env={"A": "1", "B": "x=y"}, memory=64 << 20, cpus=1.5)

    assert config(spec) == {
        "Image": "sha256:x",
        "Hostname": "job",
        "Env": ["A=1", "B=x=y"],
        "Labels": LABELS,
        "Healthcheck": {"Test": ["NONE"]},
        "AttachStdin": False,
        "OpenStdin": False,
        "Tty": False,
        "NetworkDisabled": True,
        "HostConfig": {
            "NetworkMode": "none",
            "CapDrop": ["ALL"],
            "CapAdd": [],
            "SecurityOpt": ["no-new-privileges"],
            "Privileged": False,
            "ReadonlyRootfs": True,
            "IpcMode": "private",
            "Init": True,
            "PidsLimit": 99,
            "Memory": 64 << 20,
            "MemorySwap": 64 << 20,
            "OomScoreAdj": 500,
            "CpuPeriod": 100_000,
            "CpuQuota": 150_000,
            "ShmSize": 64 << 20,
            "Ulimits": [
                {"Name": "nofile", "Soft": 4096, "Hard": 4096},
                {"Name": "core", "Soft": 0, "Hard": 0},
                {"Name": "fsize", "Soft": 8 << 20, "Hard": 8 << 20},
            ],
            "Tmpfs": {"/tmp": "rw,exec,nosuid,nodev,mode=1777,size=268435456"},
            "Mounts": [
                {
                    "Type": "volume",
                    "Source": NAME,
                    "Target": "/output",
                    "VolumeOptions": {"Labels": LABELS, "DriverConfig": {"Name": "local", "Options": {}}},
                }
            ],
            "LogConfig": {"Type": "local", "Config": {"max-size": "10m", "max-file": "2"}},
            "RestartPolicy": {"Name": "no"},
            "AutoRemove": False,
            "PublishAllPorts": False,
        },
    }


@pytest.mark.parametrize(("cpus", "quota"), [(0.01, 1000), (1, 100_000), (0.333, 33_300), (64, 6_400_000)])
def test_cpus_become_a_quota(cpus: float, quota: int) -> None:
    assert quota == config(JobSpec(cpus=cpus))["HostConfig"]["CpuQuota"]


@pytest.mark.parametrize(
    ("volumes", "covered"),
    [
        ((), []),
        (("/data", "/a:b"), ["/a:b", "/data"]),
        (("/output", "/output/", "/output/sub", "/outputs"), ["/outputs"]),
        (("/tmp",), []),
    ],
)
def test_volumes_of_the_image_are_covered(volumes: tuple[str, ...], covered: list[str]) -> None:
    tmpfs = config(image=ImageFacts("sha256:x", 1, volumes))["HostConfig"]["Tmpfs"]

    assert sorted([*covered, "/tmp"]) == sorted(tmpfs)
    assert {"rw,exec,nosuid,nodev,size=67108864"} >= {tmpfs[path] for path in covered}


def test_bridge_is_passed_on() -> None:
    assert config(JobSpec(network="bridge"))["HostConfig"]["NetworkMode"] == "bridge"
    assert not config(JobSpec(network="bridge"))["NetworkDisabled"]


@pytest.mark.parametrize(
    ("names", "labels", "expected"),
    [
        (["/" + NAME], LABELS, ATTEMPT),
        (["/other"], LABELS, None),
        ([], LABELS, None),
        (["/" + NAME], {**LABELS, "dccf.fence": "x"}, None),
        (["/" + NAME], {**LABELS, "dccf.job": "x"}, None),
        (["/" + NAME], {}, None),
    ],
)
def test_a_container_is_ours_by_name_and_labels(
    names: list[str], labels: dict[str, str], expected: AttemptRef | None
) -> None:
    assert expected == translation.attempt_of(names, labels)


def test_a_build_shares_no_cache_and_has_no_network() -> None:
    parameters = translation.build_parameters(ATTEMPT, JobSpec(), "none", "buildkit")

    assert (parameters["version"], parameters["nocache"], parameters["networkmode"]) == ("2", "1", "none")
    assert f"dccf-job:{LABELS['dccf.job']}-3" == parameters["t"]


def test_the_build_network_is_a_setting() -> None:
    assert translation.build_parameters(ATTEMPT, JobSpec(), "default", "classic")["networkmode"] == "default"
