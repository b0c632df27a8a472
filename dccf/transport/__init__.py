"""A kombu transport on Kafka share groups, for any Celery application.

    import dccf.transport
    dccf.transport.register()
    app = Celery("shop", broker="kafka://broker:9092")

The manual is docs/transport.md. Nothing here imports the rest of DCCF.
"""

import logging

from kombu import transport as kombu_transport

__all__ = ["close_clients", "register"]


def register() -> None:
    """Make `kafka://` and `kafka+ssl://` mean this transport, in place of the one that kombu brings."""
    kombu_transport.TRANSPORT_ALIASES["kafka"] = "dccf.transport.transport:Transport"
    kombu_transport._transport_cache.pop("kafka", None)
    library_logger = logging.getLogger("kafka")
    if library_logger.level == logging.NOTSET:
        # At DEBUG it writes every byte that it sends, passwords included.
        library_logger.setLevel(logging.WARNING)


def close_clients() -> None:
    """Close the connections that this process shares between its kombu connections; they open again on use."""
    from dccf.transport import client

    client.close_clients()
