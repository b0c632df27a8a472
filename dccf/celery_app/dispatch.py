"""Sending hints. A hint that cannot be sent now is sent later: no submit ever fails for the broker."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from uuid import UUID

from dccf import errors
from dccf.celery_app import messages
from dccf.celery_app.app import DccfCelery
from dccf.config import Settings
from dccf.lifecycle import hints
from dccf.store.database import Database
from dccf.store.outbox import Hint

log = logging.getLogger(__name__)

#: So many failures in a row mean that the broker is away, not that it minds the hints.
_AWAY_AFTER = 2


@contextmanager
def mapped_errors(app: DccfCelery) -> Iterator[None]:
    """Turn the transport's ways of saying that the broker is away into one error."""
    try:
        yield
    except app.broker_errors as error:
        raise errors.BrokerUnavailable(
            f"the broker {app.connection_for_write().as_uri()} cannot be reached: {error}"
        ) from error


def send(app: DccfCelery, hint: Hint) -> None:
    """Send a hint.

    Raises:
        BrokerUnavailable: the broker is away, or refuses the message.
    """
    with mapped_errors(app), app.producer_or_acquire() as producer:
        messages.publish(app, producer, hint)


def first(app: DccfCelery, job_id: UUID) -> None:
    """Send the first hint of a new job, behind the caller's back; where that fails the controller sends it later."""
    try:
        taken = hints.take_first(app.database, app.settings, job_id)
    except errors.StoreUnavailable as error:
        log.warning("job %s: its first hint is left to the controller: %s", job_id, error)
        return
    app.hint_sender.put(taken)


def due(app: DccfCelery, database: Database, settings: Settings) -> int:
    """Send the hints that are due; give their number.

    Raises:
        StoreUnavailable: PostgreSQL is away.
    """
    taken = hints.take_due(database, settings)
    return len(taken) if send_or_put_back(app, database, taken) else 0


def send_or_put_back(app: DccfCelery, database: Database, taken: Sequence[Hint]) -> bool:
    """Send one by one: a hint that the broker refuses (too large, say) must not hold the others up.

    Gives whether any was sent.

    Raises:
        StoreUnavailable: PostgreSQL is away, and some could not be put back; each counts as lost, and is sent again.
    """
    unsent: list[Hint] = []
    in_a_row = 0
    for number, hint in enumerate(taken):
        try:
            send(app, hint)
            in_a_row = 0
        except errors.BrokerUnavailable as error:
            log.warning("the hint of job %s waits in PostgreSQL: %s", hint.job_id, error)
            unsent.append(hint)
            in_a_row += 1
            if in_a_row == _AWAY_AFTER:
                unsent += taken[number + 1 :]
                break
    if unsent:
        hints.put_back(database, unsent)
    return len(unsent) < len(taken)
