"""What all tables share: the metadata with its names, and how a time is kept."""

from __future__ import annotations

from sqlalchemy import Column, DateTime, MetaData, func

metadata = MetaData(
    naming_convention={
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
        "pk": "%(table_name)s_pkey",
    }
)


def time_column(name: str, *, required: bool = False, default_now: bool = False) -> Column[object]:
    """Give a column for a time with its zone."""
    return Column(
        name,
        DateTime(timezone=True),
        nullable=not (required or default_now),
        server_default=func.now() if default_now else None,
    )
