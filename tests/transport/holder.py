"""Takes one message of a queue, says so, and holds it until it is killed.

python -m tests.transport.holder URL QUEUE
"""

import sys
import time

import dccf.transport

from .kafkahelp import Collector, Connection, work_queue


def hold(url: str, queue: str) -> None:
    """Take a message and do nothing with it."""
    dccf.transport.register()
    with Connection(url) as connection:
        Collector(connection, work_queue(queue), prefetch=1).collect(1)
        print("held", flush=True)
        time.sleep(600)


if __name__ == "__main__":
    hold(*sys.argv[1:])
