"""What PostgreSQL says of itself: since when it runs, and what became of a transaction."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, func, select, text

from dccf import errors


def get_server_start(tx: Connection) -> datetime:
    """Get the time at which PostgreSQL was started."""
    started: datetime = tx.execute(select(func.pg_postmaster_start_time())).scalar_one()
    return started


def get_transaction(tx: Connection) -> str:
    """Get the name of this transaction, by which it can be asked for later."""
    return str(tx.execute(text("SELECT pg_current_xact_id()::text")).scalar_one())


def was_committed(tx: Connection, transaction: str) -> bool:
    """Tell whether another transaction went through, however its connection ended.

    PostgreSQL keeps that for some hundred million transactions (its manual, "pg_xact_status").

    Raises:
        StoreUnavailable: it is not decided yet.
    """
    status = tx.execute(text("SELECT pg_xact_status(CAST(:name AS xid8))"), {"name": transaction}).scalar_one()
    if status == "in progress":
        raise errors.StoreUnavailable(f"PostgreSQL has not decided about transaction {transaction} yet")
    return bool(status == "committed")
