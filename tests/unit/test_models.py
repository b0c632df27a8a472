"""The values' own checks: sizes, times, names, bounds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from pydantic import ValidationError

from dccf import fields
from dccf.fields import GIB, MIB
from dccf.models import JobSpec, JobState, Reason


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("1048576", MIB),
        ("7b", 7),
        ("2k", 2 << 10),
        ("2KB", 2 << 10),
        ("2KiB", 2 << 10),
        ("512m", 512 * MIB),
        ("512 MB", 512 * MIB),
        (" 512MiB ", 512 * MIB),
        ("1.5g", GIB + 512 * MIB),
        ("2GiB", 2 * GIB),
        ("0.5", 0),
    ],
)
def test_a_size_is_read_in_powers_of_1024(text: str, expected: int) -> None:
    assert fields.parse_memory(text) == expected


@pytest.mark.parametrize("text", ["", "m", "12 34", "-1m", "1t", "1,5g", "1.g", "0x10", "1e9", "nan", "1m\n2m"])
def test_a_text_that_is_no_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size; write it like 512m or 2GiB"):
        fields.parse_memory(text)


@pytest.mark.parametrize("value", [7, 7.0, None, True])
def test_what_is_no_text_is_left_to_the_field(value: Any) -> None:
    assert fields.parse_memory(value) is value


@pytest.mark.parametrize("memory", ["6m", 6 * MIB, "1024g"])
def test_memory_may_have_these_bounds(memory: Any) -> None:
    assert JobSpec(memory=memory).memory in {6 * MIB, 1024 * GIB}


def test_a_time_is_kept_in_utc() -> None:
    given = datetime(2030, 1, 31, 14, tzinfo=timezone(timedelta(hours=2)))
    kept = JobSpec(run_after=given).run_after

    assert kept == datetime(2030, 1, 31, 12, tzinfo=UTC)
    assert kept.tzinfo is UTC


def test_a_time_is_read_from_text_with_a_zone() -> None:
    spec = JobSpec.model_validate({"run_after": "2030-01-31T12:00:00Z"})

    assert spec.run_after == datetime(2030, 1, 31, 12, tzinfo=UTC)


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValidationError, match="the time has no zone"):
        JobSpec.model_validate({"run_after": "2030-01-31T12:00:00"})


@pytest.mark.parametrize("name", ["A", "_", "a1", "PATH", "a_B_3"])
def test_these_are_names_of_environment_variables(name: str) -> None:
    assert JobSpec(env={name: ""}).env == {name: ""}


@pytest.mark.parametrize("name", ["", "1a", "a-b", "a b", "a=b", "a\n", "ä", "a.b", "A\0"])
def test_these_are_none(name: str) -> None:
    with pytest.raises(ValidationError, match="is no name for an environment variable"):
        JobSpec(env={name: "x"})


def test_a_value_of_the_environment_holds_no_nul() -> None:
    with pytest.raises(ValidationError, match="the value of A contains a NUL character"):
        JobSpec(env={"A": "x\0y"})


@pytest.mark.parametrize(
    ("field", "least", "most", "too_little", "too_much"),
    [
        ("timeout_seconds", 0.001, 7 * 86400, 0, 7 * 86400 + 1),
        ("build_timeout_seconds", 0.001, 86400, 0, 86401),
        ("queue_timeout_seconds", 0.001, 30 * 86400, 0, 30 * 86400 + 1),
        ("cpus", 0.01, 1024, 0.009, 1025),
        ("memory", 6 * MIB, 1024 * GIB, 6 * MIB - 1, 1024 * GIB + 1),
        ("retries", 0, 100, -1, 101),
    ],
)
def test_numbers_have_bounds(field: str, least: float, most: float, too_little: float, too_much: float) -> None:
    for value in (least, most):
        assert getattr(JobSpec.model_validate({field: value}), field) == value
    for value in (too_little, too_much):
        with pytest.raises(ValidationError):
            JobSpec.model_validate({field: value})


@pytest.mark.parametrize("field", ["timeout_seconds", "build_timeout_seconds", "queue_timeout_seconds", "cpus"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_no_number_is_endless_or_none_at_all(field: str, value: float) -> None:
    with pytest.raises(ValidationError):
        JobSpec.model_validate({field: value})


@pytest.mark.parametrize(
    "values",
    [
        {"queue": "Default"},
        {"queue": ""},
        {"queue": "a" * 101},
        {"queue": "-a"},
        {"queue": "a\n"},
        {"labels": {"": "x"}},
        {"labels": {"a b": "x"}},
        {"labels": {"a": "x" * 256}},
        {"labels": {"a": "\0"}},
        {"labels": {f"k{number}": "" for number in range(51)}},
        {"env": {f"K{number}": "" for number in range(501)}},
        {"network": "host"},
        {"timeout": 5},
    ],
)
def test_what_is_out_of_bounds_or_unknown_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        JobSpec.model_validate(values)


def test_a_spec_survives_json() -> None:
    spec = JobSpec(env={"A": "ä"}, memory="1g", labels={"a/b": ""}, run_after=datetime(2030, 1, 1, tzinfo=UTC))

    assert JobSpec.model_validate_json(spec.model_dump_json()) == spec


def test_values_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        JobSpec().cpus = 2  # type: ignore[misc]


def test_every_state_but_queued_is_either_active_or_final() -> None:
    kinds = {state: (state.is_active, state.is_final) for state in JobState}

    assert kinds == {
        JobState.QUEUED: (False, False),
        JobState.BUILDING: (True, False),
        JobState.RUNNING: (True, False),
        JobState.COLLECTING: (True, False),
        JobState.SUCCEEDED: (False, True),
        JobState.FAILED: (False, True),
        JobState.CANCELLED: (False, True),
    }


def test_the_platform_is_to_blame_for_these_reasons_only() -> None:
    assert {reason.value for reason in Reason if reason.is_platform_fault} == {
        "worker_lost",
        "daemon_error",
        "pull_failed",
        "pull_timed_out",
        "storage_error",
    }
