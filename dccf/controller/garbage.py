"""Removes contents that nothing refers to: what broken uploads and dropped attempts leave behind."""

from __future__ import annotations

import logging

from dccf.store import blobs
from dccf.store.database import Database

log = logging.getLogger(__name__)

#: A content younger than this may belong to an upload that is still coming in.
LEAST_AGE_SECONDS = 24 * 3600.0
BATCH = 200


def sweep_blobs(database: Database) -> int:
    """Remove unused contents, a batch a transaction; give their number.

    Raises:
        StoreUnavailable: PostgreSQL is away.
    """
    removed = 0
    while True:
        with database.begin() as tx:
            batch = blobs.sweep(tx, LEAST_AGE_SECONDS, BATCH)
        removed += batch
        if batch < BATCH:
            break
    if removed:
        log.info("removed %d contents that nothing refers to", removed)
    return removed
