"""The kombu transport: connections, the event loop, and what kombu asks of a transport class."""

import itertools
import time
from typing import Any

from kombu.exceptions import ChannelError
from kombu.transport import virtual

from dccf.transport import advice, errors, settings
from dccf.transport.channel import Channel
from dccf.transport.client import Client, get_client
from dccf.transport.inbox import PrivateQueue, WakeUp
from dccf.transport.protocol import kafka_python_version

#: Messages delivered before the event loop gets its turn again.
_DELIVERIES_PER_TURN = 100


#: kombu is typed in parts only, and its parts disagree with its practice.
_Base: Any = virtual.Transport


class Transport(_Base):
    """Celery on Kafka share groups."""

    Channel = Channel

    can_parse_url = True
    default_port = settings.DEFAULT_PORT
    driver_type = "kafka"
    driver_name = "kafka-python"
    polling_interval = None

    connection_errors = (errors.BrokerUnreachableError, ConnectionError)
    channel_errors = (ChannelError,)
    recoverable_connection_errors = connection_errors
    #: What Kafka refuses once it refuses again.
    recoverable_channel_errors = ()

    implements = virtual.Transport.implements.extend(
        asynchronous=True, exchange_type=frozenset(["direct", "topic", "fanout"])
    )

    def __init__(self, client: Any, **kwargs: Any) -> None:
        super().__init__(client, **kwargs)
        self.settings = settings.read_settings(client)
        self.private_queues: set[str] = set()
        #: Those of them that end with their last consumer.
        self.auto_deleted: set[str] = set()
        #: Private queues that are bound to an exchange whose topic is read.
        self.subscribed: dict[str, PrivateQueue] = {}
        self.wake_up = WakeUp()
        self._tags = itertools.count(1)
        self._loop: Any = None

    @property
    def kafka_client(self) -> Client:
        """Return the client of this process, which after a fork is not the one of the parent."""
        return get_client(self.settings)

    def driver_version(self) -> str:
        """Return the version of kafka-python."""
        return str(kafka_python_version)

    def as_uri(self, uri: str, include_password: bool = False, mask: str = "**") -> str:
        """Return the URL, with the password hidden unless asked for."""
        whole = f"kafka+{uri}" if uri.startswith("ssl://") else uri
        return whole if include_password else settings.masked_url(whole, mask)

    def establish_connection(self) -> Any:
        """Make sure that a broker answers and can do what is needed."""
        try:
            self.kafka_client.admin.check_broker()
        except errors.BROKER_ERRORS as error:
            if errors.is_transient(error):
                servers = ", ".join(f"{host}:{port}" for host, port in self.settings.servers)
                raise errors.BrokerUnreachableError(
                    f"no Kafka broker answers at {servers}: {advice.describe(error)}"
                ) from error
            raise errors.translated(error, "cannot connect") from error
        self.wake_up.open()
        return super().establish_connection()

    def next_delivery_tag(self) -> str:
        """Return a tag that no other message of this connection has."""
        return str(next(self._tags))

    def drain_events(self, connection: Any, timeout: float | None = None) -> None:  # noqa: ARG002 - kombu's signature
        """Deliver exactly one message, or raise `TimeoutError`."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._deliver_one():
            # A signal may come for what cannot be delivered now: it must not begin the wait anew.
            if not self.wake_up.wait(None if deadline is None else deadline - time.monotonic()):
                raise TimeoutError("no message in time")
            self.wake_up.clear()

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:  # noqa: ARG002 - kombu's signature
        """Deliver from an event loop from now on."""
        self._loop = loop
        loop.add_reader(self.wake_up.fileno(), self.on_readable, loop)
        self.wake_up.signal()

    def unregister_from_event_loop(self, connection: Any, loop: Any) -> None:  # noqa: ARG002 - kombu's signature
        """Leave the event loop."""
        loop.remove_reader(self.wake_up.fileno())
        self._loop = None

    def on_readable(self, loop: Any) -> None:  # noqa: ARG002 - kombu's signature
        """Deliver what has arrived."""
        self.wake_up.clear()
        for _ in range(_DELIVERIES_PER_TURN):
            if not self._deliver_one():
                return
        self.wake_up.signal()

    def close_connection(self, connection: Any) -> None:
        """Close all channels."""
        if self._loop is not None:
            self._loop.remove_reader(self.wake_up.fileno())
            self._loop = None
        super().close_connection(connection)
        for private in self.subscribed.values():
            private.close()
        self.subscribed.clear()
        self.wake_up.close()

    def _deliver_one(self) -> bool:
        channels = list(self.channels)
        for index, channel in enumerate(channels):
            if not channel.closed and channel.deliver_one():
                # The next channel first next time, so that none has to wait for a busy one.
                self.channels[:] = [*channels[index + 1 :], *channels[: index + 1]]
                return True
        return False
