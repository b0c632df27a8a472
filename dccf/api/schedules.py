"""Schedules: jobs made again and again by the clock."""

from __future__ import annotations

from http import HTTPStatus

from apiflask import APIBlueprint
from flask import Response, request, url_for

from dccf import errors
from dccf.administration import NewSchedule, NewScheduleOfJob, ScheduleChange
from dccf.api import bodies, queries
from dccf.api.answers import answer, answer_list
from dccf.api.context import find_job, identity, require_admin, services, visible_owner
from dccf.api.jobs import answer_submitted
from dccf.api.submitting import read_key, read_options, run_schedule
from dccf.api.uploads import Form, receive
from dccf.lifecycle import scheduling
from dccf.lifecycle.intake import parse_spec
from dccf.lifecycle.scheduling import Made
from dccf.store import schedules

bp = APIBlueprint("schedules", __name__, url_prefix="/v1/schedules", tag="Schedules")

FORM = Form("dockerfile", "files", frozenset({"spec", "schedule"}))


def _owner() -> str:
    """Give whose schedule is meant: the asker's, or for an administrator the one that is named.

    Raises:
        NotAllowed: somebody else names another owner; theirs of the same name is not meant either.
    """
    named = queries.parse(queries.OwnerQuery).owner
    if named is None:
        return identity().owner
    if named != identity().owner:
        require_admin()
    return named


@bp.get("")
def list_schedules() -> Response:
    """List schedules.

    Everybody sees their own, administrators see all.
    """
    with services().database.begin() as tx:
        return answer_list(schedules.find(tx, visible_owner()))


@bp.post("")
def create() -> Response:
    """Make a schedule, of files and options or of a job.

    As `multipart/form-data` with what a submit takes, and in the field `schedule` its name and its times
    as JSON. As JSON with a job's id: it makes that job again, with its files and options.
    """
    key = read_key(request.headers.get("Idempotency-Key"))
    made = _create_of_files(key) if request.mimetype == "multipart/form-data" else _create_of_job(key)
    response = answer(made.schedule, HTTPStatus.CREATED)
    owner = made.schedule.owner
    other = None if owner == identity().owner else owner
    response.headers["Location"] = url_for("schedules.get", name=made.schedule.name, owner=other)
    if not made.is_new:
        response.headers["Idempotency-Replayed"] = "true"
    return response


def _create_of_files(key: str | None) -> Made:
    received = receive(services(), FORM)
    text = received.texts.get("schedule")
    if text is None:
        raise errors.InvalidRequest(
            'the field schedule is missing; it says when, as JSON: {"name": "nightly", "cron": "30 3 * * *"}'
        )
    new = bodies.parse_text(NewSchedule, text, "the field schedule")
    spec = parse_spec(read_options(received.texts.get("spec", "{}")), services().settings)
    owner = identity().owner
    return scheduling.create(
        services().database, owner, new, spec, lambda tx: received.intake.make_bundle(tx, owner), key
    )


def _create_of_job(key: str | None) -> Made:
    new = bodies.parse(NewScheduleOfJob)
    return scheduling.create_of_job(services().database, find_job(new.job_id), new, key)


@bp.get("/<name>")
def get(name: str) -> Response:
    """Get a schedule with its next times and its last runs."""
    return answer(scheduling.get_details(services().database, _owner(), name))


@bp.patch("/<name>")
def change(name: str) -> Response:
    """Change when a schedule makes jobs; new times count from now on."""
    wanted = bodies.parse(ScheduleChange)
    return answer(scheduling.change(services().database, _owner(), name, wanted))


@bp.delete("/<name>")
def remove(name: str) -> Response:
    """Remove a schedule; the jobs that it made stay."""
    scheduling.remove(services().database, _owner(), name)
    return list_schedules()


@bp.post("/<string:name>:run")
def run(name: str) -> Response:
    """Have a schedule make a job now, paused or not; its times stay as they are."""
    key = read_key(request.headers.get("Idempotency-Key"))
    return answer_submitted(run_schedule(services(), _owner(), name, identity(), key))


@bp.post("/<string:name>:pause")
def pause(name: str) -> Response:
    """Let a schedule make no jobs. Again is no harm."""
    return answer(scheduling.pause(services().database, _owner(), name))


@bp.post("/<string:name>:resume")
def resume(name: str) -> Response:
    """Let a schedule make jobs again, from its next time on."""
    return answer(scheduling.resume(services().database, _owner(), name))
