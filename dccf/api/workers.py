"""Workers: who is there, and why one takes no jobs."""

from __future__ import annotations

from apiflask import APIBlueprint
from flask import Response

from dccf.api.answers import answer_list
from dccf.api.context import services
from dccf.store import fleet

bp = APIBlueprint("workers", __name__, url_prefix="/v1/workers", tag="Workers")


@bp.get("")
def list_workers() -> Response:
    """List the workers, alive or silent."""
    with services().database.begin() as tx:
        return answer_list(fleet.get_workers(tx))
