"""Celery workers and brokers that die: nothing that was confirmed is lost. See `fleet` for the numbers."""

import collections
import contextlib
import os
import signal
import threading
import time

import pytest

from dccf.local.kafka import KafkaCluster
from dccf.transport.cluster import Cluster

from .fleet import OUTAGE_SECONDS, SHARED_TASKS, TASKS, Fleet, figures
from .kafkahelp import connected
from .waiting import wait_until

pytestmark = pytest.mark.kafka


def test_tasks_run_and_remote_control_works(fleet: Fleet) -> None:
    worker = fleet.start("plain")
    fleet.send(TASKS)
    fleet.wait_for_all()
    inspect = fleet.app.control.inspect(["plain@here"], timeout=5, limit=1)

    assert inspect.stats()["plain@here"]["total"] == {"note": TASKS}
    assert fleet.duplicates() == 0
    assert fleet.app.control.rate_limit("note", "100/s", reply=True, timeout=5, limit=1)
    fleet.app.control.shutdown(["plain@here"])
    assert worker.wait(30) == 0


def test_a_revoked_task_never_runs(fleet: Fleet) -> None:
    fleet.start("revoking", concurrency=1)
    fleet.send(1, seconds=3)
    wait_until(lambda: fleet.lines("start"))
    victim = fleet.app.send_task("note", (999, 0.0))
    victim.revoke()
    fleet.send(1)
    fleet.wait_for_all()

    assert 999 not in fleet.ended()


def test_the_kill_of_a_worker_loses_nothing(fleet: Fleet) -> None:
    victim = fleet.start("victim")
    fleet.start("survivor")
    fleet.send(TASKS, seconds=0.05)
    wait_until(lambda: len(fleet.lines("start")) > TASKS // 10)
    os.killpg(victim.pid, signal.SIGKILL)

    fleet.wait_for_all()

    assert fleet.duplicates() <= 20


def test_the_kill_of_a_main_process_frees_its_tasks_at_once(fleet: Fleet) -> None:
    victim = fleet.start("victim", concurrency=1)
    fleet.send(1, seconds=5)
    wait_until(lambda: fleet.lines("start"))
    fleet.start("survivor", concurrency=1)
    os.kill(victim.pid, signal.SIGKILL)

    wait_until(lambda: len(fleet.lines("start")) == 2, 10)
    os.killpg(victim.pid, signal.SIGKILL)


def test_the_kill_of_a_pool_process_loses_nothing(fleet: Fleet) -> None:
    fleet.start("pool")
    fleet.send(TASKS, seconds=0.05)
    wait_until(lambda: len(fleet.lines("start")) > TASKS // 10)
    os.kill(int(fleet.lines("start")[-1][2]), signal.SIGKILL)

    fleet.wait_for_all()


def test_a_worker_that_stands_still_longer_than_the_lock_loses_nothing(fleet: Fleet) -> None:
    victim = fleet.start("frozen")
    fleet.send(TASKS, seconds=0.05)
    wait_until(lambda: len(fleet.lines("start")) > TASKS // 10)
    os.killpg(victim.pid, signal.SIGSTOP)
    fleet.start("awake")

    fleet.wait_for_all()
    os.killpg(victim.pid, signal.SIGCONT)

    fleet.send(10)
    fleet.wait_for_all()
    assert victim.poll() is None


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_the_restart_of_the_broker_loses_nothing(own_kafka: KafkaCluster, own_fleet: Fleet, how: str) -> None:
    own_fleet.be_patient()
    worker = own_fleet.start("steady")
    sender = threading.Thread(target=own_fleet.send, args=(TASKS, 0.02, 0.02))
    sender.start()
    wait_until(lambda: len(own_fleet.ended()) > TASKS // 10)
    if how == "kill":
        own_kafka.kill()
    else:
        own_kafka.stop_node()
    own_kafka.restart()
    sender.join()

    own_fleet.wait_for_all()

    assert worker.poll() is None
    assert not own_fleet.refused, "the outage was shorter than the time a publish might take"


def test_a_long_outage_loses_nothing_that_was_confirmed(own_kafka: KafkaCluster, own_fleet: Fleet) -> None:
    worker = own_fleet.start("patient")
    before = TASKS // 2
    own_fleet.send(before, 0.01)
    wait_until(lambda: own_fleet.ended())
    own_kafka.stop_node()
    back = time.monotonic() + OUTAGE_SECONDS
    senders = [
        threading.Thread(target=own_fleet.send_until, args=(back + 15, 0.01, OUTAGE_SECONDS / TASKS))
        for _ in range(3)
    ]
    for sender in senders:
        sender.start()
    wait_until(lambda: time.monotonic() > back, OUTAGE_SECONDS + 5, 0.2)
    raised = len(own_fleet.refused)
    own_kafka.restart()
    for sender in senders:
        sender.join()

    own_fleet.wait_for_all()

    assert raised, "a publish while the broker is away must say so"
    assert len(own_fleet.sent) > before, "publishing works again without a new connection by hand"
    assert own_fleet.ended() <= own_fleet.sent | own_fleet.refused
    assert worker.poll() is None


def test_the_kill_of_the_leader_of_three_loses_nothing(three_kafkas: KafkaCluster, fleet_of_three: Fleet) -> None:
    fleet_of_three.be_patient()
    worker = fleet_of_three.start("follower")
    sender = threading.Thread(target=fleet_of_three.send, args=(TASKS, 0.02, 0.05))
    sender.start()
    wait_until(lambda: len(fleet_of_three.ended()) > TASKS // 10)
    killed = leader(three_kafkas, fleet_of_three.queue)
    three_kafkas.kill(killed)
    wait_until(lambda: len(fleet_of_three.ended()) > TASKS // 2, 90)
    assert leader(three_kafkas, fleet_of_three.queue) != killed
    sender.join()

    fleet_of_three.wait_for_all()

    assert worker.poll() is None
    assert not fleet_of_three.refused, "two brokers of three are enough to publish"


def leader(cluster: KafkaCluster, queue: str) -> int:
    """Return the node that leads a queue's topic, asked of those that run."""
    with connected(",".join(cluster.servers()), "faults") as connection:
        settings = connection.transport.settings
        with contextlib.closing(Cluster(settings)) as view:
            _, port = view.leader(settings.names.queue_topic(queue), 0)
    return [server.endswith(f":{port}") for server in cluster.servers()].index(True)


def test_workers_share_a_full_queue_evenly(fleet: Fleet) -> None:
    names = ("one", "two", "three")
    for name in names:
        fleet.launch(name, concurrency=1)
    for name in names:
        fleet.wait_for(name)
    fleet.app.control.cancel_consumer(fleet.queue, reply=True, timeout=10, limit=3)
    # Short, yet not so short that the scheduler of a busy machine deals them out.
    fleet.send(SHARED_TASKS, seconds=0.01)
    fleet.app.control.add_consumer(fleet.queue, reply=True, timeout=10, limit=3)
    fleet.wait_for_all(SHARED_TASKS / 20)

    pids = [line[2] for line in fleet.lines("end")]
    all_at_work = max(pids.index(pid) for pid in set(pids))
    shares = collections.Counter(pids[all_at_work:])
    figures.append(f"shares of {SHARED_TASKS} tasks once all were at work: {sorted(shares.values())}")
    fair = shares.total() / len(names)
    assert len(shares) == len(names)
    assert shares.total() > SHARED_TASKS / 2
    assert all(abs(share - fair) <= 0.2 * fair for share in shares.values()), shares


def test_a_task_of_four_locks_runs_once(fleet: Fleet) -> None:
    fleet.start("long", concurrency=1)
    fleet.start("other", concurrency=1)
    fleet.send(1, seconds=62)
    fleet.wait_for_all(90)

    assert len(fleet.lines("start")) == 1
