"""Queues: what is in them, and pausing them."""

from __future__ import annotations

from apiflask import APIBlueprint
from flask import Response

from dccf import errors
from dccf.api.answers import answer_list
from dccf.api.context import identity, require_admin, services
from dccf.fields import parse_queue_name
from dccf.lifecycle import waiting
from dccf.store import queues

bp = APIBlueprint("queues", __name__, url_prefix="/v1/queues", tag="Queues")


@bp.get("")
def list_queues() -> Response:
    """List the queues that have jobs, workers, or a pause."""
    with services().database.begin() as tx:
        return answer_list(queues.describe(tx))


@bp.post("/<string:queue>:pause")
def pause(queue: str) -> Response:
    """Let no job of a queue start (administrators only); those that run go on. Again is no harm."""
    require_admin()
    waiting.pause_queue(services().database, _name(queue), identity().owner)
    return list_queues()


@bp.post("/<string:queue>:resume")
def resume(queue: str) -> Response:
    """Let the jobs of a queue start again (administrators only)."""
    require_admin()
    waiting.resume_queue(services().database, _name(queue))
    return list_queues()


def _name(text: str) -> str:
    try:
        return parse_queue_name(text)
    except ValueError as error:
        raise errors.InvalidRequest(f"{text[:100]!r} is not a queue's name: {error}") from error
