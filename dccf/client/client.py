"""The client: everything that can be asked of one API."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeAlias
from urllib.parse import quote

from pydantic import BaseModel

from dccf.administration import OwnerLimits, OwnerUsage, QueueInfo, Schedule, ScheduleDetails
from dccf.client import where
from dccf.client.answers import read
from dccf.client.http import Http
from dccf.client.job import JobHandle
from dccf.client.multipart import Body, Part
from dccf.client.pack import Files, pack
from dccf.models import Job, JobState

#: Hears of the bytes sent, and of all.
Progress: TypeAlias = Callable[[int, int], None]


@dataclass(frozen=True)
class Listing:
    """One page of jobs, newest first."""

    jobs: tuple[Job, ...]
    next_cursor: str | None


class Client:
    """Talks to one API; ``url`` and ``token`` are found by themselves where they are left out."""

    def __init__(self, url: str | None = None, token: str | None = None) -> None:
        self.where = where.find(url, token)
        self._http = Http(self.where)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def submit(
        self,
        source: str | os.PathLike[str],
        files: Files = (),
        *,
        idempotency_key: str | None = None,
        on_progress: Progress | None = None,
        **spec: Any,
    ) -> JobHandle:
        """Submit a folder with a Dockerfile, a Dockerfile, or a Dockerfile's text.

        ``spec`` are the fields of :class:`dccf.models.JobSpec`. Sending again after a fault makes no
        second job: every submit has a key. ``on_progress`` hears of the bytes sent, and of all.

        Raises:
            InvalidRequest: an option or a file is not allowed; says which.
            ApiUnavailable: the service cannot be reached.
        """
        texts = {"spec": json.dumps(_said(spec))}
        headers = {"Idempotency-Key": idempotency_key or secrets.token_urlsafe(16)}
        answer = self._upload("/v1/jobs", pack(source, files), texts, on_progress, headers)
        return JobHandle(self._http, read(Job, answer))

    def _upload(
        self,
        path: str,
        parts: Sequence[Part],
        texts: dict[str, str],
        on_progress: Progress | None,
        headers: Mapping[str, str],
    ) -> Any:
        body = Body(parts, texts, lambda sent: _report(on_progress, sent, len(body)))
        return self._http.send("POST", path, data=body, headers={**headers, "Content-Type": body.content_type})

    def job(self, job_id: str) -> JobHandle:
        """Get a job by its id, or by an unambiguous beginning of it.

        Raises:
            NotFound: there is none.
        """
        return JobHandle(self._http, read(Job, self._http.get_json(f"/v1/jobs/{quote(job_id, safe='')}")))

    def list_jobs(
        self,
        states: Sequence[JobState] = (),
        labels: Mapping[str, str] | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Listing:
        """List jobs, newest first."""
        params = {
            "state": [str(state) for state in states],
            "label": [f"{key}={value}" for key, value in (labels or {}).items()],
            "limit": limit,
            "cursor": cursor,
        }
        page = self._http.get_json("/v1/jobs", params)
        return Listing(tuple(read(Job, item) for item in page["items"]), page["next_cursor"])

    def workers(self) -> list[dict[str, Any]]:
        """List the workers as they describe themselves."""
        items: list[dict[str, Any]] = self._http.get_json("/v1/workers")["items"]
        return items

    def controllers(self) -> list[dict[str, Any]]:
        """List the controllers as they describe themselves, with what their sweeps did and took."""
        items: list[dict[str, Any]] = self._http.get_json("/v1/controllers")["items"]
        return items

    def limits(self) -> tuple[OwnerUsage, ...]:
        """List what owners have and may have: all for an administrator, else the asker."""
        return tuple(read(OwnerUsage, item) for item in self._http.get_json("/v1/limits")["items"])

    def set_limits(self, owner: str, own: OwnerLimits) -> OwnerUsage:
        """Set an owner's limits; what is ``None`` is as the settings say.

        Raises:
            NotAllowed: the token is no administrator's.
        """
        body = own.model_dump(mode="json")
        return read(OwnerUsage, self._http.send("PUT", f"/v1/limits/{quote(owner, safe='')}", json=body))

    def queues(self) -> tuple[QueueInfo, ...]:
        """List the queues that have jobs, workers, or a pause."""
        return tuple(read(QueueInfo, item) for item in self._http.get_json("/v1/queues")["items"])

    def pause_queue(self, name: str) -> tuple[QueueInfo, ...]:
        """Let no job of a queue start; those that run go on. Gives all queues.

        Raises:
            NotAllowed: the token is no administrator's.
        """
        answer = self._http.send("POST", f"/v1/queues/{quote(name, safe='')}:pause")
        return tuple(read(QueueInfo, item) for item in answer["items"])

    def resume_queue(self, name: str) -> None:
        """Let the jobs of a queue start again.

        Raises:
            NotAllowed: the token is no administrator's.
        """
        self._http.send("POST", f"/v1/queues/{quote(name, safe='')}:resume")

    def schedules(self) -> tuple[Schedule, ...]:
        """List schedules: all for an administrator, else the asker's."""
        return tuple(read(Schedule, item) for item in self._http.get_json("/v1/schedules")["items"])

    def schedule(self, name: str, *, owner: str | None = None) -> ScheduleDetails:
        """Get a schedule with its next times and its last runs; an administrator may name its owner.

        Raises:
            NotFound: there is none.
        """
        return read(ScheduleDetails, self._http.get_json(_schedule(name), {"owner": owner}))

    def add_schedule(
        self,
        name: str,
        cron: str,
        source: str | os.PathLike[str],
        files: Files = (),
        *,
        time_zone: str = "UTC",
        missed: str = "skip",
        on_progress: Progress | None = None,
        **spec: Any,
    ) -> Schedule:
        """Make a schedule of what :meth:`submit` takes: it makes that job whenever its time comes.

        Raises:
            InvalidRequest: the expression or the zone is none, or an option or a file is not allowed.
            Conflict: there is a schedule of that name.
        """
        times = {"name": name, "cron": cron, "time_zone": time_zone, "missed": missed}
        texts = {"schedule": json.dumps(times), "spec": json.dumps(_said(spec))}
        headers = {"Idempotency-Key": secrets.token_urlsafe(16)}
        answer = self._upload("/v1/schedules", pack(source, files), texts, on_progress, headers)
        return read(Schedule, answer)

    def add_schedule_of_job(
        self, name: str, cron: str, job_id: str, *, time_zone: str = "UTC", missed: str = "skip"
    ) -> Schedule:
        """Make a schedule that makes a job again, with its files and options, whenever its time comes.

        Raises:
            InvalidRequest: the expression or the zone is none.
            NotFound: there is no such job.
            Conflict: there is a schedule of that name.
        """
        body = {"name": name, "job_id": job_id, "cron": cron, "time_zone": time_zone, "missed": missed}
        headers = {"Idempotency-Key": secrets.token_urlsafe(16)}
        return read(Schedule, self._http.send("POST", "/v1/schedules", json=body, headers=headers))

    def change_schedule(
        self,
        name: str,
        *,
        cron: str | None = None,
        time_zone: str | None = None,
        missed: str | None = None,
        owner: str | None = None,
    ) -> Schedule:
        """Change when a schedule makes jobs; what is left out stays, new times count from now on.

        Raises:
            InvalidRequest: the expression or the zone is none, or nothing is to be changed.
            NotFound: there is none.
        """
        body = _said({"cron": cron, "time_zone": time_zone, "missed": missed})
        answer = self._http.send("PATCH", _schedule(name), json=body, params={"owner": owner})
        return read(Schedule, answer)

    def run_schedule(self, name: str, *, owner: str | None = None) -> JobHandle:
        """Have a schedule make a job now, paused or not; its times stay as they are.

        Raises:
            NotFound: there is none.
            LimitReached: its owner has as many jobs waiting as they may.
        """
        headers = {"Idempotency-Key": secrets.token_urlsafe(16)}
        answer = self._http.send("POST", f"{_schedule(name)}:run", headers=headers, params={"owner": owner})
        return JobHandle(self._http, read(Job, answer))

    def pause_schedule(self, name: str, *, owner: str | None = None) -> Schedule:
        """Let a schedule make no jobs.

        Raises:
            NotFound: there is none.
        """
        return read(Schedule, self._http.send("POST", f"{_schedule(name)}:pause", params={"owner": owner}))

    def resume_schedule(self, name: str, *, owner: str | None = None) -> Schedule:
        """Let a schedule make jobs again, from its next time on.

        Raises:
            NotFound: there is none.
        """
        return read(Schedule, self._http.send("POST", f"{_schedule(name)}:resume", params={"owner": owner}))

    def remove_schedule(self, name: str, *, owner: str | None = None) -> None:
        """Remove a schedule; the jobs that it made stay.

        Raises:
            NotFound: there is none.
        """
        self._http.send("DELETE", _schedule(name), params={"owner": owner})

    def readiness(self) -> dict[str, Any]:
        """Ask whether everything is there that the service needs."""
        return self._http.get_readiness()


def _schedule(name: str) -> str:
    return f"/v1/schedules/{quote(name, safe='')}"


def _said(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what was not asked for: an API that is older than this client may not know its name."""
    return {name: _plain(value) for name, value in spec.items() if value not in (None, {}, [], ())}


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value


def _report(on_progress: Progress | None, sent: int, total: int) -> None:
    if on_progress is not None:
        on_progress(sent, total)
