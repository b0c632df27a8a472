"""The HTTP API: Flask, stateless; everything it knows stands in PostgreSQL."""

from dccf.api.app import create_app

__all__ = ["create_app"]
