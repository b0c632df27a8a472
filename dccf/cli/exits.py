"""Exit codes: the container's own, and a few that say why there is none."""

from __future__ import annotations

from dccf import errors
from dccf.errors import DccfError
from dccf.models import Job, JobState, Reason

OK = 0
#: Something went wrong that no other code says; also a container that ended with 0 in a job that failed.
FAILURE = 1
USAGE = 2
API_UNREACHABLE = 69
LIMIT_REACHED = 75
NOT_AUTHENTICATED = 77
TIMED_OUT = 124
NO_CONTAINER = 125
CANCELLED = 130

_BY_ERROR: tuple[tuple[type[DccfError], int], ...] = (
    (errors.InvalidRequest, USAGE),
    (errors.ConfigError, USAGE),
    (errors.NotAuthenticated, NOT_AUTHENTICATED),
    (errors.NotAllowed, NOT_AUTHENTICATED),
    (errors.LimitReached, LIMIT_REACHED),
    (errors.ApiUnavailable, API_UNREACHABLE),
    (errors.StoreUnavailable, API_UNREACHABLE),
    (errors.BrokerUnavailable, API_UNREACHABLE),
    (errors.JobCancelled, CANCELLED),
)


def of_job(job: Job) -> int:
    """Say with which code a command ends that waited for this job."""
    if job.state is JobState.SUCCEEDED:
        return OK
    if job.state is JobState.CANCELLED:
        return CANCELLED
    if job.reason in {Reason.TIMED_OUT, Reason.JOB_TIMED_OUT}:
        return TIMED_OUT
    if job.exit_code is None:
        return NO_CONTAINER
    return job.exit_code or FAILURE


def of_error(error: DccfError) -> int:
    """Say with which code a command ends that this error ended."""
    return next((code for kind, code in _BY_ERROR if isinstance(error, kind)), FAILURE)
