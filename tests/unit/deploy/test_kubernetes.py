"""What the manifests promise, held against what kubectl would apply."""

from __future__ import annotations

import subprocess

import kubernetes_validate
import pytest
import yaml

import dccf
from dccf import config
from dccf.config import Settings
from dccf.models import JobState
from tests.unit.deploy.conftest import OVERLAYS, REPOSITORY, Manifest, containers, pod_spec, render, workloads

Overlays = dict[str, list[Manifest]]

#: Kinds of other projects, which no schema of Kubernetes knows.
FOREIGN = {"PodMonitor", "ScaledObject", "TriggerAuthentication"}
MEASURED = ("api", "controller", "worker")
VERSIONS = ("1.30", "1.34")
ALL = (*OVERLAYS, "e2e")
SETTINGS = {config.variable_of(field) for field in Settings.model_fields}


@pytest.fixture(params=ALL)
def manifests(request: pytest.FixtureRequest, overlays: Overlays) -> list[Manifest]:
    """Each overlay in turn."""
    return overlays[request.param]


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_knows_every_field(manifests: list[Manifest], version: str) -> None:
    for manifest in manifests:
        if manifest["kind"] not in FOREIGN:
            kubernetes_validate.validate(manifest, version, strict=True)


def test_a_misspelt_field_would_be_noticed(overlays: Overlays) -> None:
    worker = next(
        one for one in overlays["prod"] if one["kind"] == "Deployment" and one["metadata"]["name"] == "worker"
    )
    broken = {**worker, "spec": {**worker["spec"], "replica": 1}}

    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, VERSIONS[-1], strict=True)


def test_images_have_the_tag_of_this_version_and_never_latest(manifests: list[Manifest]) -> None:
    for where, _, container in containers(manifests):
        name, _, tag = container["image"].partition(":")
        assert tag not in {"", "latest"}, where
        if name.startswith("dccf"):
            assert tag == dccf.__version__, where


def test_only_the_docker_daemon_is_root_and_privileged(manifests: list[Manifest]) -> None:
    for where, pod, container in containers(manifests):
        context = container["securityContext"]
        assert pod["securityContext"]["runAsNonRoot"], where
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, where
        if where == "worker/dind":
            continue
        assert context["allowPrivilegeEscalation"] is False, where
        assert context["capabilities"] == {"drop": ["ALL"]}, where
        assert "privileged" not in context, where
        assert "runAsUser" not in context, where


def test_pods_get_no_account_and_no_variables_of_services(manifests: list[Manifest]) -> None:
    for name, pod in workloads(manifests).items():
        assert pod["automountServiceAccountToken"] is False, name
        # DCCF_API_PORT=tcp://... would be a setting that is not allowed.
        assert pod["enableServiceLinks"] is False, name


def test_every_variable_of_ours_is_a_documented_setting(manifests: list[Manifest]) -> None:
    document = (REPOSITORY / "docs" / "configuration.md").read_text("utf-8")
    named = {variable["name"] for _, _, container in containers(manifests) for variable in container.get("env", [])}
    named |= {key for one in manifests if one["kind"] == "ConfigMap" for key in one["data"]}

    ours = {name for name in named if name.startswith(config.PREFIX)}
    assert len(ours) > 5
    assert ours <= SETTINGS
    assert all(f"`{name}`" in document for name in ours)


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_container_says_what_it_needs_and_may_use(overlays: Overlays, name: str) -> None:
    for where, _, container in containers(overlays[name]):
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys(), where
        assert "memory" in container["resources"]["limits"], where


def test_everything_that_stays_is_watched(manifests: list[Manifest]) -> None:
    for manifest in manifests:
        if manifest["kind"] in {"Deployment", "StatefulSet"}:
            for container in pod_spec(manifest)["containers"]:
                assert {"startupProbe", "livenessProbe"} <= container.keys(), container["name"]


def test_secrets_come_from_the_generator_alone(manifests: list[Manifest]) -> None:
    secrets = [one for one in manifests if one["kind"] == "Secret"]
    assert [one["metadata"]["name"].rpartition("-")[0] for one in secrets] == ["dccf-secrets"]
    (name,) = (one["metadata"]["name"] for one in secrets)
    for where, _, container in containers(manifests):
        for variable in container.get("env", []):
            if any(word in variable["name"] for word in ("PASSWORD", "TOKEN", "PEPPER", "AUTH", "CLUSTER_ID")):
                assert variable["valueFrom"]["secretKeyRef"]["name"] == name, where


def test_no_secret_is_in_the_tree() -> None:
    done = subprocess.run(
        ["git", "ls-files", "k8s", "docker"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert not [path for path in done.stdout.splitlines() if path.endswith(".env")]


def test_the_restore_job_is_as_careful_as_the_backup_job(overlays: Overlays) -> None:
    restore: Manifest = yaml.safe_load((REPOSITORY / "k8s" / "restore.yaml").read_text("utf-8"))
    kubernetes_validate.validate(restore, VERSIONS[-1], strict=True)
    backup = workloads(overlays["prod"])["backup"]
    pod = pod_spec(restore)

    for key in ("restartPolicy", "automountServiceAccountToken", "enableServiceLinks", "securityContext"):
        assert pod[key] == backup[key], key
    for key in ("image", "securityContext", "resources"):
        assert pod["containers"][0][key] == backup["containers"][0][key], key


def test_a_worker_has_longer_to_end_than_it_gives_its_jobs(manifests: list[Manifest]) -> None:
    pod = workloads(manifests)["worker"]
    variables = {one["name"]: one.get("value") for one in pod["containers"][0]["env"]}

    assert pod["terminationGracePeriodSeconds"] >= int(variables["DCCF_SHUTDOWN_GRACE_SECONDS"]) + 60


def test_the_docker_daemon_outlives_its_worker(manifests: list[Manifest]) -> None:
    (dind,) = (one for one in workloads(manifests)["worker"]["initContainers"] if one["name"] == "dind")

    assert dind["restartPolicy"] == "Always"
    assert "startupProbe" in dind


@pytest.mark.parametrize("name", ["original", "prod", "keda", "e2e"])
def test_three_brokers_keep_three_copies_of_which_two_must_be_written(overlays: Overlays, name: str) -> None:
    pod = workloads(overlays[name])["kafka"]
    variables = {one["name"]: one.get("value") for one in pod["containers"][0]["env"]}

    copies = {key: value for key, value in variables.items() if "REPLICATION_FACTOR" in key}
    least = {key: value for key, value in variables.items() if key.endswith(("MIN_ISR", "MIN_INSYNC_REPLICAS"))}
    assert len(copies) == 4
    assert set(copies.values()) == {"3"}
    assert len(least) == 3
    assert set(least.values()) == {"2"}


@pytest.mark.parametrize("name", ["prod", "keda"])
def test_prometheus_reaches_the_figures_of_those_who_have_some(overlays: Overlays, name: str) -> None:
    settings = next(one["data"] for one in overlays[name] if one["kind"] == "ConfigMap")
    policy = next(one["spec"] for one in overlays[name] if one["metadata"]["name"] == "prometheus-to-metrics")
    port = settings["DCCF_METRICS_PORT"]

    assert settings["DCCF_METRICS_HOST"] == "0.0.0.0"
    assert policy["podSelector"]["matchExpressions"][0]["values"] == list(MEASURED)
    assert policy["ingress"][0]["ports"] == [{"protocol": "TCP", "port": "metrics"}]
    for one in overlays[name]:
        if one["kind"] != "Deployment":
            continue
        ports = {
            given["name"]: str(given["containerPort"])
            for container in pod_spec(one)["containers"]
            for given in container.get("ports", [])
        }
        annotations = one["spec"]["template"]["metadata"].get("annotations", {})
        is_measured = one["metadata"]["name"] in MEASURED
        assert ports.get("metrics") == (port if is_measured else None)
        assert annotations.get("prometheus.io/port") == (port if is_measured else None)


@pytest.mark.parametrize("name", ["minikube", "original"])
def test_nobody_listens_for_a_prometheus_that_is_not_there(overlays: Overlays, name: str) -> None:
    assert all("DCCF_METRICS_PORT" not in one["data"] for one in overlays[name] if one["kind"] == "ConfigMap")


def test_the_operators_monitor_chooses_the_pods_and_the_port_that_there_are(overlays: Overlays) -> None:
    (monitor,) = render(REPOSITORY / "k8s" / "components" / "pod-monitor")
    policy = next(one["spec"] for one in overlays["prod"] if one["metadata"]["name"] == "prometheus-to-metrics")

    assert monitor["spec"]["selector"] == policy["podSelector"]
    assert monitor["spec"]["podMetricsEndpoints"] == [{"port": "metrics"}]


def test_the_scaler_counts_states_that_exist_and_slots_that_a_worker_has(overlays: Overlays) -> None:
    (scaler,) = (one for one in overlays["keda"] if one["kind"] == "ScaledObject")
    query = scaler["spec"]["triggers"][0]["metadata"]["query"]
    variables = {
        one["name"]: one.get("value") for one in workloads(overlays["keda"])["worker"]["containers"][0]["env"]
    }

    assert {word for word in query.split("'") if word.isalpha() and word.islower()} <= {*JobState, "default"}
    assert f"/ {variables['DCCF_WORKER_SLOTS']})" in query
    assert "replicas" not in next(
        one["spec"] for one in overlays["keda"] if one["kind"] == "Deployment" and one["metadata"]["name"] == "worker"
    )
