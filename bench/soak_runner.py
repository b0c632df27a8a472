"""Many jobs, a third of them killed, cancelled or failing: nothing of them is left.

    scripts/bench soak_runner [--jobs 1000] [--slots 2]

Runs the jobs on a daemon of our own, in processes as a worker has them. One in nine is cancelled, one in nine fails,
and of one in nine the process that runs it is killed at a random moment, after which another removes what it left. In
the end the daemon keeps what it kept before, its disk holds the same layers, nothing is mounted or left in the
worker's folder, and the disk use of both is that of the beginning within 1 %. The images that are kept on purpose are
dropped first. Before, the daemon gets a base image of 100 MiB, as one that works has, and its databases some jobs to
grow.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from dccf.config import Settings
from dccf.errors import AttemptFailed, AttemptStopped
from dccf.local.daemon import PrivateDaemon
from dccf.models import StopCause
from dccf.runner import docker_runner, imagecache
from dccf.runner.docker_runner import DockerRunner
from dccf.runner.engine import Engine
from tests.runner_kit import Play, runner_settings

DOCKERFILE = (
    "FROM busybox\nRUN head -c 1m /dev/urandom > /layer\nWORKDIR /work\nCOPY text same .\nVOLUME /data\n"
    "CMD for i in 1 2 3 4 5 6 7 8 9; do head -c 100k /dev/zero > /output/$i; done; sleep 0.3; exit $CODE\n"
)
FORK = multiprocessing.get_context("fork")
RANDOM = random.SystemRandom()
SETTLE_SECONDS = 10.0
BASE_BYTES = 100 << 20
#: By how much the disk use may have changed.
DISK_PERCENT = 1
#: bbolt's files grow to the largest size that they ever needed, and never shrink.
WARM_UP_JOBS = 30


def play_one(settings: Settings, number: int) -> str:
    """Play one job to its end, in its own process; give how it ended."""
    kind = ("cancelled", "failing", "killed")[number // 3 % 3] if number % 3 == 0 else "succeeding"
    play = Play(DockerRunner(settings), env={"CODE": "3" if kind == "failing" else "0"}, timeout_seconds=60)
    # So that in two slots or four there are always builds at the same time.
    play.owner = "ann" if number % 4 < 2 else None
    process = FORK.Process(target=attempt, args=(play, kind, number))
    process.start()
    if kind == "killed":
        process.join(RANDOM.uniform(0.05, 1.5))
        if process.pid is not None and process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
    process.join()
    play.close()  # a worker's sweep does this for a process that died
    if kind != "killed" and process.exitcode != 0:
        return f"job {number} ended in a way that it should not"
    return kind


def play_many(settings: Settings, numbers: range, answers: multiprocessing.SimpleQueue[str]) -> None:
    """Play one job after another; a process of its own, as forking beside other threads may block the child."""
    for number in numbers:
        answers.put(play_one(settings, number))


def attempt(play: Play, kind: str, number: int) -> None:
    """Do all that a job needs; a process of its own."""
    if kind == "cancelled":
        threading.Timer(RANDOM.uniform(0.05, 1.0), play.stop.set, [StopCause.CANCEL]).start()
    try:
        ended = play.build_and_run(DOCKERFILE, {"text": str(number % 7).encode(), "same": bytes(100_000)})
        play.collect()
        expected = 3 if kind == "failing" else 0
        os._exit(0 if ended.exit_code == expected else 1)
    except AttemptStopped:
        os._exit(0 if kind == "cancelled" else 1)
    except AttemptFailed as error:
        print(f"job {number}: {error}", flush=True)
        os._exit(1)


def left_of(engine: Engine) -> dict[str, list[str]]:
    """List all that a daemon keeps."""
    client = engine.client
    return {
        "containers": sorted(item["Id"] for item in client.containers(all=True)),
        "images": sorted(item["Id"] for item in client.images(all=True)),
        "volumes": sorted(item["Name"] for item in client.volumes()["Volumes"] or ()),
        "networks": sorted(item["Id"] for item in client.networks()),
        "build cache": sorted(item["ID"] for item in client.df()["BuildCache"] or ()),
    }


def disk_of(folder: Path) -> dict[str, int]:
    """Give the bytes that each folder below one takes on the disk, without those below it and the daemon's log."""
    command = ["du", "-S", "-x", "-B1", "--exclude=dockerd.log", str(folder)]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return {path: int(size) for size, _, path in (line.partition("\t") for line in lines)}


def soak(settings: Settings, folder: Path, jobs: int, slots: int) -> list[str]:
    """Run the jobs; give what is wrong in the end."""
    engine, runner = Engine(settings.docker_url), DockerRunner(settings)
    import_base(engine)
    play_all(settings, min(jobs, WARM_UP_JOBS), slots)
    clear(runner, settings)
    objects, disk = left_of(engine), disk_of(folder)
    began = time.monotonic()
    endings = play_all(settings, jobs, slots)
    seconds = time.monotonic() - began
    print(f"{jobs} jobs in {seconds:.0f} s ({jobs / seconds:.2f} a second): {dict(endings)}")
    wrong = [text for text in endings if text.startswith("job ")]
    clear(runner, settings)
    wrong += [f"left: {name} {now}" for name, now in left_of(engine).items() if now != objects[name]]
    wrong += [f"left: attempt {ref}" for ref in runner.attempts(settings.worker_name)]
    wrong += [
        f"mounted: {line}" for line in Path("/proc/mounts").read_text().splitlines() if f"{folder}/output" in line
    ]
    after = disk_of(folder)
    # Also those that the daemon has lost count of.
    wrong += [
        f"left: layer {path}" for path in sorted(after.keys() - disk.keys()) if Path(path).parent.name == "overlay2"
    ]
    before, grown = sum(disk.values()), sum(after.values()) - sum(disk.values())
    print(f"disk: {before >> 10} KiB before, {grown >> 10} KiB more after ({grown / before:.2%})")
    for path in sorted(disk.keys() | after.keys()):
        change = after.get(path, 0) - disk.get(path, 0)
        if change:
            print(f"  {change >> 10} KiB in {path}")
    if abs(grown) > before * DISK_PERCENT / 100:
        wrong.append(f"the disk use changed by {grown} bytes of {before}")
    return wrong


def play_all(settings: Settings, jobs: int, slots: int) -> Counter[str]:
    """Play jobs in so many processes; give how they ended."""
    answers = FORK.SimpleQueue()
    players = [FORK.Process(target=play_many, args=(settings, range(n, jobs, slots), answers)) for n in range(slots)]
    for player in players:
        player.start()
    endings = Counter(answers.get() for _ in range(jobs))
    for player in players:
        player.join()
    return endings


def import_base(engine: Engine) -> None:
    """Give the daemon an image that stays."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        member = tarfile.TarInfo("base")
        member.size = BASE_BYTES
        archive.addfile(member, io.BytesIO(os.urandom(BASE_BYTES)))
    engine.client.import_image_from_data(packed.getvalue(), repository="base", tag="latest")


def clear(runner: DockerRunner, settings: Settings) -> None:
    """Remove what killed processes left, as a worker's sweep does, and the images that are kept for later jobs."""
    for ref in runner.attempts(settings.worker_name):
        # The tools and builds of a killed process may have ended after the first removal.
        runner.remove(ref)
    imagecache.IN_USE_SECONDS = docker_runner.NAMELESS_SECONDS = 0
    runner._images.trim(0)
    deadline = time.monotonic() + SETTLE_SECONDS
    runner.tidy()
    while runner._engine.client.df()["BuildCache"] and time.monotonic() < deadline:
        time.sleep(0.5)  # the daemon still ends a build whose process was killed
        runner.tidy()


def main() -> int:
    """Run the test; the exit code tells whether nothing was left."""
    parser = argparse.ArgumentParser(prog="scripts/bench soak_runner", description=__doc__)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--slots", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dccf-soak-") as name:
        folder = Path(name)
        daemon = PrivateDaemon(folder / "docker")
        daemon.start()
        try:
            daemon.ensure_busybox()
            settings = runner_settings(docker_url=daemon.docker_url, state_folder=folder, worker_name="test-worker")
            wrong = soak(settings, folder, options.jobs, options.slots)
        finally:
            daemon.stop()
    print("\n".join(wrong) or "nothing is left")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
