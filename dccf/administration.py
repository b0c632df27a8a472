"""The values of those who run DCCF: limits of owners, queues, retention rules, schedules, sweeps."""

from __future__ import annotations

import enum
import re
from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field, StringConstraints

from dccf.fields import Frozen, Name
from dccf.models import JobSpec, JobState, Reason


class Kept(enum.StrEnum):
    """What retention removes of jobs that have ended."""

    #: The whole job, with everything below.
    JOBS = "jobs"
    LOGS = "logs"
    ARTIFACTS = "artifacts"
    #: The lines of its history.
    EVENTS = "events"


_RULE = re.compile(
    r"(?P<what>[a-z]+)(\[(?P<key>[^]=]+)=(?P<value>[^]]*)\])?=((?P<number>\d+(\.\d+)?)(?P<unit>[mhd])|never)"
)
_RULE_UNITS = {"m": 60.0, "h": 3600.0, "d": 86400.0}


class RetentionRule(Frozen):
    """How long something of ended jobs is kept; ``None`` is for ever."""

    what: Kept
    label: tuple[str, str] | None = None
    age_seconds: float | None

    @classmethod
    def parse(cls, text: str) -> RetentionRule:
        """Read a rule such as ``logs=7d`` or ``jobs[ci=nightly]=12h``.

        Raises:
            ValueError: the text is none.
        """
        match = _RULE.fullmatch(text.strip())
        if match is None or match["what"] not in set(Kept):
            raise ValueError(
                f"{text.strip()!r} is not a retention rule; write jobs, logs, artifacts or events, perhaps a label, "
                "and an age in m, h or d or the word never: logs=7d, jobs[ci=nightly]=12h, jobs[keep=yes]=never"
            )
        age = float(match["number"]) * _RULE_UNITS[match["unit"]] if match["number"] else None
        label = (match["key"], match["value"]) if match["key"] else None
        return cls(what=Kept(match["what"]), label=label, age_seconds=age)

    def __str__(self) -> str:
        label = f" with label {self.label[0]}={self.label[1]}" if self.label else ""
        age = "never" if self.age_seconds is None else f"after {self.age_seconds / 86400:g} d"
        return f"{self.what}{label}: {age}"


#: As much as a column for limits holds.
MOST_JOBS = (1 << 31) - 1


class OwnerLimits(Frozen):
    """How much one owner may have at once; ``None`` is no limit."""

    running: int | None = Field(None, ge=0, le=MOST_JOBS, description="Jobs that workers hold at once.")
    queued: int | None = Field(None, ge=0, le=MOST_JOBS, description="Jobs that wait at once.")


class OwnerUsage(Frozen):
    """What an owner has at this moment, and may have."""

    owner: str
    limits: OwnerLimits = Field(description="The limits that count: the owner's own, else the defaults.")
    own: OwnerLimits = Field(description="What an administrator set for this owner; null is the default.")
    running: int
    queued: int


class QueueInfo(Frozen):
    """A queue as it is now."""

    name: str
    queued: int
    running: int
    slots: int = Field(description="Slots of live workers that listen on it.")
    paused_by: str | None = Field(None, description="Who paused it; null when it is not paused.")


class Missed(enum.StrEnum):
    """What becomes of a schedule's times at which no controller was alive."""

    #: Nothing: the next job is made at the next time.
    SKIP = "skip"
    #: One job for all of them, at once.
    ONE = "one"


CronText = Annotated[str, StringConstraints(max_length=200)]
ZoneName = Annotated[str, StringConstraints(max_length=100)]


class NewSchedule(Frozen):
    """A schedule about to be made: its name, and when it makes jobs."""

    name: Name
    cron: CronText = Field(description="Minute hour day month weekday, like `30 3 * * 1-5`.")
    time_zone: ZoneName = Field("UTC", description="Zone of the expression, like Europe/Berlin.")
    missed: Missed = Field(Missed.SKIP, description="What becomes of times at which no controller was alive.")


class NewScheduleOfJob(NewSchedule):
    """A schedule about to be made from a job."""

    job_id: str = Field(description="The job to make again: its files and options.")


class ScheduleChange(Frozen):
    """What to change of a schedule; what is left out stays."""

    cron: CronText | None = Field(None, description="Minute hour day month weekday, like `30 3 * * 1-5`.")
    time_zone: ZoneName | None = Field(None, description="Zone of the expression, like Europe/Berlin.")
    missed: Missed | None = Field(None, description="What becomes of times at which no controller was alive.")


class Schedule(Frozen):
    """A job made again and again by the clock."""

    owner: str
    name: str
    cron: str
    time_zone: str
    missed: Missed
    spec: JobSpec
    bundle_id: UUID
    is_paused: bool
    next_at: datetime
    last_at: datetime | None = Field(None, description="When it last made a job.")
    last_job_id: UUID | None = None
    message: str = Field("", description="What was wrong the last time its time came.")
    created_at: datetime


class ScheduleRun(Frozen):
    """One time of a schedule that has come, and what became of it."""

    due_at: datetime = Field(description="When it was due, or asked for.")
    job_id: UUID | None = Field(None, description="The job that was made; null when none was.")
    state: JobState | None = Field(None, description="How that job stands; null when there is none, or no more.")
    reason: Reason | None = None
    exit_code: int | None = None
    message: str = Field(description="How the job stands in words, or why there is none.")


class ScheduleDetails(Frozen):
    """A schedule with its next times and its last runs."""

    schedule: Schedule
    next_times: tuple[datetime, ...] = Field(description="The next times, soonest first; none while it is paused.")
    runs: tuple[ScheduleRun, ...] = Field(description="The last runs, newest first.")


class SweepStats(Frozen):
    """What one sweep of a controller did and took since it started."""

    runs: int = 0
    done: int = Field(0, description="Things done: jobs ended, hints sent, rows removed.")
    failures: int = 0
    last_ms: float = 0.0
    worst_ms: float = 0.0
