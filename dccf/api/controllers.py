"""Controllers: who is there, and what their sweeps did and took."""

from __future__ import annotations

from apiflask import APIBlueprint
from flask import Response

from dccf.api.answers import answer_list
from dccf.api.context import services
from dccf.store import fleet

bp = APIBlueprint("controllers", __name__, url_prefix="/v1/controllers", tag="Controllers")


@bp.get("")
def list_controllers() -> Response:
    """List the controllers, alive or silent, with the runs, results, failures and times of each sweep."""
    with services().database.begin() as tx:
        return answer_list(fleet.get_controllers(tx))
