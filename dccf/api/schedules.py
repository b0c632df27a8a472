"""Schedules: jobs made again and again by the clock."""

from __future__ import annotations

from http import HTTPStatus

from apiflask import APIBlueprint
from flask import Response, request

from dccf.administration import NewSchedule
from dccf.api import bodies
from dccf.api.answers import answer, answer_list
from dccf.api.context import find_job, identity, services, visible_owner
from dccf.lifecycle import scheduling
from dccf.store import schedules

bp = APIBlueprint("schedules", __name__, url_prefix="/v1/schedules", tag="Schedules")


def _owner() -> str:
    """Give whose schedule is meant: the asker's, or for an administrator the one that is named."""
    named = request.args.get("owner")
    return named if named and visible_owner() is None else identity().owner


@bp.get("")
def list_schedules() -> Response:
    """List schedules.

    Everybody sees their own, administrators see all.
    """
    with services().database.begin() as tx:
        return answer_list(schedules.find(tx, visible_owner()))


@bp.post("")
def create() -> Response:
    """Make a schedule from a job: it makes that job again, with its files and options, whenever its time comes."""
    new = bodies.parse(NewSchedule)
    return answer(scheduling.create(services().database, find_job(new.job_id), new), HTTPStatus.CREATED)


@bp.delete("/<name>")
def remove(name: str) -> Response:
    """Remove a schedule; the jobs that it made stay. An administrator names another owner with `?owner=`."""
    scheduling.remove(services().database, _owner(), name)
    return list_schedules()


@bp.post("/<string:name>:pause")
def pause(name: str) -> Response:
    """Let a schedule make no jobs. Again is no harm."""
    return answer(scheduling.pause(services().database, _owner(), name))


@bp.post("/<string:name>:resume")
def resume(name: str) -> Response:
    """Let a schedule make jobs again, from its next time on."""
    return answer(scheduling.resume(services().database, _owner(), name))
