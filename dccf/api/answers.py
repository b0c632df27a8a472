"""Values as JSON answers."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

from flask import Response, json
from pydantic import BaseModel

JSON = "application/json"


def answer(value: BaseModel, status: HTTPStatus = HTTPStatus.OK) -> Response:
    """Answer with one value."""
    return Response(value.model_dump_json(), status, content_type=JSON)


def answer_list(values: Sequence[BaseModel]) -> Response:
    """Answer with a complete list of values."""
    items = [value.model_dump(mode="json") for value in values]
    return Response(json.dumps({"items": items}), content_type=JSON)
