"""Jobs: submit, list, look, wait, cancel."""

from __future__ import annotations

import time
from http import HTTPStatus
from urllib.parse import urlencode

from apiflask import APIBlueprint
from flask import Response, json, request, url_for

from dccf import errors
from dccf.api import cursors, queries
from dccf.api.answers import answer, answer_list
from dccf.api.context import find_job, identity, services, visible_owner
from dccf.api.submitting import read_key, read_options, rerun_job, submit_job
from dccf.api.uploads import Form, receive
from dccf.lifecycle import cancel as cancelling
from dccf.lifecycle import removal
from dccf.lifecycle.intake import parse_spec
from dccf.lifecycle.submit import Submitted
from dccf.models import Job
from dccf.store import bundles, history, jobs

bp = APIBlueprint("jobs", __name__, url_prefix="/v1/jobs", tag="Jobs")

FORM = Form("dockerfile", "files", frozenset({"spec"}))
#: A waiting request looks by itself this often, should a change not have been heard of.
_LOOK_SECONDS = 1.0


@bp.post("")
def submit() -> Response:
    """Submit a job.

    The body is `multipart/form-data`: the Dockerfile, any number of files whose names keep their
    folders, and the options as JSON. Part headers `X-File-Mode` keep permissions (octal).
    """
    key = read_key(request.headers.get("Idempotency-Key"))
    received = receive(services(), FORM)
    spec = parse_spec(read_options(received.texts.get("spec", "{}")), services().settings)
    return answer_submitted(submit_job(services(), identity(), received.intake, spec, key))


def answer_submitted(submitted: Submitted) -> Response:
    """Answer with a job that was submitted, and where it is."""
    response = answer(submitted.job, HTTPStatus.ACCEPTED)
    response.headers["Location"] = url_for("jobs.get", job_id=submitted.job.id)
    if not submitted.is_new:
        response.headers["Idempotency-Replayed"] = "true"
    return response


@bp.get("")
def list_jobs() -> Response:
    """List jobs, newest first.

    Everybody sees their own, administrators see all.
    """
    query = queries.parse(queries.ListQuery)
    after = cursors.decode(query.cursor) if query.cursor else None
    with services().database.begin() as tx:
        page = jobs.find(tx, visible_owner(), query.state, query.label, after, query.limit)
    cursor = cursors.encode(page.next_key) if page.next_key else None
    items = [job.model_dump(mode="json") for job in page.items]
    response = Response(json.dumps({"items": items, "next_cursor": cursor}), content_type="application/json")
    if cursor is not None:
        others = [(name, value) for name, value in request.args.items(multi=True) if name != "cursor"]
        url = f"{request.path}?{urlencode([*others, ('cursor', cursor)])}"
        response.headers["Link"] = f'<{url}>; rel="next"'
    return response


@bp.get("/<job_id>")
def get(job_id: str) -> Response:
    """Get a job, at once or when it has ended.

    The id may be shortened to an unambiguous beginning of at least 6 characters.
    """
    query = queries.parse(queries.GetQuery)
    job = find_job(job_id)
    if query.wait > 0 and not job.state.is_final:
        with services().wait_place():
            job = _wait(job, query.wait)
    return answer(job)


def _wait(job: Job, seconds: float) -> Job:
    deadline = time.monotonic() + seconds
    with services().changes.watch(job.id) as changed:
        while True:
            job = find_job(str(job.id))
            left = deadline - time.monotonic()
            if job.state.is_final or left <= 0:
                return job
            changed.wait(min(left, _LOOK_SECONDS))
            changed.clear()


# Without "string:" APIFlask takes the ":" behind the name for a converter's and describes a broken path.
@bp.post("/<string:job_id>:cancel")
def cancel(job_id: str) -> Response:
    """Cancel a job.

    `200`: it is cancelled. `202`: its worker was told to stop it. `409`: it had ended already.
    """
    job = find_job(job_id)
    job = cancelling.cancel(services().database, job.id, identity().owner, owner=visible_owner())
    return answer(job, HTTPStatus.OK if job.state.is_final else HTTPStatus.ACCEPTED)


@bp.post("/<string:job_id>:rerun")
def rerun(job_id: str) -> Response:
    """Make a new job from the files and options of this one, to start now."""
    earlier = find_job(job_id)
    return answer_submitted(rerun_job(services(), earlier, read_key(request.headers.get("Idempotency-Key"))))


@bp.delete("/<job_id>")
def remove(job_id: str) -> Response:
    """Remove a job that has ended, with its log and its files."""
    job = find_job(job_id)
    removal.remove(services().database, job.id, owner=visible_owner())
    return answer(job)


@bp.get("/<job_id>/attempts")
def attempts(job_id: str) -> Response:
    """List a job's attempts, first to last."""
    job = find_job(job_id)
    with services().database.begin() as tx:
        return answer_list(history.get_attempts(tx, job.id))


@bp.get("/<job_id>/history")
def events(job_id: str) -> Response:
    """List what happened to a job, oldest first."""
    job = find_job(job_id)
    with services().database.begin() as tx:
        return answer_list(history.get_events(tx, job.id))


@bp.get("/<job_id>/bundle")
def bundle(job_id: str) -> Response:
    """List the files that were uploaded with a job."""
    job = find_job(job_id)
    with services().database.begin() as tx:
        return answer_list(bundles.describe_files(tx, job.bundle_id))


def require_final(job: Job) -> None:
    """Make sure that a job has ended.

    Raises:
        Conflict: it has not.
    """
    if not job.state.is_final:
        raise errors.Conflict(f"job {job.id} is {job.state}; this is there when it has ended")
