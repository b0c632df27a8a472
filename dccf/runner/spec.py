"""Pure translation: an attempt and its limits become what the daemon's API wants to hear.

Why each option is there stands in the threat table of the runner's design; in short: no network, no
capabilities, no new privileges, nothing writable but ``/output`` and memory, and a limit on everything.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from pydantic import SecretStr

from dccf.config import Settings
from dccf.fields import MIB
from dccf.models import JobSpec
from dccf.runner.base import AttemptRef
from dccf.runner.engine import ImageFacts

OUTPUT = "/output"
MANAGED_LABEL = "dccf.managed"
JOB_LABEL = "dccf.job"
FENCE_LABEL = "dccf.fence"
WORKER_LABEL = "dccf.worker"
#: Repository of the tags of jobs' images; Dockerfiles may not name it.
IMAGE_REPOSITORY = "dccf-job"

SHM_BYTES = 64 * MIB
TMP_BYTES = 256 * MIB
VOLUME_BYTES = 64 * MIB
OPEN_FILES = 4096
#: What images with root's habits need: change owners and modes, read and write whatever owner, become another user,
#: listen on low ports. None of them reaches beyond the container's own files and processes (capabilities(7)).
COMPAT_CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID", "NET_BIND_SERVICE")
LOG_FILE_BYTES = "10m"
#: The kernel's period for CPU quotas in microseconds, and the least quota that it takes.
_CPU_PERIOD, _CPU_QUOTA_MIN = 100_000, 1_000


def name_of(attempt: AttemptRef) -> str:
    """Name the container and the volume of an attempt."""
    return f"dccf-{attempt.job_id}-{attempt.fence}"


def helper_name_of(attempt: AttemptRef) -> str:
    """Name the container that prepares an attempt's own, or tries out the daemon; it is never left behind."""
    return f"{name_of(attempt)}-helper"


def keeper_name_of(attempt: AttemptRef) -> str:
    """Name the container that keeps an attempt's ``/output`` mounted where it lies in memory."""
    return f"{name_of(attempt)}-keeper"


def tag_of(attempt: AttemptRef) -> str:
    """Name the image of an attempt."""
    return f"{IMAGE_REPOSITORY}:{attempt.job_id}-{attempt.fence}"


def labels_of(attempt: AttemptRef) -> dict[str, str]:
    """Give the labels that every object of an attempt carries; they win over those of an image."""
    return {
        MANAGED_LABEL: "true",
        JOB_LABEL: str(attempt.job_id),
        FENCE_LABEL: str(attempt.fence),
        WORKER_LABEL: attempt.worker,
    }


def attempt_of(names: Sequence[str], labels: dict[str, str]) -> AttemptRef | None:
    """Tell whose container, volume or image this is, or ``None`` when it is none of ours.

    Labels alone prove nothing: an image can bring its own, and a build's helper containers inherit
    those. The names (with the daemon's ``/`` before those of containers) are given by us only.
    """
    try:
        attempt = AttemptRef(UUID(labels[JOB_LABEL]), int(labels[FENCE_LABEL]), labels[WORKER_LABEL])
    except (KeyError, ValueError):
        return None
    containers = {name_of(attempt), helper_name_of(attempt), keeper_name_of(attempt)}
    given = {f"/{name}" for name in containers} | {name_of(attempt), tag_of(attempt)}
    return attempt if given & set(names) else None


def container_config(
    attempt: AttemptRef,
    spec: JobSpec,
    image: ImageFacts,
    settings: Settings,
    volume: Mapping[str, str],
    secrets: Mapping[str, SecretStr],
) -> dict[str, Any]:
    """Translate a job into the body of ``POST /containers/create``.

    ``volume`` says where ``/output`` lies; ``secrets`` are further environment variables.
    """
    environment = {**spec.env, **{name: secret.get_secret_value() for name, secret in secrets.items()}}
    config = {
        "Image": image.id,
        "Hostname": "job",
        "Env": [f"{name}={value}" for name, value in environment.items()],
        "Labels": labels_of(attempt),
        "Healthcheck": {"Test": ["NONE"]},
        "AttachStdin": False,
        "OpenStdin": False,
        "Tty": False,
        "NetworkDisabled": spec.network == "none",
        "HostConfig": _host_config(attempt, spec, image, settings, volume),
    }
    return config | ({"User": spec.user} if spec.user else {})


def preparation_config(attempt: AttemptRef, image: ImageFacts, volume: Mapping[str, str]) -> dict[str, Any]:
    """Describe a container that is never started.

    It makes the output volume writable for all users where the worker cannot reach it: the daemon takes a folder's
    mode from an archive only below the place that it unpacks to, and refuses to unpack beside a volume of a
    read-only container (both measured on 20.10), so the job's own does not do.
    """
    return {
        "Image": image.id,
        # It need not exist: nothing is ever executed.
        "Entrypoint": ["/dccf-prepare"],
        "User": "0:0",
        "WorkingDir": "/",
        "Labels": labels_of(attempt),
        "NetworkDisabled": True,
        # What covers the image's volumes keeps the daemon from making any.
        "HostConfig": {
            "NetworkMode": "none",
            "Mounts": [_output_mount(attempt, volume)],
            "Tmpfs": _tmpfs(image.volumes),
        },
    }


def keeper_config(attempt: AttemptRef, image: str, volume: Mapping[str, str]) -> dict[str, Any]:
    """Describe a container that does nothing but keep ``/output`` mounted; ``image`` has a shell's tools."""
    return {
        "Image": image,
        "Entrypoint": ["tail", "-f", "/dev/null"],
        "Labels": labels_of(attempt),
        "Healthcheck": {"Test": ["NONE"]},
        "NetworkDisabled": True,
        "HostConfig": {
            "NetworkMode": "none",
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "ReadonlyRootfs": True,
            "PidsLimit": 8,
            "Memory": 16 * MIB,
            "Init": True,
            "LogConfig": {"Type": "none"},
            "Mounts": [_output_mount(attempt, volume)],
        },
    }


def canary_config(attempt: AttemptRef, image: ImageFacts, runtime: str | None) -> dict[str, Any]:
    """Describe a container that starts whenever the daemon works, whatever the image's configuration says.

    The program that it names does not exist; the init process starts all the same and ends with code 127.
    """
    host = {"NetworkMode": "none", "Init": True, "ReadonlyRootfs": True, "Tmpfs": _tmpfs(image.volumes)}
    return {
        "Image": image.id,
        "Entrypoint": ["/dccf-canary"],
        "User": "0:0",
        "WorkingDir": "/",
        "Labels": labels_of(attempt),
        "Healthcheck": {"Test": ["NONE"]},
        "NetworkDisabled": True,
        "HostConfig": host | _runtime(runtime),
    }


def build_parameters(attempt: AttemptRef, spec: JobSpec, network: str, builder: str) -> dict[str, str]:
    """Translate a job into the parameters of ``POST /build``; ``network`` is that of RUN, ``none`` or ``default``.

    BuildKit passes over the limits; the classic builder keeps them.
    """
    return {
        "version": "2" if builder == "buildkit" else "1",
        "t": tag_of(attempt),
        "labels": json.dumps(labels_of(attempt)),
        "networkmode": network,
        "rm": "1",
        "forcerm": "1",
        # Nobody gets layers that another job's build left.
        "nocache": "1",
        "memory": str(spec.memory),
        "memswap": str(spec.memory),
        "cpuperiod": str(_CPU_PERIOD),
        "cpuquota": str(max(_CPU_QUOTA_MIN, round(spec.cpus * _CPU_PERIOD))),
        "shmsize": str(SHM_BYTES),
    }


def _output_mount(attempt: AttemptRef, volume: Mapping[str, str]) -> dict[str, Any]:
    return {
        "Type": "volume",
        "Source": name_of(attempt),
        "Target": OUTPUT,
        "VolumeOptions": {
            "Labels": labels_of(attempt),
            "DriverConfig": {"Name": "local", "Options": dict(volume)},
        },
    }


def _host_config(
    attempt: AttemptRef, spec: JobSpec, image: ImageFacts, settings: Settings, volume: Mapping[str, str]
) -> dict[str, Any]:
    is_strict = spec.profile == "strict"
    config = {
        "NetworkMode": spec.network,
        "CapDrop": ["ALL"],
        "CapAdd": [] if is_strict else list(COMPAT_CAPABILITIES),
        "SecurityOpt": ["no-new-privileges"],
        "Privileged": False,
        "ReadonlyRootfs": is_strict,
        "IpcMode": "private",
        "Init": True,
        "PidsLimit": spec.pids or settings.pids_limit,
        "Memory": spec.memory,
        # The same value means: no swap.
        "MemorySwap": spec.memory,
        "OomScoreAdj": 500,
        # A quota may exceed the machine's cores; the daemon refuses NanoCpus that do.
        "CpuPeriod": _CPU_PERIOD,
        "CpuQuota": max(_CPU_QUOTA_MIN, round(spec.cpus * _CPU_PERIOD)),
        "ShmSize": spec.shm,
        "Ulimits": _ulimits(spec, settings),
        "Tmpfs": _tmpfs(image.volumes, spec.tmp),
        "Mounts": [_output_mount(attempt, volume)],
        "LogConfig": {"Type": "local", "Config": {"max-size": LOG_FILE_BYTES, "max-file": "2"}},
        "RestartPolicy": {"Name": "no"},
        "AutoRemove": False,
        "PublishAllPorts": False,
    }
    return config | _runtime(spec.runtime)


def _runtime(name: str | None) -> dict[str, str]:
    return {"Runtime": name} if name else {}


def _ulimits(spec: JobSpec, settings: Settings) -> list[dict[str, Any]]:
    """Give the limits of each process. The machine would keep core dumps; no file need be larger than all output."""
    largest = settings.output_limit_bytes
    defaults = {"nofile": OPEN_FILES, "core": 0, "fsize": largest}
    limits = defaults | {str(name): value for name, value in spec.ulimits.items()}
    limits["fsize"] = min(limits["fsize"], largest)
    return [{"Name": name, "Soft": value, "Hard": value} for name, value in limits.items()]


def _tmpfs(volumes: Sequence[str], tmp_bytes: int = TMP_BYTES) -> dict[str, str]:
    """Give ``/tmp``, and a limited tmpfs over each of the image's volumes, which would else be unlimited on disk."""
    mounts = {
        path: f"rw,exec,nosuid,nodev,size={VOLUME_BYTES}"
        for path in volumes
        if path.rstrip("/") != OUTPUT and not path.startswith(OUTPUT + "/")
    }
    return {**mounts, "/tmp": f"rw,exec,nosuid,nodev,mode=1777,size={tmp_bytes}"}  # noqa: S108 - in the container
