"""Pulls from a registry with a password: it is needed, it is enough, and it is never shown."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dccf.errors import AttemptFailed
from dccf.fields import MIB
from dccf.local.daemon import PrivateDaemon
from dccf.models import Reason, Stream
from dccf.runner import images
from dccf.runner.docker_runner import DockerRunner
from dccf.runner.engine import Engine
from tests.conftest import missing
from tests.processes import wait_for
from tests.runner_kit import Play, runner_settings

pytestmark = pytest.mark.docker

ADDRESS = "127.0.0.1:5017"
IMAGE = f"{ADDRESS}/private/tool:1"
LARGE = f"{ADDRESS}/private/large:1"
USER, PASSWORD = "puller", "pull-me-in-9"
#: bcrypt of the password, the only form that the registry takes.
_HASH = "$2y$05$abcdefghijklmnopqrstuuIy62lXC38hmu3/gEO4SFjji2yb01.gu"
_CONFIG = """
version: 0.1
log: {{level: info}}
storage: {{filesystem: {{rootdirectory: {folder}/data}}}}
http: {{addr: {address}}}
auth: {{htpasswd: {{realm: test, path: {folder}/htpasswd}}}}
"""

MakePlay = Callable[[str | None], Play]


@pytest.fixture(scope="module")
def registry(docker_daemon: PrivateDaemon, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry in reach of the daemon that holds one image; gives the image's name."""
    if shutil.which("docker-registry") is None:
        missing("docker-registry: install the Debian package of that name")
    folder = tmp_path_factory.mktemp("registry")
    (folder / "htpasswd").write_text(f"{USER}:{_HASH}\n")
    (folder / "config.yml").write_text(_CONFIG.format(folder=folder, address=ADDRESS))
    command = ["nsenter", "--net", "--target", str(docker_daemon.pid), "docker-registry", "serve"]
    log = folder / "log"
    with log.open("wb") as output:
        server = subprocess.Popen([*command, str(folder / "config.yml")], stdout=output, stderr=output)
    try:
        wait_for("the registry", lambda: "listening on" in log.read_text() or server.poll() is not None)
        client = Engine(docker_daemon.docker_url).client
        client.tag("busybox:latest", f"{ADDRESS}/private/tool", "1")
        pushed = client.push(IMAGE, auth_config={"username": USER, "password": PASSWORD}).splitlines()
        client.remove_image(IMAGE)
        assert "error" not in json.loads(pushed[-1]), pushed
        yield IMAGE
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def play(docker_url: str, registry: str, tmp_path: Path) -> Iterator[MakePlay]:
    """Makes attempts whose worker has an auth file with this text, or none."""
    made: list[Play] = []

    def make(text: str | None) -> Play:
        changes: dict[str, object] = {}
        if text is not None:
            (tmp_path / "config.json").write_text(text)
            changes["registry_auth_file"] = tmp_path / "config.json"
        made.append(Play(DockerRunner(runner_settings(docker_url=docker_url, **changes))))
        return made[-1]

    yield make
    for each in made:
        each.close()
    Engine(docker_url).remove_image(registry)


def auth_file(password: str = PASSWORD, host: str = ADDRESS) -> str:
    """The text that ``docker login`` writes."""
    return json.dumps({"auths": {host: {"auth": base64.b64encode(f"{USER}:{password}".encode()).decode()}}})


def test_a_private_base_image_is_pulled_with_the_password_of_its_registry(play: MakePlay) -> None:
    attempt = play(auth_file())

    ended = attempt.build_and_run(f"FROM {IMAGE}\nRUN echo built\nCMD echo ran")

    assert (ended.exit_code, attempt.sink.data(Stream.STDOUT)) == (0, b"ran\n")
    shown = b"".join(attempt.sink.data(stream) for stream in Stream) + repr(vars(attempt.runner)).encode()
    assert f"pulling {IMAGE}".encode() in shown
    assert PASSWORD.encode() not in shown
    assert base64.b64encode(f"{USER}:{PASSWORD}".encode()) not in shown


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, f"without a password for {ADDRESS}"),
        (auth_file(host="other.example"), f"without a password for {ADDRESS}"),
        (auth_file("wrong-password"), f"with the password for {ADDRESS}"),
        ("{", "DCCF_REGISTRY_AUTH_FILE is not as it must be: it is no JSON object"),
        (json.dumps({"auths": {ADDRESS: {}}, "credsStore": "x"}), "credential helpers are not used"),
    ],
)
def test_a_refusal_says_whether_a_password_was_used(play: MakePlay, text: str | None, words: str) -> None:
    with pytest.raises(AttemptFailed) as failed:
        play(text).build(f"FROM busybox\nCOPY --from={IMAGE} /bin/busybox /x\nCMD true")

    assert failed.value.reason in {Reason.PULL_FAILED, Reason.IMAGE_NOT_FOUND}
    assert failed.value.message.startswith(f"line 2: the image {IMAGE} ")
    assert words in failed.value.message
    assert "wrong-password" not in failed.value.message


@pytest.fixture
def large(docker_url: str, registry: str) -> Iterator[str]:
    """An image in the registry with a layer of 20 MiB that the daemon does not have."""
    del registry
    client = Engine(docker_url).client
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        member = tarfile.TarInfo("random")
        member.size = 20 * MIB
        archive.addfile(member, io.BytesIO(os.urandom(member.size)))
    client.import_image_from_data(packed.getvalue(), repository=f"{ADDRESS}/private/large", tag="1")
    client.push(LARGE, auth_config={"username": USER, "password": PASSWORD})
    client.remove_image(LARGE)
    yield LARGE
    Engine(docker_url).remove_image(LARGE)


def pull(play: MakePlay, **changes: object) -> Play:
    attempt = play(auth_file())
    attempt.runner = DockerRunner(attempt.runner._settings.model_copy(update=changes))  # type: ignore[attr-defined]
    attempt.build(f'FROM {LARGE}\nCMD ["true"]')
    return attempt


def test_a_pull_says_how_far_it_is(play: MakePlay, large: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "WORD_SECONDS", 0)

    said = pull(play).sink.data(Stream.BUILD_STDOUT).decode()

    assert re.search(rf"pulling {large}: \d+\.\d of 20\.\d MiB\n", said)


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"pull_limit_bytes": 19 * MIB}, "19 MiB to pull"), ({"image_limit_bytes": 19 * MIB}, "19 MiB unpacked")],
)
def test_a_base_image_over_a_limit_is_refused_and_does_not_stay(
    play: MakePlay, large: str, docker_url: str, changes: dict[str, object], words: str
) -> None:
    with pytest.raises(
        AttemptFailed, match=rf"line 1: the image {large} is too large: {words} are allowed"
    ) as failed:
        pull(play, **changes)

    assert failed.value.reason == Reason.INVALID_IMAGE
    assert Engine(docker_url).image(large) is None
