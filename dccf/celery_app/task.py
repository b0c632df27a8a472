"""The Task class behind ``run_dockerfile``: calling it stores bundle and row first, then sends a hint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from celery import Task, signature
from celery.canvas import Signature
from celery.result import AsyncResult

from dccf import errors
from dccf.celery_app import dispatch, messages, options
from dccf.lifecycle.ids import new_job_id, parse_job_id
from dccf.lifecycle.intake import Intake, parse_spec
from dccf.lifecycle.submit import Submitted, submit
from dccf.models import JobSpec
from dccf.store import bundles
from dccf.store.jobs import NewJob

#: Keywords that make up a bundle; ``bundle`` names one that is stored already.
_BUNDLE_KEYWORDS = frozenset({"dockerfile", "files"})
#: What Celery passes along for canvas; it goes into the message as it is.
_MESSAGE_OPTIONS = frozenset(
    {"group_id", "group_index", "chord", "chain", "root_id", "parent_id", "shadow", "stamped_headers"}
)


class JobTask(Task):
    """A task whose call is a job: its id is the job's id, its arguments stay in PostgreSQL."""

    abstract = True
    #: Hides what a message sent by name carries.
    Request = "dccf.celery_app.request:JobRequest"

    def signature(self, args: Any = None, *starargs: Any, **starkwargs: Any) -> Signature:
        """Make a signature; its bundle is stored now, so that no file and no environment travels.

        Raises:
            InvalidRequest: an option is not allowed, or ``idempotency_key`` is among them (a signature
                may be called many times).
            StoreUnavailable: PostgreSQL is away.
        """
        # Celery's own spelling is signature(args, kwargs, **options); s() and si() come here with it.
        kwargs = dict(starargs[0]) if starargs else {}
        if "idempotency_key" in kwargs:
            raise errors.InvalidRequest("idempotency_key is for a single call, not for a signature")
        if not self.app.conf.task_always_eager and _BUNDLE_KEYWORDS & kwargs.keys():
            kwargs = {"bundle": self._store_bundle(kwargs)}
        starkwargs.setdefault("app", self.app)
        return signature(self, args, kwargs, *starargs[1:], **starkwargs)

    subtask = signature

    def s(self, *args: Any, **kwargs: Any) -> Signature:
        """Make a signature that takes its parent's result."""
        return self.signature(args, kwargs)

    def si(self, *args: Any, **kwargs: Any) -> Signature:
        """Make a signature that ignores its parent's result."""
        return self.signature(args, kwargs, immutable=True)

    def apply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        task_id: str | None = None,
        producer: Any = None,
        link: Any = None,
        link_error: Any = None,
        **given: Any,
    ) -> AsyncResult:
        """Submit a job; the result's id is the job's.

        The job is safe in PostgreSQL when this returns, also when the broker is away.

        Raises:
            InvalidRequest: an option, a name or a file is not allowed.
            Conflict: the id is taken.
            LimitReached: the owner has as many jobs waiting as they may.
            StoreUnavailable: PostgreSQL is away; nothing was submitted.
        """
        if self.app.conf.task_always_eager:
            call = options.read_all(kwargs or {})
            return super().apply_async(
                args, call, task_id=task_id, producer=producer, link=link, link_error=link_error, **given
            )
        job_id = parse_job_id(task_id) if task_id else new_job_id()
        canvas = self._canvas_options(link, link_error, given)
        submitted = self.submit(job_id, args or (), _with_options(kwargs or {}, given), canvas)
        if submitted.is_new:
            dispatch.first(self.app, submitted.job.id)
        return self._result(submitted.job.id, add_to_parent=given.get("add_to_parent", True))

    def submit(
        self, job_id: UUID, args: Sequence[Any], kwargs: Mapping[str, Any], canvas: dict[str, Any]
    ) -> Submitted:
        """Make the job's row, and its bundle where it is not stored yet, in one transaction.

        Raises:
            InvalidRequest: an option, a name or a file is not allowed.
            Conflict: the id is taken.
            StoreUnavailable: PostgreSQL is away; nothing was submitted.
        """
        call = dict(kwargs)
        owner = str(call.pop("owner", options.DEFAULT_OWNER))
        key = call.pop("idempotency_key", None)
        stored = call.pop("bundle", None)
        dockerfile, files = call.pop("dockerfile", None), call.pop("files", None)
        inputs = options.parent_ids(args)
        if stored is not None:
            owner, spec, bundle_id = self._stored_bundle(str(stored), call)
            return self._insert(job_id, owner, spec, inputs, canvas, key, None, bundle_id)
        spec = parse_spec(call, self.app.settings)
        intake = Intake(self.app.database, self.app.settings)
        options.fill(intake, dockerfile, files)
        return self._insert(job_id, owner, spec, inputs, canvas, key, intake, None)

    def continuation_of_request(self) -> dict[str, Any]:
        """Give what follows the request that is being executed, as options for a message of it."""
        request = self.request
        return {
            "callbacks": request.callbacks or [],
            "errbacks": request.errbacks or [],
            "chain": request.chain,
            "chord": request.chord,
            "group_id": request.group,
            "group_index": request.group_index,
            "root_id": request.root_id,
            "parent_id": request.parent_id,
        }

    def _insert(
        self,
        job_id: UUID,
        owner: str,
        spec: JobSpec,
        inputs: tuple[UUID, ...],
        canvas: dict[str, Any],
        key: str | None,
        intake: Intake | None,
        bundle_id: UUID | None,
    ) -> Submitted:
        message = messages.make(self.app, job_id, owner, spec, canvas)
        with self.app.database.begin() as tx:
            if bundle_id is None:
                if intake is None:
                    raise ValueError("a job needs a bundle or the files for one")
                bundle_id = intake.make_bundle(tx, owner)
            new = NewJob(
                id=job_id,
                owner=owner,
                spec=spec,
                bundle_id=bundle_id,
                inputs=inputs,
                celery_message=message.text,
                has_continuation=message.has_continuation,
                max_attempts=self.app.settings.max_attempts,
                idempotency_key=key,
                request_hash=intake.request_hash(spec) if intake else None,
                is_admitted=self._goes_on_from_a_job(job_id),
            )
            return submit(tx, self.app.settings, new)

    def _goes_on_from_a_job(self, job_id: UUID) -> bool:
        """Tell whether a running task submits this job. A message by name that its own worker submits is no such."""
        running = self.app.current_worker_task
        return bool(running) and running.request.id != str(job_id)

    def _stored_bundle(self, bundle: str, given: Mapping[str, Any]) -> tuple[str, JobSpec, UUID]:
        bundle_id = parse_job_id(bundle)
        with self.app.database.begin() as tx:
            found = bundles.get_spec(tx, bundle_id)
        if found is None:
            raise errors.NotFound(f"there is no bundle {bundle}; it may have been removed, make the signature again")
        owner, kept = found
        return owner, parse_spec({**kept, **given}, self.app.settings), bundle_id

    def _store_bundle(self, kwargs: Mapping[str, Any]) -> str:
        call = dict(kwargs)
        owner = str(call.pop("owner", options.DEFAULT_OWNER))
        dockerfile, files = call.pop("dockerfile", None), call.pop("files", None)
        spec = parse_spec(call, self.app.settings)
        intake = Intake(self.app.database, self.app.settings)
        options.fill(intake, dockerfile, files)
        with self.app.database.begin() as tx:
            return str(intake.make_bundle(tx, owner, spec.model_dump(mode="json", exclude_unset=True)))

    def _canvas_options(self, link: Any, link_error: Any, given: Mapping[str, Any]) -> dict[str, Any]:
        """Collect what goes into the message; inside a running task the family tree goes on."""
        canvas = {name: value for name, value in given.items() if name in _MESSAGE_OPTIONS and value is not None}
        for name in canvas.get("stamped_headers", ()):
            canvas[name] = given[name]
        canvas["callbacks"] = _as_list(link)
        canvas["errbacks"] = _as_list(link_error)
        parent = self.app.current_worker_task
        if parent:
            canvas.setdefault("root_id", parent.request.root_id or parent.request.id)
            canvas.setdefault("parent_id", parent.request.id)
        return canvas

    def _result(self, job_id: UUID, *, add_to_parent: bool) -> AsyncResult:
        result = self.AsyncResult(str(job_id))
        parent = self.app.current_worker_task if add_to_parent else None
        if parent:
            parent.add_trail(result)
        return result


def _as_list(value: Any) -> list[Any]:
    if not value:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _with_options(kwargs: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Read Celery's own words for what the row keeps: queue, countdown, eta."""
    call = dict(kwargs)
    if given.get("queue"):
        call["queue"] = str(getattr(given["queue"], "name", given["queue"]))
    if given.get("countdown"):
        call["run_after"] = datetime.now(UTC) + timedelta(seconds=float(given["countdown"]))
    elif given.get("eta"):
        call["run_after"] = given["eta"]
    return call
