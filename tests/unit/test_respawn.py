"""The respawner, as the program that it is, over small programs that note who they are."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.processes import wait_for

CODE_OF_A_CRASH = 7


@contextmanager
def respawned(program: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a respawner over a Python program that stands in ``folder``; it is dead when the block ends."""
    script = folder / "program.py"
    script.write_text(f"import os, signal, subprocess, sys, time\nfolder = {str(folder)!r}\n{program}")
    command = [sys.executable, "-m", "dccf.local.respawn", "thing", str(os.getpid()), sys.executable, str(script)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def read_pids(file: Path, count: int) -> list[int]:
    """Wait until a program has written so many lines, each the id of a process."""

    def look() -> list[int] | None:
        lines = file.read_text().splitlines(keepends=True) if file.exists() else []
        whole = [int(line) for line in lines if line.endswith("\n")]
        return whole if len(whole) >= count else None

    return wait_for(f"{count} lines in {file.name}", look)


def is_gone(pid: int) -> bool:
    """Tell whether a process has ended; a zombie has."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state in {"Z", "X"}


WRITE_PID = "open(f'{folder}/pids', 'a').write(f'{os.getpid()}\\n')\n"
#: A child that does not end when its parent does, nor when it is asked to.
STUBBORN_CHILD = (
    "child = subprocess.Popen([sys.executable, '-c', "
    '"import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(600)"], '
    "stdout=subprocess.PIPE)\n"
    "child.stdout.readline()\n"
    "open(f'{folder}/children', 'a').write(f'{child.pid}\\n')\n"
)


def test_a_process_that_crashes_is_started_again_and_that_is_said(tmp_path: Path) -> None:
    with respawned(f"{WRITE_PID}sys.exit({CODE_OF_A_CRASH})", tmp_path) as process:
        pids = read_pids(tmp_path / "pids", 3)
        process.terminate()
        _, said = process.communicate(timeout=60)

    lines = said.splitlines()
    assert len(set(pids[:3])) == 3
    assert lines[:2] == [
        f"thing ended with {CODE_OF_A_CRASH}; starting it again in 0.4 s",
        f"thing ended with {CODE_OF_A_CRASH}; starting it again in 0.8 s",
    ]
    assert process.returncode == 0


def test_a_process_that_is_killed_is_started_again(tmp_path: Path) -> None:
    with respawned(f"{WRITE_PID}time.sleep(600)", tmp_path):
        (first,) = read_pids(tmp_path / "pids", 1)
        os.kill(first, signal.SIGKILL)

        assert first not in read_pids(tmp_path / "pids", 2)[1:]


def test_the_children_of_a_crashed_process_are_ended_before_the_next_start(tmp_path: Path) -> None:
    look_at_the_others = (
        "others = open(f'{folder}/children').read().split() if os.path.exists(f'{folder}/children') else []\n"
        "def state(pid):\n"
        "    try:\n"
        "        return open(f'/proc/{pid}/stat').read().rpartition(')')[2].split()[0]\n"
        "    except (FileNotFoundError, ProcessLookupError):\n"
        "        return 'X'\n"
        "deadline = time.monotonic() + 5\n"
        "while any(state(pid) not in 'ZX' for pid in others) and time.monotonic() < deadline: time.sleep(0.01)\n"
        "open(f'{folder}/left', 'a').write(f'{sum(state(pid) not in \"ZX\" for pid in others)}\\n')\n"
    )
    program = f"{look_at_the_others}{STUBBORN_CHILD}sys.exit({CODE_OF_A_CRASH})"
    with respawned(program, tmp_path) as process:
        assert read_pids(tmp_path / "left", 2)[:2] == [0, 0]

        read_pids(tmp_path / "children", 2)
        process.terminate()
        process.communicate(timeout=60)

    children = read_pids(tmp_path / "children", 2)
    wait_for("the end of all children", lambda: all(map(is_gone, children)))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_process_in_good_order_and_takes_its_children_with_it(
    tmp_path: Path, number: signal.Signals
) -> None:
    program = (
        f"{STUBBORN_CHILD}"
        "def end(*_):\n"
        "    open(f'{folder}/good_order', 'w').close()\n"
        "    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        f"{WRITE_PID}"
        "time.sleep(600)"
    )
    with respawned(program, tmp_path) as process:
        (main,) = read_pids(tmp_path / "pids", 1)
        (child,) = read_pids(tmp_path / "children", 1)

        process.send_signal(number)
        _, said = process.communicate(timeout=60)

    assert (process.returncode, said) == (0, "")
    assert (tmp_path / "good_order").exists()
    wait_for("the end of process and child", lambda: is_gone(main) and is_gone(child))


def test_the_process_dies_with_a_respawner_that_is_killed(tmp_path: Path) -> None:
    with respawned(f"{WRITE_PID}time.sleep(600)", tmp_path) as process:
        (pid,) = read_pids(tmp_path / "pids", 1)
        process.kill()

        wait_for("the end of the process", lambda: is_gone(pid))


@pytest.mark.parametrize("code", [2, 78])
def test_a_usage_error_is_final(tmp_path: Path, code: int) -> None:
    with respawned(f"{WRITE_PID}sys.exit({code})", tmp_path) as process:
        process.communicate(timeout=60)

    assert (process.returncode, len(read_pids(tmp_path / "pids", 1))) == (code, 1)
