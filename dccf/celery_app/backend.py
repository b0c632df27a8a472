"""The result backend: a job's result is a view of its row; everything else is stored as Celery does.

Chords are counted in PostgreSQL by the parts themselves, so no polling task ever takes a job's slot.
"""

from __future__ import annotations

from typing import Any, NoReturn
from uuid import UUID

from celery import states
from celery.backends.database import DatabaseBackend
from celery.canvas import maybe_signature
from celery.exceptions import ChordError, TaskRevokedError
from celery.result import GroupResult, allow_join_result

from dccf.celery_app import results
from dccf.errors import InvalidRequest, NotFound
from dccf.lifecycle.ids import parse_job_id
from dccf.models import Job, JobState
from dccf.store import chords, jobs, retention
from dccf.store.chords import Part

_CELERY_STATES = {
    JobState.QUEUED: states.PENDING,
    JobState.BUILDING: states.STARTED,
    JobState.RUNNING: states.STARTED,
    JobState.COLLECTING: states.STARTED,
    JobState.SUCCEEDED: states.SUCCESS,
    JobState.FAILED: states.FAILURE,
    JobState.CANCELLED: states.REVOKED,
}


class JobBackend(DatabaseBackend):
    """Celery's database backend, for which ids of jobs are read from the job table and never written."""

    def find_job(self, task_id: str) -> Job | None:
        """Get the job that a task id stands for, if it is one."""
        job_id = _job_id(task_id)
        if job_id is None:
            return None
        with self.app.database.begin() as tx:
            return jobs.get(tx, job_id)

    def _get_task_meta_for(self, task_id: str) -> dict[str, Any]:
        job = self.find_job(task_id)
        if job is None:
            meta: dict[str, Any] = super()._get_task_meta_for(task_id)
            return self._removed(task_id) if meta["status"] == states.PENDING else meta
        return {
            "task_id": task_id,
            "status": _CELERY_STATES[job.state],
            "result": self._result_of(job),
            "traceback": None,
            "children": [],
            "date_done": job.finished_at and job.finished_at.isoformat(),
        }

    def _removed(self, task_id: str) -> dict[str, Any]:
        """Say of a job that was removed that it was, so that nobody waits for ever; else that it is pending."""
        meta: dict[str, Any] = {"task_id": task_id, "status": states.PENDING, "result": None, "children": []}
        job_id = _job_id(task_id)
        if job_id is None:
            return meta
        with self.app.database.begin() as tx:
            is_removed = retention.was_removed(tx, job_id)
        if not is_removed:
            return meta
        gone = NotFound(f"job {task_id} was removed after its end, and its result with it")
        return {**meta, "status": states.FAILURE, "result": gone, "traceback": None}

    def _result_of(self, job: Job) -> Any:
        if job.state is JobState.SUCCEEDED:
            return results.of_succeeded(self.app.database, job)
        if job.state is JobState.FAILED:
            return results.of_failed(self.app.database, job)
        if job.state is JobState.CANCELLED:
            return TaskRevokedError(job.message)
        return {"state": job.state.value, "worker": job.worker, "message": job.message}

    def store_result(self, task_id: str, result: Any, state: str, *args: Any, **kwargs: Any) -> Any:
        """Store the result of anything but a job."""
        if self.find_job(task_id) is not None:
            return result
        return super().store_result(task_id, result, state, *args, **kwargs)

    def mark_as_failure(self, task_id: str, exc: BaseException, *args: Any, **kwargs: Any) -> Any:
        """Record a failure and start what follows it, unless it is a job that has not failed.

        Celery reports failures of its own for a job (a lost pool process, a continuation that could
        not be sent); only the job's row says whether the job has failed.
        """
        job = self.find_job(task_id)
        if job is None or job.state is JobState.FAILED:
            return super().mark_as_failure(task_id, exc, *args, **kwargs)
        return None

    def set_chord_size(self, group_id: str, chord_size: int) -> None:
        """Note how many parts a chord waits for; Celery calls this before it sends the last of them."""
        with self.app.database.begin() as tx:
            chords.set_size(tx, group_id, chord_size)

    def apply_chord(self, header_result_args: Any, body: Any, **kwargs: Any) -> None:
        """Prepare a chord; its parts count themselves, so nothing is sent.

        A header with groups in it is saved, since its results must come back in their nesting.
        """
        self.ensure_chords_allowed()
        header = self.app.GroupResult(*header_result_args)
        if any(isinstance(part, GroupResult) for part in header.results):
            header.save(backend=self)

    def on_chord_part_return(self, request: Any, state: str, result: Any, **kwargs: Any) -> None:
        """Count a part that has returned; whoever brings the last one sends the body.

        The chord's row is locked meanwhile: a part that comes twice, or two that come at once, send
        the body once. When the sender dies on the way, its job's continuation is still pending and
        comes here again.
        """
        if not request.group or not request.id:
            return
        part = Part(request.id, state, self.encode(self.encode_result(result, state)))
        with self.app.database.begin() as tx:
            chords.add_part(tx, request.group, request.group_index, part)
            if chords.is_due(tx, request.group):
                self._send_body(request, chords.get_parts(tx, request.group))
                chords.note_delivered(tx, request.group)

    def _send_body(self, request: Any, parts: tuple[Part, ...]) -> None:
        body = maybe_signature(request.chord, app=self.app)
        failed = next((part for part in parts if part.state in states.PROPAGATE_STATES), None)
        if failed is not None:
            cause = self.exception_to_python(self.decode(failed.result))
            try:
                _raise_chord_error(failed.task_id, cause)
            except ChordError as error:
                self.chord_error_from_stack(body, error)
            return
        body.delay(self._nested_results(request.group) or [self.decode(part.result) for part in parts])

    def _nested_results(self, group_id: str) -> list[Any] | None:
        header = GroupResult.restore(group_id, backend=self, app=self.app)
        if header is None:
            return None
        with allow_join_result():
            results_in_order: list[Any] = header.join(propagate=True)
            return results_in_order


def _job_id(task_id: str) -> UUID | None:
    try:
        return parse_job_id(task_id)
    except InvalidRequest:
        return None


def _raise_chord_error(task_id: str, cause: BaseException) -> NoReturn:
    """Raise what fails a chord: Celery wants the error on its way, with its traceback, not just made."""
    raise ChordError(f"Dependency {task_id} raised {cause!r}") from cause
