"""Limits per owner: everybody sees their own, an administrator sees and sets all."""

from __future__ import annotations

from apiflask import APIBlueprint
from flask import Response

from dccf.administration import OwnerLimits
from dccf.api import bodies
from dccf.api.answers import answer, answer_list
from dccf.api.context import require_admin, services, visible_owner
from dccf.lifecycle import owners

bp = APIBlueprint("limits", __name__, url_prefix="/v1/limits", tag="Limits")


@bp.get("")
def list_limits() -> Response:
    """List what owners have at this moment, and may have."""
    return answer_list(owners.get_usage(services().database, services().settings, visible_owner()))


@bp.put("/<owner>")
def set_limits(owner: str) -> Response:
    """Set an owner's limits (administrators only); what is null or left out is as the settings say."""
    require_admin()
    own = bodies.parse(OwnerLimits)
    return answer(owners.set_limits(services().database, services().settings, owner, own))
