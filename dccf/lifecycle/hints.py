"""Which hints to send: bounded per queue, fair between owners, again when a job waits too long."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy import Connection

from dccf.config import Settings
from dccf.lifecycle import channels, owners
from dccf.models import JobState
from dccf.store import backlog, fleet, history, jobs, limits, outbox, queues, waiting
from dccf.store.backlog import InFlight, Lane
from dccf.store.database import Database
from dccf.store.outbox import Hint
from dccf.store.waiting import Why

#: Hints that one call takes, and rows it looks at to choose them, so that one transaction stays short.
BATCH = 200
_LOOK_AT = 600
#: A hint that could not be sent is tried again after this long.
RETRY_SECONDS = 5
#: A hint out for so long while a worker of its queue has a free slot is taken for lost.
UNANSWERED_SECONDS = 15.0
#: A job whose options this version does not know is offered again after this long, to a newer worker perhaps.
_ELSEWHERE_SECONDS = 15


def take_first(database: Database, settings: Settings, job_id: UUID) -> list[Hint]:
    """Take the first hint of a job just submitted, if its queue has room; the controller sends the others.

    It does not pass others that wait already, and does not wait for whoever just counts.

    Raises:
        StoreUnavailable: PostgreSQL is away.
    """
    with database.begin() as tx:
        job = jobs.get(tx, job_id)
        if job is None or not backlog.try_lock(tx, job.spec.queue):
            return []
        queue, lane = job.spec.queue, (job.spec.queue, job.owner)
        if backlog.is_any_due(tx, queue, job_id) or queue in queues.get_paused(tx):
            return []
        in_flight = backlog.count_in_flight(tx)
        room = _room(settings, fleet.count_slots(tx), in_flight, queue)
        allowed = _allowed(tx, settings, in_flight, [lane])
        if room < 1 or allowed[job.owner] < 1:
            return []
        return outbox.take(tx, [job_id], settings.hint_resend_seconds)


def take_due(database: Database, settings: Settings) -> list[Hint]:
    """Take hints that are due: again for jobs that wait too long, and first ones that queues have room for.

    Raises:
        StoreUnavailable: PostgreSQL is away.
    """
    # One transaction: hints that were noted as sent are sent, or none is noted.
    with database.begin() as tx:
        capacity = fleet.get_capacity(tx)
        idle = {queue for queue, offered in capacity.items() if offered.is_idle}
        outbox.call_unanswered(tx, idle, UNANSWERED_SECONDS)
        again = outbox.take_again(tx, settings.hint_resend_seconds, BATCH)
        slots = {queue: offered.slots for queue, offered in capacity.items()}
        return again + _take_first_hints(tx, settings, slots)


def _take_first_hints(tx: Connection, settings: Settings, slots: Mapping[str, int]) -> list[Hint]:
    """Choose under a lock per queue, so that two controllers do not both fill the same room."""
    ours = backlog.lock_queues(tx)
    in_flight = backlog.count_in_flight(tx)
    room = {queue: _room(settings, slots, in_flight, queue) for queue in ours}
    lanes = backlog.find_lanes(tx, {queue for queue in ours if room[queue] > 0})
    if not lanes:
        return []
    allowed = _allowed(tx, settings, in_flight, lanes)
    share = max(1, _LOOK_AT // len(lanes))
    wanted = {lane: min(share, room[lane[0]], allowed[lane[1]]) for lane in lanes if allowed[lane[1]] > 0}
    chosen = choose(backlog.find_due(tx, wanted), in_flight, room, allowed)[:BATCH]
    taken = outbox.take(tx, chosen, settings.hint_resend_seconds)
    if len(taken) < len(chosen):
        # Somebody holds the others' rows for a moment: who says why they wait, say. They need no timer to come again.
        jobs.notify(tx, channels.WORK_TO_DO, "")
    return taken


def _room(settings: Settings, slots: Mapping[str, int], in_flight: InFlight, queue: str) -> int:
    """Say how many more hints a queue may have out.

    One waits behind each slot that lives: what is out is served in its order, so more of it would
    make a newcomer wait for more than one job's length.
    """
    return (slots.get(queue) or settings.hints_outstanding) - in_flight.hinted_in(queue)


def _allowed(tx: Connection, settings: Settings, in_flight: InFlight, lanes: Sequence[Lane]) -> dict[str, int]:
    """Say how many more jobs each owner may have on their way."""
    names = {owner for _, owner in lanes}
    own = limits.get_many(tx, names)
    default = owners.running_limit(settings, None)
    limit = {owner: owners.running_limit(settings, own[owner]) for owner in own}
    return {owner: limit.get(owner, default) - in_flight.of_owner(owner) for owner in names}


def choose(
    due: Mapping[Lane, Sequence[UUID]], in_flight: InFlight, room: Mapping[str, int], allowed: Mapping[str, int]
) -> list[UUID]:
    """Pick jobs one by one, always from the owner who has the least on its way in that queue."""
    left, may = Counter(room), Counter(allowed)
    turns = [(in_flight.of_lane(lane), place, lane) for place, lane in enumerate(due)]
    heapq.heapify(turns)
    taken: Counter[Lane] = Counter()
    chosen: list[UUID] = []
    while turns:
        on_its_way, place, lane = heapq.heappop(turns)
        queue, owner = lane
        if left[queue] < 1 or may[owner] < 1 or taken[lane] >= len(due[lane]):
            continue
        chosen.append(due[lane][taken[lane]])
        left[queue] -= 1
        may[owner] -= 1
        taken[lane] += 1
        heapq.heappush(turns, (on_its_way + 1, place, lane))
    return chosen


def put_back(database: Database, hints: Sequence[Hint]) -> None:
    """Note that hints could not be sent.

    Raises:
        StoreUnavailable: PostgreSQL is away.
    """
    with database.begin() as tx:
        outbox.put_back(tx, [hint.job_id for hint in hints], RETRY_SECONDS)


def decline(database: Database, job_id: UUID, why: str) -> None:
    """Note that a worker got a job's hint but cannot take the job now; another hint goes out soon.

    Raises:
        StoreUnavailable: PostgreSQL is away.
    """
    with database.begin() as tx:
        job = jobs.lock(tx, job_id)
        if job is None or job.state is not JobState.QUEUED:
            return
        outbox.put_back(tx, [job_id], RETRY_SECONDS)
        if job.message != why:
            jobs.set_message(tx, job_id, why)
            history.add_event(tx, job_id, job.state, job.fence, why)
            jobs.notify(tx, channels.JOB_CHANGED, str(job_id))


def hold(tx: Connection, job_id: UUID, why: Why) -> None:
    """Take back the hint of a job that may not start now, and say why; another one goes out when it may."""
    outbox.put_back(tx, [job_id], 0)
    waiting.note(tx, {job_id: why}, channels.JOB_CHANGED)


def postpone(tx: Connection, job_id: UUID) -> None:
    """Take back the hint of a job that this worker cannot run; others get one after a while."""
    outbox.put_back(tx, [job_id], _ELSEWHERE_SECONDS)


def finish_continuation(database: Database, job_id: UUID, state: JobState) -> None:
    """Note that everything that follows a finished job has been sent.

    Raises:
        StoreUnavailable: PostgreSQL is away; the continuation is then sent once more.
    """
    with database.begin() as tx:
        outbox.finish_continuation(tx, job_id, state)
