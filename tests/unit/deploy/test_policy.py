"""What a checker of other people's making (kube-score) says about the manifests; every exception has its reason."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any

import pytest
import yaml

from tests.conftest import missing
from tests.unit.deploy.conftest import OVERLAYS, REPOSITORY, Manifest

Findings = set[tuple[str, str]]

#: The grade of a check with nothing to say.
GRADE_OK = 10

#: What is left out everywhere.
OPTIONS = (
    "--ignore-test=container-image-pull-policy",  # our tags never move, and a node with the image needs no registry
    "--ignore-container-cpu-limit",  # a limit throttles while CPUs are idle; requests share them when they are not
)

#: What is not followed in one place: (check, workload), and why.
LISTED = {
    ("container-security-context-privileged", "worker"): "a Docker daemon cannot do with less",
    ("container-security-context-user-group-id", "worker"): "the Docker daemon is root; jobs are remapped users",
    ("container-security-context-user-group-id", "kafka"): "user 1000, as in the image apache/kafka",
    ("container-security-context-user-group-id", "postgres"): "user 999, as in the public image",
    ("container-security-context-user-group-id", "backup"): "the same image",
    ("container-security-context-readonlyrootfilesystem", "worker"): "the Docker daemon writes to /etc and /run",
    ("pod-probes-identical", "kafka"): "the port is all that a broker shows; the liveness probe fails much later",
    ("pod-probes-identical", "postgres"): "pg_isready is all there is; the liveness probe fails much later",
    ("pod-probes-identical", "flower"): "it has one address for both; the liveness probe fails much later",
    ("deployment-replicas", "flower"): "nobody waits for it, and two would show different histories",
    ("deployment-has-host-podantiaffinity", "api"): "a topologySpreadConstraint says it better",
    ("deployment-has-host-podantiaffinity", "controller"): "the same",
    ("deployment-has-host-podantiaffinity", "worker"): "the same; more workers than nodes are welcome",
}

#: What is so because `minikube` has one of everything.
ALONE = {("deployment-replicas", "api"): "one node, one of everything"}
SPREAD = "deployment-has-host-podantiaffinity"  # asked of Deployments with two or more
EXCEPTIONS = {name: set(LISTED) for name in OVERLAYS}
EXCEPTIONS["minikube"] = {key for key in LISTED if key[0] != SPREAD} | set(ALONE)


@pytest.fixture(scope="session")
def kube_score() -> str:
    """Build kube-score, once; give its path."""
    if shutil.which("go") is None:
        missing("Go is not installed")
    done = subprocess.run(
        [REPOSITORY / "scripts" / "tool", "kube-score"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def ask(kube_score: str, manifests: list[Manifest]) -> Findings:
    """Give (check, name of the object) for all that kube-score does not like."""
    done = subprocess.run(
        [kube_score, "score", "--output-format=json", "--kubernetes-version=v1.30", *OPTIONS, "-"],
        input=yaml.safe_dump_all(manifests),
        capture_output=True,
        text=True,
        check=False,
    )
    objects: list[dict[str, Any]] = json.loads(done.stdout)
    return {
        (check["check"]["id"], one["object_meta"]["name"])
        for one in objects
        for check in one["checks"]
        if not check["skipped"] and check["grade"] < GRADE_OK
    }


@pytest.mark.parametrize("name", OVERLAYS)
def test_kube_score_finds_what_is_explained_here_and_nothing_else(
    overlays: dict[str, list[Manifest]], kube_score: str, name: str
) -> None:
    assert ask(kube_score, overlays[name]) == EXCEPTIONS[name]
