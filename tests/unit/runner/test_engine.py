"""The SDK's errors become ours, all of them; times and ends are read right."""

from __future__ import annotations

import inspect
from datetime import UTC, datetime

import docker.errors
import pytest
import requests

from dccf.errors import EngineUnavailable
from dccf.models import JobSpec, Reason
from dccf.runner.endings import exit_of
from dccf.runner.engine import ContainerState, parse_time
from dccf.runner.sdk import mapped_errors
from dccf.runner.wire import EngineFault, Refused, error_of
from tests.runner_kit import runner_settings

#: Errors with a status, which decides.
BY_STATUS = {"APIError", "NotFound", "ImageNotFound"}
#: Errors without an answer that makes sense.
UNAVAILABLE = (
    {"DockerException", "InvalidVersion", "InvalidRepository", "InvalidConfigFile", "InvalidArgument", "NullResource"}
    | {"DeprecatedMethod", "TLSParameterError", "BuildError", "ImageLoadError", "StreamParseError"}
    | {"MissingContextParameter", "ContextAlreadyExists", "ContextException", "ContextNotFound"}
)
#: Raised by the SDK's high-level client only, which is not used.
IGNORED = {"ContainerError"}

START = datetime(2030, 1, 1, tzinfo=UTC)


def test_every_error_of_the_sdk_is_mapped_or_ignored() -> None:
    known = {
        name for name, value in vars(docker.errors).items() if inspect.isclass(value) and issubclass(value, Exception)
    }

    assert known == BY_STATUS | UNAVAILABLE | IGNORED


@pytest.mark.parametrize("name", sorted(UNAVAILABLE))
def test_an_error_without_a_status_means_that_the_engine_is_away(name: str) -> None:
    error = getattr(docker.errors, name)
    arguments: tuple[object, ...] = ("x", []) if name == "BuildError" else ("x",)

    with pytest.raises(EngineUnavailable) as raised, mapped_errors():
        raise error(*arguments)

    assert isinstance(raised.value.__cause__, error)


@pytest.mark.parametrize(
    ("status", "kind"), [(400, Refused), (404, Refused), (409, Refused), (500, EngineFault), (503, EngineFault)]
)
def test_the_status_decides(status: int, kind: type[Exception]) -> None:
    response = requests.Response()
    response.status_code = status

    with pytest.raises(kind), mapped_errors():
        raise docker.errors.APIError("x", response, "because")

    assert isinstance(error_of(status, "because"), kind)


def test_a_connection_that_fails_means_that_the_engine_is_away() -> None:
    with pytest.raises(EngineUnavailable), mapped_errors():
        raise requests.ConnectionError("x")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2030-01-02T03:04:05Z", datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2030-01-02T03:04:05.123456789Z", datetime(2030, 1, 2, 3, 4, 5, 123456, tzinfo=UTC)),
        ("2030-01-02T03:04:05.1Z", datetime(2030, 1, 2, 3, 4, 5, 100000, tzinfo=UTC)),
        ("2030-01-02T03:04:05.5+01:00", datetime(2030, 1, 2, 2, 4, 5, 500000, tzinfo=UTC)),
        ("2030-01-02T03:04:05.5-01:00", datetime(2030, 1, 2, 4, 4, 5, 500000, tzinfo=UTC)),
        ("0001-01-01T00:00:00Z", datetime(1, 1, 1, tzinfo=UTC)),
    ],
)
def test_the_daemons_times_are_read(text: str, expected: datetime) -> None:
    assert expected == parse_time(text)


@pytest.mark.parametrize(
    ("code", "oom", "killed_for", "reason", "warnings"),
    [
        (0, False, None, None, 0),
        (0, True, None, None, 1),
        (1, False, None, Reason.EXIT_NONZERO, 0),
        (137, False, None, Reason.EXIT_NONZERO, 0),
        (137, True, None, Reason.OUT_OF_MEMORY, 0),
        (1, True, None, Reason.OUT_OF_MEMORY, 0),
        (137, False, Reason.TIMED_OUT, Reason.TIMED_OUT, 0),
        (0, False, Reason.TIMED_OUT, Reason.TIMED_OUT, 0),
        (137, True, Reason.LOG_LIMIT_EXCEEDED, Reason.LOG_LIMIT_EXCEEDED, 0),
    ],
)
def test_ends_are_told_apart(
    code: int,
    oom: bool,
    killed_for: Reason | None,
    reason: Reason | None,
    warnings: int,
) -> None:
    state = ContainerState(False, code, oom, "", START, START)

    ended = exit_of(state, killed_for, JobSpec(), runner_settings(), is_log_complete=True, is_output_full=False)

    assert (code, reason, warnings) == (ended.exit_code, ended.reason, len(ended.warnings))


def test_a_lost_end_of_the_log_is_a_warning() -> None:
    state = ContainerState(False, 0, False, "", START, START)

    assert exit_of(state, None, JobSpec(), runner_settings(), is_log_complete=False, is_output_full=False).warnings


def test_a_container_that_still_runs_has_no_end() -> None:
    state = ContainerState(True, 0, False, "", START, START)

    with pytest.raises(EngineUnavailable):
        exit_of(state, None, JobSpec(), runner_settings(), is_log_complete=True, is_output_full=False)
