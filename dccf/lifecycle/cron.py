"""When a cron expression fires next, in its time zone."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from croniter import CroniterError, croniter

from dccf import errors
from dccf.errors import FieldError

_FIELDS = 5
_HOUR = 1


def check(cron: str, time_zone: str) -> None:
    """Check a cron expression and the name of a time zone.

    Raises:
        InvalidRequest: one of them is none, or the expression never comes true; says which and how to write it.
    """
    problems: list[FieldError] = []
    if len(cron.split()) != _FIELDS or not croniter.is_valid(cron):
        problems.append(
            FieldError(
                "#/cron",
                f"{cron[:100]!r} is not a cron expression; write minute hour day month weekday: 30 3 * * 1-5",
            )
        )
    try:
        _zone(time_zone)
    except errors.InvalidRequest as error:
        problems.append(FieldError("#/time_zone", str(error)))
    if not problems:
        try:
            next_after(cron, time_zone, datetime.now(UTC))
        except errors.InvalidRequest as error:
            problems.append(FieldError("#/cron", str(error)))
    if problems:
        raise errors.InvalidRequest("; ".join(problem.detail for problem in problems), tuple(problems))


def next_after(cron: str, time_zone: str, after: datetime) -> datetime:
    """Give the first time after another one at which an expression fires.

    Where the clocks go forward, a time that the day lacks fires once, when the clocks have changed. Where
    they go back, a time of the hour that comes twice fires the first time only, unless the expression is
    for every hour (``*`` or ``*/N``): the rule of Vixie's cron (cron(8)), so that nothing nightly runs twice.

    Raises:
        InvalidRequest: it never does (30 February, say), or the zone is not known here.
    """
    zone = _zone(time_zone)
    try:
        times = croniter(cron, after.astimezone(zone))
        while True:
            found: datetime = times.get_next(datetime).astimezone(UTC)
            is_repeated = bool(found.astimezone(zone).fold)
            if not is_repeated or cron.split()[_HOUR].startswith("*"):
                return found
    except CroniterError as error:
        raise errors.InvalidRequest(
            f"the cron expression {cron!r} never comes true: there is no such day; see day and month"
        ) from error


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:  # OSError: a folder of the zone files
        raise errors.InvalidRequest(f"{name[:100]!r} is not a time zone; write it like Europe/Berlin") from error
