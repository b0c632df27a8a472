"""Processes that are killed with a message in their hands, and processes that are forked."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import dccf.transport
from dccf.local.kafka import KafkaCluster
from dccf.transport.records import DELIVERY_COUNT

from .fleet import figures
from .kafkahelp import Collector, application, connected, publish, unique, url, work_queue
from .waiting import wait_until

pytestmark = pytest.mark.kafka

_REPOSITORY = Path(__file__).parents[2]
_KILLS = 20
_CHILDREN = 10


def test_killing_the_holder_of_a_message_twenty_times_loses_nothing(kafka: KafkaCluster) -> None:
    queue = work_queue(unique("holders"))
    with connected(kafka.bootstrap_servers) as connection:
        publish(connection, queue, "hot potato")
    command = [sys.executable, "-m", "tests.transport.holder", url(kafka.bootstrap_servers), queue.name]
    for _ in range(_KILLS):
        with subprocess.Popen(command, cwd=_REPOSITORY, stdout=subprocess.PIPE, text=True) as holder:
            try:
                assert holder.stdout is not None
                assert holder.stdout.readline() == "held\n"
            finally:
                holder.kill()

    with connected(kafka.bootstrap_servers) as connection:
        message = Collector(connection, queue).collect(1)[0]
        assert message.payload == "hot potato"
        assert message.headers[DELIVERY_COUNT] == _KILLS
        message.ack()
        wait_until(lambda: connection.default_channel._size(queue.name) == 0)


def test_the_first_publish_after_a_fork_works_in_every_child(kafka: KafkaCluster) -> None:
    queue = unique("forks")
    reader, writer = os.pipe()
    with application(url(kafka.bootstrap_servers), queue) as app:
        app.send_task("task", ("parent",))
        codes = []
        for number in range(_CHILDREN):
            child = os.fork()
            if child == 0:
                _publish_and_exit(app, number, writer)
            codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        os.close(writer)
        with os.fdopen(reader) as pipe:
            took_ms = sorted(float(line) for line in pipe)

        assert codes == [0] * _CHILDREN
        app.send_task("task", ("parent again",))
    with connected(kafka.bootstrap_servers) as connection:
        assert connection.default_channel._size(queue) == _CHILDREN + 2
    figures.append(f"first publish after a fork: {took_ms[0]:.0f} to {took_ms[-1]:.0f} ms, {_CHILDREN} children")


def _publish_and_exit(app: Any, number: int, writer: int) -> None:
    """Publish in a child, say how many milliseconds it took, and end without pytest's own clean-up."""
    try:
        begin = time.monotonic()
        app.send_task("task", (number,))
        os.write(writer, f"{(time.monotonic() - begin) * 1000:.1f}\n".encode())
        dccf.transport.close_clients()
        os._exit(0)
    finally:
        os._exit(1)
