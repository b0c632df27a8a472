"""The manifests as kubectl would apply them, from a copy that has secrets of its own."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import missing

REPOSITORY = Path(__file__).parents[3]
OVERLAYS = ("minikube", "original", "prod", "keda")
WORKLOADS = ("Deployment", "StatefulSet", "Job", "CronJob")

Manifest = dict[str, Any]


@pytest.fixture(scope="session")
def overlays(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Manifest]]:
    """Every overlay, and the one of the end-to-end test, by name."""
    if shutil.which("kubectl") is None:
        missing("kubectl is not installed")
    copy = tmp_path_factory.mktemp("deploy") / "k8s"
    shutil.copytree(REPOSITORY / "k8s", copy, ignore=shutil.ignore_patterns("secrets.env"))
    folders = {name: copy / "overlays" / name for name in OVERLAYS}
    folders["e2e"] = copy / "e2e" / "overlays" / "original"
    for name in ("minikube", "original", "prod"):
        subprocess.run([REPOSITORY / "scripts" / "secrets", folders[name] / "secrets.env"], check=True)
    return {name: render(folder) for name, folder in folders.items()}


def render(folder: Path) -> list[Manifest]:
    """Give what ``kubectl apply -k`` would apply."""
    done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=True)
    return list(yaml.safe_load_all(done.stdout))


def pod_spec(manifest: Manifest) -> Manifest:
    """Give the pod that a workload makes."""
    spec: Manifest = manifest["spec"]
    if manifest["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    pod: Manifest = spec["template"]["spec"]
    return pod


def workloads(manifests: list[Manifest]) -> dict[str, Manifest]:
    """Give the pods of all workloads, by the workloads' names."""
    return {one["metadata"]["name"]: pod_spec(one) for one in manifests if one["kind"] in WORKLOADS}


def containers(manifests: list[Manifest]) -> list[tuple[str, Manifest, Manifest]]:
    """Give all containers with the pods they are in and a name that says which."""
    return [
        (f"{name}/{container['name']}", pod, container)
        for name, pod in workloads(manifests).items()
        for container in [*pod.get("initContainers", []), *pod["containers"]]
    ]
