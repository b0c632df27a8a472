"""Request bodies and fields in JSON, checked against a model."""

from __future__ import annotations

from typing import TypeVar

from flask import request
from pydantic import ValidationError

from dccf import errors
from dccf.fields import Frozen, find_problems, in_words

#: Longest body; none of ours needs a tenth of it, and it is held in memory.
MAX_BYTES = 64 << 10

Body = TypeVar("Body", bound=Frozen)


def parse(model: type[Body]) -> Body:
    """Read the body of this request.

    Raises:
        InvalidRequest: it is no JSON object, or a field is unknown or not allowed.
        RequestEntityTooLarge: it is longer than ``MAX_BYTES``.
    """
    request.max_content_length = MAX_BYTES
    return parse_text(model, request.get_data() or b"{}", "the body")


def parse_text(model: type[Body], text: bytes | str, what: str) -> Body:
    """Read a JSON object that came as ``what``.

    Raises:
        InvalidRequest: it is no JSON object, or a field is unknown or not allowed.
    """
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        found = find_problems(error, model)
        raise errors.InvalidRequest(f"{what} is not valid: {in_words(found)}", found) from error
