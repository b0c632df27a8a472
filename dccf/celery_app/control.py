"""Remote control: revoking a job cancels it in PostgreSQL, whoever asks."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from celery.app.control import Control

from dccf import errors
from dccf.lifecycle import cancel
from dccf.store import jobs


class JobControl(Control):
    """Celery's control, for which a job is revoked by cancelling it.

    ``revoke(id)`` cancels a job that has not started, ``revoke(id, terminate=True)`` any, as Celery
    means it. Nothing is broadcast for a job: workers hear of it from PostgreSQL within a second, and
    a broadcast ``terminate`` would kill the pool process that is to clean up. Ids that are no jobs
    go Celery's way.
    """

    def revoke(
        self,
        task_id: str | list[str],
        destination: Any = None,
        terminate: bool = False,
        signal: str = "SIGTERM",
        **kwargs: Any,
    ) -> Any:
        """Cancel those ids that are jobs; revoke the others."""
        asked = [task_id] if isinstance(task_id, str) else list(task_id)
        found = self._cancel_jobs(asked, running=terminate)
        others = [one for one in asked if one not in found]
        if not others:
            return None
        return super().revoke(others, destination=destination, terminate=terminate, signal=signal, **kwargs)

    def _cancel_jobs(self, asked: list[str], *, running: bool) -> set[str]:
        ids: dict[UUID, str] = {}
        for text in asked:
            try:
                ids[UUID(text)] = text
            except ValueError:  # some other task's id, which may be any text
                continue
        database = self.app.database
        with database.begin() as tx:
            found = {job.id for job in jobs.get_many(tx, ids)}
        for job_id in found:
            try:
                cancel.cancel(database, job_id, "revoke", running=running)
            except errors.Conflict:  # it has ended: revoking is no error in Celery either
                continue
        return {ids[job_id] for job_id in found}
