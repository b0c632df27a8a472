"""The table of transitions: which state may follow which."""

from __future__ import annotations

from collections.abc import Mapping

from dccf.models import JobState

#: A state never goes back, except to ``queued`` for another attempt; final states have no exit.
TRANSITIONS: Mapping[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.BUILDING, JobState.FAILED, JobState.CANCELLED}),
    JobState.BUILDING: frozenset({JobState.RUNNING, JobState.QUEUED, JobState.FAILED, JobState.CANCELLED}),
    JobState.RUNNING: frozenset({JobState.COLLECTING, JobState.QUEUED, JobState.FAILED, JobState.CANCELLED}),
    JobState.COLLECTING: frozenset({JobState.SUCCEEDED, JobState.QUEUED, JobState.FAILED, JobState.CANCELLED}),
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
}


def sources_of(target: JobState) -> frozenset[JobState]:
    """Give the states that ``target`` may follow."""
    return frozenset(source for source, targets in TRANSITIONS.items() if target in targets)
