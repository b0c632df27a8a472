"""Reads the API's answers, which may be those of a newer version."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import ValidationError

from dccf import errors
from dccf.fields import Frozen

Value = TypeVar("Value", bound=Frozen)


def read(model: type[Value], value: Any) -> Value:
    """Make a value of an answer; fields that only a newer API knows are left out, at any depth.

    Raises:
        ApiUnavailable: a field that this version needs is not there, or is of another kind.
    """
    try:
        return model.model_validate(value, extra="ignore")
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise errors.ApiUnavailable(
            f"the API's answer ({model.__name__}: {where}) is not one that this version understands; are the client "
            "and the API of the same version? dccf version and the API's / say"
        ) from error
