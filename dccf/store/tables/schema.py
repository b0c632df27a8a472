"""What all tables share: the metadata with its names, and how a time is kept."""

from __future__ import annotations

from sqlalchemy import Column, DateTime, Dialect, MetaData, Text, TypeDecorator, func

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


class Prose(TypeDecorator[str]):
    """Text that people read and that may quote anything: what PostgreSQL cannot hold is replaced by U+FFFD."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002 - SQLAlchemy's
        """Replace NUL, and halves of characters (lone UTF-16 surrogates)."""
        if value is None:
            return None
        return "".join("\ufffd" if char == "\0" or "\ud800" <= char <= "\udfff" else char for char in value)
