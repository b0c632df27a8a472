"""The tree of errors, and the one error that has to travel between processes."""

from __future__ import annotations

import copy
import json
import pickle
import re

import pytest
from celery.backends.base import Backend

from dccf import errors
from dccf.celery_app import DccfCelery
from dccf.config import Settings
from dccf.errors import DccfError, FieldError, JobFailed

FAILED = JobFailed("0190-id", "exit_nonzero", "The container ended with exit code 3.", 3, "last line\n")


def tree(kind: type[DccfError]) -> dict[str, str]:
    """Give every error below one, with its parent."""
    found = {}
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            found[child.__name__] = kind.__name__
            found |= tree(child)
    return found


def drawn_tree() -> dict[str, str]:
    """Read the tree that the module's docstring draws: two levels below the base."""
    drawn = {}
    parent = ""
    for line in (errors.__doc__ or "").splitlines():
        if match := re.match(r"\s+([├└│])[── ]+(?:[├└]── )?(\w+) ", line):
            is_inner = match[1] == "│"
            drawn[match[2]] = parent if is_inner else "DccfError"
            parent = parent if is_inner else match[2]
    return drawn


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes() -> None:
    assert drawn_tree() == tree(DccfError)


def test_every_error_of_the_module_is_in_the_tree() -> None:
    found = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}

    assert found == {"DccfError", *tree(DccfError)}


@pytest.mark.parametrize("error", [FAILED, JobFailed("id", "build_failed", "line 3 failed")])
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_failed_jobs_error_survives_pickle(error: JobFailed, protocol: int) -> None:
    again = pickle.loads(pickle.dumps(error, protocol))

    assert (type(again), vars(again), str(again)) == (JobFailed, vars(error), str(error))


def test_a_failed_jobs_error_can_be_copied() -> None:
    assert vars(copy.copy(FAILED)) == vars(FAILED)


def test_a_failed_jobs_error_survives_celerys_json() -> None:
    settings = Settings(database_url="postgresql://nobody@127.0.0.1:1/none", broker_url="memory://")
    app = DccfCelery("test")
    app.__dict__["settings"] = settings
    backend = Backend(app)

    travelled = json.loads(json.dumps(backend.prepare_exception(FAILED, serializer="json")))
    again = backend.exception_to_python(travelled)

    assert (type(again), vars(again), str(again)) == (JobFailed, vars(FAILED), str(FAILED))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (FAILED, "exit_nonzero (exit code 3): The container ended with exit code 3.\nlast line\n"),
        (JobFailed("id", "timed_out", "It ran too long."), "timed_out: It ran too long."),
        (JobFailed("id", "exit_nonzero", "It ended.", 0), "exit_nonzero (exit code 0): It ended."),
        (errors.AttemptFailed("rejected", "line 1: no."), "rejected: line 1: no."),
        (errors.InvalidRequest("that is not allowed"), "that is not allowed"),
    ],
)
def test_an_error_reads_as_a_sentence(error: DccfError, expected: str) -> None:
    assert str(error) == expected


def test_a_failed_jobs_error_shows_no_log_in_its_short_form() -> None:
    assert repr(FAILED) == (
        "JobFailed('0190-id', reason='exit_nonzero', exit_code=3, 'The container ended with exit code 3.')"
    )


def test_a_refused_request_names_its_fields() -> None:
    wrong = (FieldError("#/cpus", "must be more than 0"),)

    assert errors.InvalidRequest("no", wrong).errors == wrong
    assert errors.IdempotencyMismatch("no").errors == ()
