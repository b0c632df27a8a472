"""One connection pool per process, transactions with mapped errors, and LISTEN."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2
import psycopg2.extensions
from sqlalchemy import Connection, Engine, create_engine, exc, text

from dccf import errors

#: Seconds to wait for a TCP connection, for a connection of the pool, and for one statement.
CONNECT_TIMEOUT_SECONDS = 3
POOL_TIMEOUT_SECONDS = 10
STATEMENT_TIMEOUT_SECONDS = 60

_SERVER_OPTIONS = (
    f"-c statement_timeout={STATEMENT_TIMEOUT_SECONDS}s -c idle_in_transaction_session_timeout=120s -c timezone=UTC"
)
_AWAY = (
    exc.OperationalError,
    exc.InterfaceError,
    exc.TimeoutError,
    psycopg2.OperationalError,
    psycopg2.InterfaceError,
)

#: Classes of SQLSTATE that pass: connection, rollback, resources, object in use, operator intervention. Others
#: of psycopg2's operational errors (54: a program limit, say) would come again with every try.
_PASSING_CLASSES = frozenset({"08", "40", "53", "55", "57"})
#: A server that vanished without a word is noticed within some 15 s, not when TCP gives up. No use on Unix sockets.
_TCP_OPTIONS: dict[str, Any] = {
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}


@contextmanager
def mapped_errors() -> Iterator[None]:
    """Turn the driver's ways of saying that PostgreSQL is away into :class:`~dccf.errors.StoreUnavailable`."""
    try:
        yield
    except _AWAY as error:
        state = getattr(getattr(error, "orig", error), "pgcode", None)
        if state is not None and state[:2] not in _PASSING_CLASSES:
            raise
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise errors.StoreUnavailable(
            f"PostgreSQL cannot be reached or gave up: {first_line}. Is it running, and is DCCF_DATABASE_URL right?"
        ) from error


class Database:
    """A PostgreSQL that can be used from any thread and survives a fork.

    A forked child must not share its parent's sockets, so the pool belongs to the process that made it.
    """

    def __init__(self, url: str, pool_size: int = 5) -> None:
        self.url = url
        self._pool_size = pool_size
        self._engine: Engine | None = None
        self._pid = 0

    @property
    def engine(self) -> Engine:
        """This process's engine, made on first use."""
        if self._engine is None or self._pid != os.getpid():
            if self._engine is not None:
                self._engine.dispose(close=False)
            self._engine = create_engine(
                self.url,
                pool_size=self._pool_size,
                max_overflow=0,
                pool_timeout=POOL_TIMEOUT_SECONDS,
                pool_pre_ping=True,
                connect_args={"connect_timeout": CONNECT_TIMEOUT_SECONDS, "options": _SERVER_OPTIONS, **_TCP_OPTIONS},
            )
            self._pid = os.getpid()
        return self._engine

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """Open a transaction that commits at the end of the block, or rolls back when it raises.

        Raises:
            StoreUnavailable: PostgreSQL is away; whether a commit went through is then unknown.
        """
        with mapped_errors(), self.engine.begin() as connection:
            yield connection

    def ping(self) -> None:
        """Ask for a sign of life.

        Raises:
            StoreUnavailable: there was none.
        """
        with self.begin() as tx:
            tx.execute(text("SELECT 1"))

    def close(self) -> None:
        """Close the pool of this process."""
        if self._engine is not None and self._pid == os.getpid():
            self._engine.dispose()
        self._engine = None


def prefer_index_order(tx: Connection) -> None:
    """Make this transaction read indexes in their order and stop early.

    For a query that runs once for each owner PostgreSQL estimates by the average owner. Of one with
    100,000 jobs it would collect and sort all, to give a few of them.
    """
    tx.execute(text("SET LOCAL enable_bitmapscan = off"))


class Listener:
    """A connection of its own that waits for NOTIFY; never through a pooler."""

    def __init__(self, database: Database, *channels: str) -> None:
        with mapped_errors():
            url = database.engine.url.set(drivername="postgresql")
            self._connection = psycopg2.connect(
                url.render_as_string(hide_password=False), connect_timeout=CONNECT_TIMEOUT_SECONDS, **_TCP_OPTIONS
            )
            self._connection.set_isolation_level(psycopg2.extensions.ISOLATION_LEVEL_AUTOCOMMIT)
            with self._connection.cursor() as cursor:
                for channel in channels:
                    cursor.execute(f'LISTEN "{channel}"')

    def wait(self, timeout_seconds: float) -> list[tuple[str, str]]:
        """Give the ``(channel, payload)`` pairs that have come in, waiting for the first one.

        Raises:
            StoreUnavailable: the connection is gone; make a new listener and look at the tables again.
        """
        with mapped_errors():
            # Not select.select, which takes no descriptor above 1023: an API may have more connections.
            waiting = select.poll()
            waiting.register(self._connection, select.POLLIN)
            waiting.poll(timeout_seconds * 1000)
            self._connection.poll()
            found = [(note.channel, note.payload) for note in self._connection.notifies]
            self._connection.notifies.clear()
            return found

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
