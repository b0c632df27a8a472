"""Topic and group names: a prefix for the application, a letter for the kind, and the escaped name."""

import re
from dataclasses import dataclass

DEFAULT_PREFIX = "kombu"
#: Longest topic name that Kafka takes.
MAX_LENGTH = 249

_PLAIN = re.compile(r"[A-Za-z0-9-]")
_ESCAPED = re.compile(r"_([0-9A-F]{2})")
_LOOKS_ESCAPED = re.compile(r"[0-9A-F]{2}")
#: Direct exchanges that carry the replies to remote control commands: the worker that replies has no binding.
_REPLY_EXCHANGE = re.compile(r"reply\..*\.pidbox\Z")


def escape(name: str) -> str:
    """Turn any name into letters, digits, hyphens and underscores, so that `unescape` gives it back.

    Dots are escaped as well: Kafka refuses a topic whose name differs from another one only in dots and
    underscores.
    """
    parts = []
    for index, char in enumerate(name):
        literal_underscore = char == "_" and not _LOOKS_ESCAPED.match(name, index + 1)
        if literal_underscore or _PLAIN.match(char):
            parts.append(char)
        else:
            parts.extend(f"_{byte:02X}" for byte in char.encode())
    return "".join(parts)


def unescape(escaped: str) -> str:
    """Return the name that `escape` was given."""
    raw = _ESCAPED.sub(lambda match: chr(int(match.group(1), 16)), escaped)
    return raw.encode("latin-1").decode()


def is_reply_exchange(exchange: str) -> bool:
    """Tell whether an exchange carries replies to remote control commands."""
    return _REPLY_EXCHANGE.match(exchange) is not None


@dataclass(frozen=True)
class Names:
    """The names that one application uses on a cluster that it may share with others."""

    prefix: str = DEFAULT_PREFIX

    def queue_topic(self, queue: str) -> str:
        """Return the topic of a queue, which is also the name of its share group."""
        return self._topic("q", queue)

    def exchange_topic(self, exchange: str) -> str:
        """Return the topic that carries an exchange to every reader."""
        return self._topic("x", exchange)

    def queue_of(self, topic: str) -> str:
        """Return the queue that a topic belongs to."""
        return unescape(topic.removeprefix(f"{escape(self.prefix)}.q."))

    def _topic(self, kind: str, name: str) -> str:
        if not name:
            raise ValueError("a queue or exchange needs a name")
        topic = f"{escape(self.prefix)}.{kind}.{escape(name)}"
        if len(topic) > MAX_LENGTH:
            raise ValueError(
                f"the name {name!r} is too long: {len(topic)} characters as a topic, {MAX_LENGTH} allowed"
            )
        return topic
