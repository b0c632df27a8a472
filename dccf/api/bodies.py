"""Request bodies in JSON, checked against a model."""

from __future__ import annotations

from typing import TypeVar

from flask import request
from pydantic import ValidationError

from dccf import errors
from dccf.errors import FieldError
from dccf.fields import Frozen

Body = TypeVar("Body", bound=Frozen)


def parse(model: type[Body]) -> Body:
    """Read the body of this request.

    Raises:
        InvalidRequest: it is no JSON object, or a field is unknown or not allowed.
    """
    try:
        return model.model_validate_json(request.get_data() or b"{}")
    except ValidationError as error:
        found = tuple(
            FieldError("#/" + "/".join(str(part) for part in one["loc"]), one["msg"].removeprefix("Value error, "))
            for one in error.errors(include_url=False)
        )
        detail = "; ".join(f"{one.pointer.removeprefix('#/')}: {one.detail}" for one in found)
        raise errors.InvalidRequest(f"the body is not valid: {detail}", found) from error
