"""Query parameters: frozen models that are checked, and documented, in one place."""

from __future__ import annotations

import re
from typing import Annotated, Any, TypeVar

from flask import request
from pydantic import BeforeValidator, Field, ValidationError, WithJsonSchema

from dccf import errors
from dccf.fields import Frozen, find_problems, in_words
from dccf.models import JobState, Stream

MAX_WAIT_SECONDS = 60
_SECONDS = re.compile(r"(\d+(?:\.\d+)?)s?")
_TRUE, _FALSE = frozenset({"1", "true", "yes"}), frozenset({"0", "false", "no", ""})

Query = TypeVar("Query", bound=Frozen)


def _parse_seconds(value: Any) -> Any:
    match = _SECONDS.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("write a number of seconds, like 30s")
    return min(float(match[1]), MAX_WAIT_SECONDS)


def _parse_flag(value: Any) -> Any:
    if value in _TRUE or value in _FALSE:
        return value in _TRUE
    raise ValueError("write 1 or 0")


def _parse_labels(values: Any) -> Any:
    labels = dict(text.partition("=")[::2] for text in values)
    if not all("=" in text for text in values):
        raise ValueError("write labels like key=value")
    return labels


# As they stand in the address, which is what OpenAPI describes.
Labels = Annotated[
    dict[str, str], BeforeValidator(_parse_labels), WithJsonSchema({"type": "array", "items": {"type": "string"}})
]
Seconds = Annotated[
    float, BeforeValidator(_parse_seconds), WithJsonSchema({"type": "string", "pattern": f"^{_SECONDS.pattern}$"})
]
Flag = Annotated[bool, BeforeValidator(_parse_flag), WithJsonSchema({"type": "string", "enum": ["0", "1"]})]


class ListQuery(Frozen):
    """What jobs to list."""

    state: tuple[JobState, ...] = Field((), description="Only jobs in these states; may be repeated.")
    label: Labels = Field(
        default_factory=dict, description="Only jobs with this label, as `key=value`; may be repeated."
    )
    limit: int = Field(50, ge=1, le=500, description="Most jobs in one answer.")
    cursor: str | None = Field(None, max_length=200, description="`next_cursor` of the answer before.")


class GetQuery(Frozen):
    """How to get one job."""

    wait: Seconds = Field(
        0, description=f"Answer when the job has ended, at the latest after this long (`30s`; {MAX_WAIT_SECONDS} s)."
    )


class LogQuery(Frozen):
    """What of a job's log to get."""

    stream: tuple[Stream, ...] = Field((), description="Only these streams; may be repeated.")
    attempt: int | None = Field(None, ge=1, description="Number of the attempt; the last one when left out.")
    follow: Flag = Field(default=False, description="`1`: stay until the job ends, as Server-Sent Events.")


class OwnerQuery(Frozen):
    """Whose thing is meant."""

    owner: str | None = Field(None, min_length=1, description="Its owner, where an administrator means another's.")


class AliasQuery(Frozen):
    """The parameter of the original's endpoints."""

    jobId: str = Field(description="The id that the submit answered.")  # noqa: N815 - the original's spelling


_REPEATED = frozenset({"state", "label", "stream"})


def parse(model: type[Query]) -> Query:
    """Read the query parameters of this request.

    Raises:
        InvalidRequest: one is unknown or not allowed.
    """
    values = {name: given if name in _REPEATED else given[-1] for name, given in request.args.lists()}
    try:
        return model.model_validate(values)
    except ValidationError as error:
        found = find_problems(error, model)
        raise errors.InvalidRequest(f"the query parameters are not valid: {in_words(found)}", found) from error
