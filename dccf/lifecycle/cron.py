"""When a cron expression fires next, in its time zone."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from croniter import CroniterError, croniter

from dccf import errors
from dccf.errors import FieldError

_FIELDS = 5


def check(cron: str, time_zone: str) -> None:
    """Check a cron expression and the name of a time zone.

    Raises:
        InvalidRequest: one of them is none; says which and how to write it.
    """
    problem = None
    if len(cron.split()) != _FIELDS or not croniter.is_valid(cron):
        problem = FieldError(
            "#/cron", f"{cron[:100]!r} is not a cron expression; write minute hour day month weekday: 30 3 * * 1-5"
        )
    try:
        ZoneInfo(time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: a name that is a folder of the zone files
        problem = FieldError("#/time_zone", f"{time_zone[:100]!r} is not a time zone; write it like Europe/Berlin")
    if problem is None:
        try:
            next_after(cron, time_zone, datetime.now(UTC))
        except errors.InvalidRequest as error:
            problem = FieldError("#/cron", str(error))
    if problem is not None:
        raise errors.InvalidRequest(problem.detail, (problem,))


def next_after(cron: str, time_zone: str, after: datetime) -> datetime:
    """Give the first time after another one at which an expression fires.

    Raises:
        InvalidRequest: it never does (30 February, say).
    """
    try:
        found: datetime = croniter(cron, after.astimezone(ZoneInfo(time_zone))).get_next(datetime)
    except CroniterError as error:
        raise errors.InvalidRequest(f"the cron expression {cron!r} never comes true: {error}") from error
    return found.astimezone(UTC)
