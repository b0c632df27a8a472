"""The shared memory of a worker's processes."""

from __future__ import annotations

import os
from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from dccf.models import StopCause
from dccf.worker.board import Board, Running
from tests.processes import wait_for

JOB = UUID("01900000-0000-7000-8000-000000000001")
#: Newer Pythons warn of forks beside threads, which other tests may have left; these children touch no lock.
forks = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def the_only(board: Board) -> Running:
    (running,) = board.running()
    return running


def test_an_empty_board_says_that_nothing_runs() -> None:
    assert Board().running() == []


def test_the_board_says_which_process_runs_which_attempt() -> None:
    board = Board()
    other = uuid4()

    board.begin(0, JOB, 1)
    board.begin(7, other, 2**32 - 1)

    found = [(running.entry, running.pid, running.job_id, running.fence) for running in board.running()]
    assert found == [(0, os.getpid(), JOB, 1), (7, os.getpid(), other, 2**32 - 1)]
    assert all(running.is_alive for running in board.running())


def test_another_process_with_the_pid_of_a_dead_one_does_not_bring_its_attempt_back() -> None:
    board = Board()
    running = board.begin(0, JOB, 1).running

    assert running.is_alive
    assert not replace(running, started=running.started - 1).is_alive


def test_a_cleared_entry_runs_nothing() -> None:
    board = Board()
    stop = board.begin(0, JOB, 1)

    board.clear(stop.running)

    assert board.running() == []


def test_clearing_an_attempt_leaves_the_next_one_in_its_place_alone() -> None:
    board = Board()
    earlier = board.begin(0, JOB, 1).running
    board.begin(0, JOB, 2)

    board.clear(earlier)

    assert [running.fence for running in board.running()] == [2]


def test_an_attempt_goes_on_until_it_is_told_to_stop() -> None:
    board = Board()
    stop = board.begin(3, JOB, 1)
    before = stop.cause()

    board.stop(the_only(board), StopCause.CANCEL)

    assert (before, stop.cause()) == (None, StopCause.CANCEL)


def test_every_cause_arrives_as_itself() -> None:
    board = Board()
    arrived = []
    for fence, cause in enumerate(StopCause, 1):
        stop = board.begin(0, JOB, fence)
        board.stop(the_only(board), cause)
        arrived.append(stop.cause())

    assert arrived == list(StopCause)


def test_the_first_cause_stands() -> None:
    board = Board()
    stop = board.begin(0, JOB, 1)

    board.stop(the_only(board), StopCause.SHUTDOWN)
    board.stop(the_only(board), StopCause.CANCEL)

    assert stop.cause() is StopCause.SHUTDOWN


def test_a_cause_reaches_its_own_entry_only() -> None:
    board = Board()
    first, second = board.begin(0, JOB, 1), board.begin(1, uuid4(), 1)

    board.stop(board.running()[1], StopCause.CANCEL)

    assert (first.cause(), second.cause()) == (None, StopCause.CANCEL)


def test_a_cause_that_came_too_late_is_not_taken_by_the_next_job() -> None:
    board = Board()
    board.begin(0, JOB, 1)
    seen_by_main = the_only(board)
    board.clear(seen_by_main)
    stop = board.begin(0, uuid4(), 1)

    board.stop(seen_by_main, StopCause.CANCEL)

    assert stop.cause() is None


def test_a_cause_that_came_too_late_is_not_taken_by_the_next_attempt_of_the_same_job() -> None:
    board = Board()
    board.begin(0, JOB, 1)
    seen_by_main = the_only(board)
    board.clear(seen_by_main)
    stop = board.begin(0, JOB, 2)

    board.stop(seen_by_main, StopCause.LOST)

    assert stop.cause() is None


def test_a_cause_that_came_too_late_does_not_keep_the_right_one_away() -> None:
    board = Board()
    board.begin(0, JOB, 1)
    seen_by_main = the_only(board)
    stop = board.begin(0, JOB, 2)
    board.stop(seen_by_main, StopCause.LOST)

    board.stop(the_only(board), StopCause.CANCEL)

    assert stop.cause() is StopCause.CANCEL


def test_a_new_attempt_begins_without_the_cause_of_the_last_one() -> None:
    board = Board()
    board.begin(0, JOB, 1)
    board.stop(the_only(board), StopCause.CANCEL)

    assert board.begin(0, JOB, 1).cause() is None


@forks
def test_what_a_forked_process_writes_is_seen_and_its_death_too() -> None:
    board = Board()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:  # a pool process: says what it runs, then hangs until its end of the pipe is closed
        try:
            os.close(write)
            board.begin(5, JOB, 4)
            os.read(read, 1)
        finally:
            os._exit(0)
    os.close(read)

    (running,) = wait_for("the child's entry", board.running)
    alive_before = running.is_alive
    os.close(write)
    wait_for("the child's end, as a zombie", lambda: not running.is_alive)
    os.waitpid(child, 0)

    assert (running.entry, running.pid, running.job_id, running.fence) == (5, child, JOB, 4)
    assert alive_before
    assert not running.is_alive, "also when nothing of it is left"
    assert board.running() == [running], "so that the main process can release its job"


@forks
def test_an_attempt_whose_main_process_died_is_orphaned() -> None:
    read, write = os.pipe()
    main = os.fork()
    if main == 0:  # the main process: forks a pool process and dies
        board = Board()
        parent = os.getpid()
        if os.fork() == 0:
            try:
                stop = board.begin(0, JOB, 1)
                os.write(write, b"ready\n")
                wait_for("another parent", lambda: os.getppid() != parent)
                os.write(write, str(stop.cause()).encode())
            finally:
                os._exit(0)
        os.close(write)
        os.read(read, 6)
        os._exit(0)
    os.close(write)
    os.waitpid(main, 0)
    with os.fdopen(read, "rb") as said:
        assert said.read() == b"orphaned"
