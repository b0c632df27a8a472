"""What can go wrong with the Kafka of one machine.

LocalKafkaError
├── JavaMissingError      no Java, or one that is too old
├── KafkaDownloadError    Maven is missing or could not fetch the jars
├── PortInUseError        another process holds a port that was asked for
└── KafkaStartError       a node ended, or was not ready in time
"""

from dccf.errors import LocalStackError


class LocalKafkaError(LocalStackError):
    """Kafka cannot be run on this machine."""


class JavaMissingError(LocalKafkaError):
    """No Java was found, or it is older than Kafka needs."""


class KafkaDownloadError(LocalKafkaError):
    """The jars are not in the cache and could not be fetched."""


class PortInUseError(LocalKafkaError):
    """A port that was asked for belongs to another process."""


class KafkaStartError(LocalKafkaError):
    """A node ended by itself, or did not become ready in time."""
