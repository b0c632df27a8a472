"""Settings: one frozen class, read once at start from the environment and a file.

Every field ``name`` of :class:`Settings` is set by the environment variable ``DCCF_NAME``, or by the
key ``name`` in the TOML file that ``DCCF_CONFIG`` names; the environment wins. A value that is not
allowed is a :class:`~dccf.errors.ConfigError` that says which variable, which value and what is
allowed. ``docs/configuration.md`` lists the same fields; a test compares the two.
"""

from __future__ import annotations

import difflib
import os
import shlex
import socket
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from dccf import errors
from dccf.config_values import (
    BudgetBytes,
    CommaList,
    DatabaseUrl,
    ProfileList,
    QueueList,
    RetentionRules,
    UlimitMap,
    default_state_folder,
)
from dccf.fields import GIB, MIB, MemoryBytes

PREFIX = "DCCF_"
CONFIG_VARIABLE = "DCCF_CONFIG"
#: Variables with our prefix that are read by something else than Settings.
OTHER_VARIABLES = frozenset({CONFIG_VARIABLE, "DCCF_API_URL", "DCCF_TOKEN", "DCCF_CI", "DCCF_TEST_DATABASE_URL"})

#: Settings whose values no error shows: secrets, and URLs, which may hold a password.
_HIDDEN = frozenset({"database_url", "broker_url", "bootstrap_token", "token_pepper"})


class Settings(BaseModel):
    """All settings of all processes; each process reads those it needs."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    database_url: DatabaseUrl = Field(description="PostgreSQL, as `postgresql://user:password@host:port/database`.")
    broker_url: str = Field(
        description="Celery's broker: `kafka://host:port`, or `filesystem://` for the file broker of one machine."
    )
    broker_folder: Path | None = Field(
        None, description="Folder of the file broker; needed with `filesystem://` only."
    )
    state_folder: Path = Field(
        default_factory=default_state_folder, description="Folder for locks and the one-machine stack's data."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Least level that is logged.")

    metrics_host: str = Field("127.0.0.1", description="Address that the metrics port listens on.")
    metrics_port: int | None = Field(
        None,
        ge=1,
        le=65535,
        description="Port on which this process tells its figures to Prometheus, to whoever asks; none if not set.",
    )

    auth: Literal["token", "none"] = Field(
        "token", description="`none` switches authentication off; allowed on a loopback address only."
    )
    bootstrap_token: SecretStr | None = Field(
        None, description="A token that is always valid and may administer; for the first start."
    )
    bootstrap_owner: str = Field("admin", min_length=1, description="Owner that the bootstrap token speaks for.")
    token_pepper: SecretStr = Field(
        SecretStr(""), description="Secret mixed into stored token hashes; a change makes all tokens invalid."
    )
    api_host: str = Field("127.0.0.1", description="Address that the API listens on.")
    api_port: int = Field(8080, ge=0, le=65535, description="Port that the API listens on.")
    api_threads: int = Field(128, ge=4, le=1024, description="Requests that one API process serves at once.")
    max_upload_bytes: MemoryBytes = Field(
        2 * GIB, description="Largest request body; sizes may be written like `64m`."
    )
    max_bundle_files: int = Field(10_000, ge=1, description="Most files in one upload.")
    max_dockerfile_bytes: int = Field(64 << 10, ge=1, description="Largest Dockerfile.")

    runner: Literal["docker", "fake"] = Field(
        "docker", description="What executes jobs; `fake` runs nothing and plays scripted results."
    )
    eager_runner: Literal["fake", "docker"] = Field(
        "fake", description="What executes jobs under Celery's `task_always_eager`."
    )
    worker_name: str = Field(
        default_factory=socket.gethostname,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$",
        description="Name of the worker; must stay the same over restarts and be unique per daemon.",
    )
    worker_slots: int = Field(
        default_factory=lambda: os.cpu_count() or 1, ge=1, le=256, description="Jobs that one worker runs at once."
    )
    worker_queues: QueueList = Field(("default",), description="Queues that the worker takes jobs from.")
    self_test: Literal["require", "warn", "off"] = Field(
        "require",
        description="A worker tries its daemon's walls; with `require` it takes no jobs until they stand.",
    )
    self_test_image: str = Field("busybox", description="Image with a shell that the self-test is made of.")
    docker_url: str = Field("unix:///var/run/docker.sock", description="The worker's own Docker daemon.")

    lease_seconds: float = Field(45, ge=3, description="A worker that is silent for this long has lost its jobs.")
    lease_renew_seconds: float = Field(10, ge=0.5, description="How often a worker renews its leases.")
    shutdown_grace_seconds: float = Field(
        30, ge=0, description="A worker that is told to stop lets its jobs go on for this long, then hands them back."
    )
    max_attempts: int = Field(3, ge=1, le=100, description="Attempts before a fault of the platform is final.")
    retry_backoff_seconds: float = Field(2, ge=0, description="Wait before the second attempt; doubles each time.")
    retry_backoff_max_seconds: float = Field(300, ge=0, description="Longest wait between two attempts.")
    hint_resend_seconds: float = Field(
        600, ge=1, description="A queued job's hint is sent again after this long; doubles each time, up to 15 min."
    )
    hints_outstanding: int = Field(
        32, ge=1, description="Hints in the broker per queue while no worker of it is alive; then one a slot."
    )
    owner_running_limit: int | None = Field(
        None, ge=0, description="Jobs of one owner that run at once, where the owner has no limit of their own."
    )
    owner_queued_limit: int | None = Field(
        10_000, ge=0, description="Jobs of one owner that wait at once, where the owner has no limit of their own."
    )
    retention: RetentionRules | None = Field(
        None, description="How long ended jobs are kept, as rules like `jobs=30d,logs=7d,jobs[keep=yes]=never`."
    )
    sweep_seconds: float = Field(1, ge=0.1, description="How often the controller's loop looks at the database.")

    allowed_images: CommaList = Field(
        ("*",), description="Base images that Dockerfiles may name, as patterns like `docker.io/library/*`."
    )
    allow_bridge: bool = Field(False, description="Whether jobs may ask for `network: bridge`.")
    bridge_firewall: Literal["require", "off"] = Field(
        "require",
        description="Whether `network: bridge` needs `dccf firewall` to be in force; `off` trusts other walls.",
    )
    build_network: Literal["none", "egress", "default"] = Field(
        "none",
        description="Network of RUN; `egress`: public addresses, where `dccf firewall` is in force; `default`: all.",
    )
    pull_timeout_seconds: float = Field(300, gt=0, description="Longest pull of one base image.")
    pull_limit_bytes: MemoryBytes = Field(
        4 * GIB, description="Most that is pulled for one base image, as the registry sends it."
    )
    disk_free_bytes: BudgetBytes = Field(
        2 * GIB,
        description="A worker takes no jobs while its daemon's disk has less free; `0` never minds.",
    )
    image_limit_bytes: MemoryBytes = Field(4 * GIB, description="Largest image that a job may build.")
    image_cache_bytes: BudgetBytes = Field(
        10 * GIB, description="Disk for built images that are kept for jobs with the same files; `0` keeps none."
    )
    image_cache_seconds: float = Field(
        7 * 86400, gt=0, description="A built image that was not used for this long is removed."
    )
    layer_cache_bytes: BudgetBytes = Field(
        0,
        description="Disk for layers that are kept for the next builds of the same owner, on a daemon of the "
        "worker's own with BuildKit; over it, all are dropped. `0` keeps none.",
    )
    allowed_profiles: ProfileList = Field(
        ("strict",), min_length=1, description="Profiles that jobs may ask for: `strict`, `compat`."
    )
    allowed_runtimes: CommaList = Field(
        (), description="OCI runtimes of the daemons that jobs may ask for, like `runsc`, beside the daemon's own."
    )
    cpus_limit: float | None = Field(None, ge=0.01, description="Most CPU cores that a job may ask for.")
    memory_limit_bytes: MemoryBytes | None = Field(None, description="Most memory that a job may ask for.")
    pids_limit: int = Field(256, ge=8, description="Most processes in a job's container.")
    ulimits_limit: UlimitMap = Field(
        {"nofile": 65536, "memlock": 64 * MIB, "stack": 64 * MIB},
        description="Largest `ulimits` that jobs may ask for; those that are not named cannot be set.",
    )
    rootfs_limit_bytes: MemoryBytes = Field(
        2 * GIB, description="A container with `profile: compat` that wrote more outside of /output is killed."
    )
    secrets_folder: Path | None = Field(
        None, description="The worker's folder with secrets, each in a file `<owner>/<name>`."
    )
    registry_auth_file: Path | None = Field(
        None, description="Passwords of registries for the worker's pulls, in the form of Docker's `config.json`."
    )
    output_store: Literal["auto", "loop", "plain", "archive", "tmpfs"] = Field(
        "auto",
        description="Where /output lies: the first of `loop`, `plain` and `archive` that works; or this, or `tmpfs`.",
    )
    output_folder: Path | None = Field(
        None, description="The worker's folder for /output, on the daemon's machine; in the state folder if not set."
    )
    output_limit_bytes: MemoryBytes = Field(1 * GIB, description="Most that one job may leave in /output.")
    output_file_limit_bytes: MemoryBytes = Field(512 * MIB, description="Largest single file in /output.")
    output_files_limit: int = Field(10_000, ge=1, description="Most files that one job may leave in /output.")
    log_head_bytes: int = Field(8 * MIB, ge=1024, description="Kept from the start of each stream of log.")
    log_tail_bytes: int = Field(2 * MIB, ge=1024, description="Kept from the end of each stream of log.")
    log_limit_bytes: MemoryBytes = Field(1 * GIB, description="A container that prints more than this is killed.")

    flower_host: str = Field("127.0.0.1", description="Address that Flower listens on.")
    flower_port: int = Field(5555, ge=0, le=65535, description="Port that Flower listens on.")


#: File of the state folder with the variables that reach the database and the broker of a ``dccf up``.
UP_ENVIRONMENT = "env"


def variable_of(field: str) -> str:
    """Give the environment variable that sets a field."""
    return PREFIX + field.upper()


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from the environment and the file that ``DCCF_CONFIG`` names.

    Raises:
        ConfigError: a value is missing or not allowed, or a variable with our prefix is unknown.
    """
    environ = os.environ if environ is None else environ
    values = _read_file(environ[CONFIG_VARIABLE]) if CONFIG_VARIABLE in environ else {}
    known = {variable_of(field): field for field in Settings.model_fields}
    unknown = sorted(
        name for name in environ if name.startswith(PREFIX) and name not in known and name not in OTHER_VARIABLES
    )
    if unknown:
        raise errors.ConfigError("\n".join(_unknown(name, known) for name in unknown))
    values.update({field: environ[name] for name, field in known.items() if name in environ})
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        raise errors.ConfigError("\n".join([*_sentences(error, environ), *_way_out(values, environ)])) from error
    _check_together(settings)
    return settings


def _read_file(path: str) -> dict[str, Any]:
    try:
        return tomllib.loads(Path(path).read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise errors.ConfigError(f"{CONFIG_VARIABLE}={path}: the file cannot be read: {error}") from error


def _way_out(values: Mapping[str, Any], environ: Mapping[str, str]) -> list[str]:
    """Name the settings that a ``dccf up`` has left for commands beside it, where there are none."""
    left = Path(environ.get(variable_of("state_folder")) or default_state_folder()) / UP_ENVIRONMENT
    if "database_url" in values or not os.access(left, os.R_OK):
        return []
    return [f"For those of your dccf up: set -a; . {shlex.quote(str(left))}; set +a"]


def _sentences(error: ValidationError, environ: Mapping[str, str]) -> list[str]:
    """Turn pydantic's findings into one sentence each: the variable, its value, what is allowed."""
    sentences = []
    for finding in error.errors(include_url=False):
        field = str(finding["loc"][0])
        name = variable_of(field)
        where = name if name in environ or finding["type"] == "missing" else f"{field} (in {CONFIG_VARIABLE})"
        info = Settings.model_fields.get(field)
        if info is None:
            sentences.append(_unknown(where, Settings.model_fields))
            continue
        if finding["type"] == "missing":
            sentences.append(f"{name} is not set. It is needed: {info.description}")
            continue
        message = finding["msg"].removeprefix("Value error, ")
        value = "(hidden)" if field in _HIDDEN else repr(finding["input"])
        sentences.append(f"{where}={value} is not allowed: {message}. {info.description}")
    return sentences


def _unknown(name: str, known: Iterable[str]) -> str:
    """Say that there is no such setting, and which one may have been meant."""
    close = difflib.get_close_matches(name.split(" ", maxsplit=1)[0], known, 1)
    meant = f" Did you mean {close[0]}?" if close else ""
    return f"{name}: there is no such setting.{meant} docs/configuration.md lists them all."


def _check_together(settings: Settings) -> None:
    """Check what no single field can say."""
    if settings.auth == "none" and settings.api_host not in {"127.0.0.1", "::1", "localhost"}:
        raise errors.ConfigError(
            f"DCCF_AUTH=none with DCCF_API_HOST={settings.api_host}: without authentication the API may only "
            "listen on 127.0.0.1. Use DCCF_AUTH=token, or listen on 127.0.0.1."
        )
    if settings.broker_url.startswith("filesystem://") and settings.broker_folder is None:
        raise errors.ConfigError("DCCF_BROKER_FOLDER is not set. The file broker (filesystem://) needs it.")
    if settings.lease_renew_seconds * 3 > settings.lease_seconds:
        raise errors.ConfigError(
            f"DCCF_LEASE_RENEW_SECONDS={settings.lease_renew_seconds:g} is not allowed: it must be at most a third "
            f"of DCCF_LEASE_SECONDS ({settings.lease_seconds:g}), or one slow renewal loses the job."
        )
