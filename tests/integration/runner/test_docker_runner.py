"""What the Docker runner does beyond the contract: both builders, pulls, a daemon that dies or is not ours."""

from __future__ import annotations

import dataclasses
import io
import os
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import docker.errors
import pytest

from dccf.errors import AttemptFailed, AttemptStopped, EngineUnavailable
from dccf.local.daemon import PrivateDaemon
from dccf.models import Reason, StopCause, Stream
from dccf.runner import housekeeping
from dccf.runner.docker_runner import DockerRunner
from dccf.runner.engine import Engine
from dccf.runner.probe import probe
from tests.fixtures_docker import start_daemon
from tests.runner_kit import Play, runner_settings

pytestmark = pytest.mark.docker

Builder = Literal["buildkit", "classic"]

#: Answers a registry's first questions; the name of the repository says how it answers for a manifest.
REGISTRY = """
import http.server, json, sys, time
CODES = {404: 'MANIFEST_UNKNOWN', 429: 'TOOMANYREQUESTS'}
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        parts = self.path.split('/')
        status = 200 if self.path == '/v2/' else int(parts[2]) if parts[2].isdigit() else 404
        if parts[2] == 'slow':
            time.sleep(1000)
        body = json.dumps({'errors': [{'code': CODES.get(status, 'UNKNOWN'), 'message': 'scripted'}]}).encode()
        self.send_response(status)
        self.send_header('Content-Type', 'application/json')
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_HEAD = do_GET
server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""


@pytest.fixture(params=["buildkit", "classic"])
def runner(request: pytest.FixtureRequest, docker_url: str) -> DockerRunner:
    """A runner with each builder in turn."""
    return runner_with(docker_url, request.param)


def runner_with(docker_url: str, builder: Builder, **changes: object) -> DockerRunner:
    """A runner that uses this builder."""
    runner = DockerRunner(runner_settings(docker_url=docker_url, **changes))
    found = dataclasses.replace(probe(Engine(docker_url)), builder=builder)
    runner._capabilities = found
    return runner


@pytest.fixture
def play(runner: DockerRunner) -> Iterator[Play]:
    """An attempt; nothing of it may be left."""
    client = Engine(runner._settings.docker_url).client
    images, containers = set(client.images(all=True, quiet=True)), client.containers(all=True, quiet=True)
    attempt = Play(runner)
    yield attempt
    attempt.close()
    assert set(client.images(all=True, quiet=True)) <= images
    assert containers == client.containers(all=True, quiet=True)


@pytest.fixture
def registry(docker_daemon: PrivateDaemon) -> Iterator[str]:
    """A registry in reach of the daemon; gives its address."""
    server = subprocess.Popen(
        ["nsenter", "--net", "--target", str(docker_daemon.pid), sys.executable, "-c", REGISTRY],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert server.stdout is not None
    with server.stdout:
        yield f"127.0.0.1:{int(server.stdout.readline())}"
        server.kill()
        server.wait()


def test_both_builders_give_the_same_image_and_streams(play: Play) -> None:
    ended = play.build_and_run(
        "FROM busybox AS one\nRUN echo out; echo err >&2\nCOPY a.txt /\n"
        'FROM scratch\nCOPY --from=one / /\nENV X=1\nWORKDIR /work\nENTRYPOINT ["sh", "-c"]\n'
        'CMD ["pwd; cat /a.txt; echo $X"]',
        {"a.txt": b"a\n", "ignored/b": b"b", ".dockerignore": b"ignored\n"},
    )

    assert ended.exit_code == 0
    assert play.sink.data(Stream.STDOUT) == b"/work\na\n1\n"
    assert b"out\n" in play.sink.data(Stream.BUILD_STDOUT)
    assert play.sink.data(Stream.BUILD_STDERR) == b"err\n"


@pytest.mark.parametrize(
    "instruction", ["COPY a /given/a", "COPY folder /given", "ADD a /given/a", "ADD a.tar /given"]
)
def test_every_image_has_its_own_files_and_they_belong_to_root(play: Play, instruction: str) -> None:
    """Two images at once, since BuildKit made the same empty layer of both on a daemon with userns-remap."""
    other = Play(play.runner)
    dockerfile = f"FROM busybox\n{instruction}\nCMD cat /given/a && stat -c %u:%g /given/a"

    def files(content: bytes) -> dict[str, bytes]:
        return {"a": content, "folder/a": content, "a.tar": archive("a", content)}

    try:
        first, second = play.build(dockerfile, files(b"mine\n")), other.build(dockerfile, files(b"yours\n"))
        assert [play.run(first).exit_code, other.run(second).exit_code] == [0, 0]
    finally:
        other.close()

    assert play.sink.data(Stream.STDOUT) == b"mine\n0:0\n"
    assert other.sink.data(Stream.STDOUT) == b"yours\n0:0\n"


def archive(name: str, content: bytes) -> bytes:
    """A tar archive with one file."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


@pytest.mark.parametrize(
    ("dockerfile", "message"),
    [
        ("FROM busybox\n\nRUN false", "line 3: RUN false: exit code 1"),
        ("FROM busybox\nRUN true \\\n  && exit 7\nCMD true", "line 2: RUN true && exit 7: exit code 7"),
        (
            "FROM busybox AS a\nRUN true\nFROM busybox AS b\nRUN true\nRUN exit 5\nFROM busybox\nCOPY --from=b / /\n",
            "line 5: RUN exit 5: exit code 5",
        ),
        ("ARG V=1\nFROM busybox\nARG V\nENV A=b\nRUN exit $V", "line 5: RUN exit $V: exit code 1"),
        ("FROM busybox AS a\nFROM a\nRUN true\nRUN exit 6", "line 4: RUN exit 6: exit code 6"),
    ],
)
def test_a_failed_instruction_is_named_with_its_line(play: Play, dockerfile: str, message: str) -> None:
    with pytest.raises(AttemptFailed) as failed:
        play.build(dockerfile)

    assert (Reason.BUILD_FAILED, message) == (failed.value.reason, failed.value.message)


def test_a_missing_source_names_its_line(play: Play) -> None:
    with pytest.raises(AttemptFailed, match=r"line 2: COPY nope /x: .*nope") as failed:
        play.build("FROM busybox\nCOPY nope /x\nCMD true")

    assert failed.value.reason == Reason.BUILD_FAILED


@pytest.mark.parametrize("bad", ["COPY x", "RUN --nope true", "EXPOSE x", "WORKDIR", "FROM busybox AS 1a-"])
def test_what_the_daemon_does_not_parse_fails_the_build(play: Play, bad: str) -> None:
    with pytest.raises(AttemptFailed) as failed:
        play.build(f"FROM busybox\n{bad}\nCMD true")

    assert failed.value.reason == Reason.BUILD_FAILED


def test_an_unknown_instruction_is_named_with_its_line(play: Play) -> None:
    with pytest.raises(AttemptFailed, match="line 3: FOO: there is no such instruction"):
        play.build("FROM busybox\n\nFOO bar")


def test_a_cut_off_build_leaves_nothing(play: Play) -> None:
    errors: list[BaseException] = []

    def build() -> None:
        try:
            play.build("FROM busybox\nRUN touch /layer\nRUN echo up; sleep 1000")
        except AttemptStopped as error:
            errors.append(error)

    thread = threading.Thread(target=build)
    thread.start()
    play.sink.wait_for(Stream.BUILD_STDOUT, b"up\n")
    play.stop.set(StopCause.CANCEL)
    thread.join(30)

    assert len(errors) == 1


def test_a_file_of_the_context_that_cannot_be_read_fails_with_its_own_error(play: Play) -> None:
    from dccf.errors import StoreUnavailable
    from dccf.runner.base import ContextFile
    from tests.runner_kit import context_of

    def broken() -> Iterator[bytes]:
        yield b"x"
        raise StoreUnavailable("gone")

    with pytest.raises(StoreUnavailable):
        play.build_context([*context_of("FROM busybox\nCOPY x /\nCMD true"), ContextFile("x", 2, 0o644, broken())])


@pytest.mark.parametrize(
    ("repository", "reason"),
    [
        ("404/x", Reason.IMAGE_NOT_FOUND),
        ("500/x", Reason.PULL_FAILED),
        ("429/x", Reason.PULL_FAILED),
        ("slow/x", Reason.PULL_TIMED_OUT),
    ],
)
def test_pulls_that_fail_are_told_apart(docker_url: str, registry: str, repository: str, reason: Reason) -> None:
    attempt = Play(runner_with(docker_url, "buildkit", pull_timeout_seconds=2))

    with pytest.raises(AttemptFailed, match="line 2") as failed:
        attempt.build(f"# a comment\nFROM {registry}/{repository}\nCMD true")

    assert reason == failed.value.reason


def test_a_registry_out_of_reach_is_not_the_users_fault(docker_url: str) -> None:
    attempt = Play(runner_with(docker_url, "buildkit"))

    with pytest.raises(AttemptFailed) as failed:
        attempt.build("FROM 127.0.0.1:1/nothing\nCMD true")

    assert failed.value.reason == Reason.PULL_FAILED


@pytest.mark.parametrize("extra", ["USER nosuch", "WORKDIR /etc/passwd", "VOLUME /proc"])
def test_an_image_that_cannot_be_started_is_told_from_a_daemon_that_cannot_start(docker_url: str, extra: str) -> None:
    attempt = Play(runner_with(docker_url, "buildkit"))

    with pytest.raises(AttemptFailed) as failed:
        attempt.build_and_run(f"FROM busybox\n{extra}\nCMD true")

    attempt.close()
    assert failed.value.reason in {Reason.INVALID_IMAGE, Reason.BUILD_FAILED}


def test_an_image_without_a_command_is_invalid(docker_url: str) -> None:
    attempt = Play(runner_with(docker_url, "buildkit"))

    with pytest.raises(AttemptFailed, match="CMD") as failed:
        attempt.build("FROM scratch\nCOPY a /\n", {"a": b"a"})

    attempt.close()
    assert failed.value.reason == Reason.INVALID_IMAGE


def test_an_image_that_runs_as_another_user_can_write_its_output(docker_url: str) -> None:
    attempt = Play(runner_with(docker_url, "buildkit"))

    attempt.build_and_run(
        "FROM busybox\nRUN mkdir /output && echo kept > /output/built\nUSER 1234:1234\nCMD id -u > /output/x"
    )

    assert attempt.collect() == {"built": b"kept\n", "x": b"1234\n"}
    attempt.close()


def test_a_bridge_is_there_when_it_is_allowed_and_asked_for(docker_url: str) -> None:
    runner = runner_with(docker_url, "buildkit", allow_bridge=True, bridge_firewall="off")
    attempt = Play(runner, network="bridge")

    attempt.build_and_run("FROM busybox\nCMD ls /sys/class/net")

    assert b"eth0" in attempt.sink.data(Stream.STDOUT)
    attempt.close()


def test_a_forked_process_may_use_a_runner_made_before(docker_url: str) -> None:
    runner = runner_with(docker_url, "buildkit")
    runner.check()

    pid = os.fork()
    if pid == 0:
        attempt = Play(runner)
        ended = attempt.build_and_run("FROM busybox\nCMD exit 3")
        attempt.close()
        os._exit(ended.exit_code or 0)

    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
    assert runner.check().engine == "docker"


# The SDK leaves a socket open for each connection that is refused.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_daemon_that_dies_is_no_end_of_a_container(tmp_path: Path) -> None:
    daemon = start_daemon(tmp_path / "docker")
    attempt = Play(DockerRunner(runner_settings(docker_url=daemon.docker_url)))
    image = attempt.build("FROM busybox\nCMD echo up; sleep 1000")
    errors: list[BaseException] = []

    def run() -> None:
        try:
            attempt.run(image)
        except EngineUnavailable as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    attempt.sink.wait_for(Stream.STDOUT, b"up\n")
    daemon.kill()
    thread.join(30)

    assert len(errors) == 1
    with pytest.raises(EngineUnavailable, match="Start it, or set DCCF_DOCKER_URL"):
        attempt.runner.check()

    daemon.start()
    assert [attempt.attempt] == attempt.runner.attempts("test-worker")
    attempt.close()
    assert attempt.runner.attempts("test-worker") == []
    daemon.stop()


@pytest.mark.parametrize("is_exclusive", [True, False])
def test_what_is_old_goes_from_a_daemon_of_our_own_only(
    docker_url: str, monkeypatch: pytest.MonkeyPatch, is_exclusive: bool
) -> None:
    monkeypatch.setattr(housekeeping, "IDLE_SECONDS", -1)  # the daemon's times are whole seconds
    runner, client = runner_with(docker_url, "buildkit"), Engine(docker_url).client
    assert runner._capabilities is not None
    runner._capabilities = dataclasses.replace(runner._capabilities, is_exclusive=is_exclusive)
    play = Play(runner)
    play.build_and_run("FROM busybox\nCMD true")  # its container has ended, and is the worker's to remove
    ended = client.create_container("busybox", ["true"], name="ended")
    client.create_volume("unused")
    client.commit(ended["Id"], repository="base", tag="1")
    nameless = client.commit(ended["Id"], changes=["LABEL x=y"])["Id"]

    def left() -> list[bool]:
        looks = [
            lambda: client.inspect_container("ended"),
            lambda: client.inspect_volume("unused"),
            lambda: client.inspect_image(nameless),
            lambda: client.inspect_image("base:1"),
        ]
        return [is_there(look) for look in looks]

    try:
        runner.tidy()
        assert left() == [not is_exclusive] * 3 + [True]
        assert play.collect() == {}
        runner.drop_kept_images()
        assert left() == [not is_exclusive] * 4
        assert client.inspect_image("busybox")
    finally:
        play.close()
        if not is_exclusive:
            client.remove_container("ended")
            client.remove_volume("unused")
            client.remove_image(nameless)
            client.remove_image("base:1")


def is_there(look: Callable[[], object]) -> bool:
    try:
        look()
    except docker.errors.NotFound:
        return False
    return True


@pytest.mark.parametrize("builder", ["buildkit", "classic"])
def test_on_a_daemon_that_is_not_ours_foreign_objects_are_not_touched(docker_url: str, builder: Builder) -> None:
    client = Engine(docker_url).client
    runner = runner_with(docker_url, builder)
    assert runner._capabilities is not None
    runner._capabilities = dataclasses.replace(runner._capabilities, is_exclusive=False)
    foreign = client.create_container("busybox", ["true"], name="foreign", labels={"dccf.managed": "true"})
    client.create_volume("foreign")
    client.commit(foreign["Id"], repository="foreign", tag="1")
    dangling = client.commit(foreign["Id"])["Id"]
    attempt = Play(runner)

    attempt.build_and_run("FROM busybox\nRUN touch /x\nCMD true")
    attempt.close()

    assert client.inspect_container("foreign")
    assert client.inspect_volume("foreign")
    assert client.inspect_image("foreign:1")
    assert client.inspect_image(dangling)
    client.remove_container("foreign")
    client.remove_volume("foreign")
    client.remove_image("foreign:1")
    client.remove_image(dangling)
