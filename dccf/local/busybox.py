"""The image ``busybox`` for machines that reach no registry, made from the machine's own busybox."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import struct
import subprocess
import tarfile
from pathlib import Path

import docker.errors
import requests

from dccf.errors import LocalStackError
from dccf.runner.sdk import SdkClient

NAME = "busybox:latest"

_FOLDERS = {"bin": 0o755, "etc": 0o755, "home": 0o755, "root": 0o700, "tmp": 0o1777, "usr": 0o755, "var": 0o755}
_FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
}
_PROGRAM_INTERPRETER = 3  # PT_INTERP in elf(5): the file needs a dynamic loader


def ensure(docker_url: str, *, timeout_seconds: float) -> str:
    """Make sure that the image is there, and give its id: it is pulled, or else made.

    ``timeout_seconds`` is the longest wait for the registry.

    Raises:
        LocalStackError: it can neither be pulled nor made; the message says what to do.
    """
    try:
        with contextlib.closing(SdkClient(docker_url, version="1.41", timeout_seconds=timeout_seconds)) as client:
            if not client.images(name=NAME):
                _pull_or_make(client)
            return str(client.images(name=NAME, quiet=True)[0])
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise LocalStackError(f"The Docker daemon at {docker_url} does not take busybox: {error}") from error


def _pull_or_make(client: SdkClient) -> None:
    try:
        client.pull(NAME)
    except (docker.errors.APIError, requests.RequestException):
        _make(client)  # no registry in reach


def _make(client: SdkClient) -> None:
    program = shutil.which("busybox")
    if program is None or not _is_static(Path(program)):
        raise LocalStackError(
            "The image busybox cannot be pulled, and no static busybox is installed to make it from. "
            "Install busybox-static, or give the daemon access to a registry."
        )
    changes = ["CMD " + json.dumps(["sh"]), "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
    repository, tag = NAME.split(":")
    client.import_image_from_data(_root_folder(program), repository=repository, tag=tag, changes=changes)


def _is_static(program: Path) -> bool:
    """Whether a 64-bit ELF program runs without a dynamic loader; layout in elf(5)."""
    with program.open("rb") as file:
        header = file.read(64)
        if header[:5] != b"\x7fELF\x02":
            return False
        order = "<" if header[5] == 1 else ">"
        (offset,) = struct.unpack_from(order + "Q", header, 32)
        size, count = struct.unpack_from(order + "HH", header, 54)
        file.seek(offset)
        table = file.read(size * count)
    kinds = {struct.unpack_from(order + "I", table, number * size)[0] for number in range(count)}
    return _PROGRAM_INTERPRETER not in kinds


def _root_folder(program: str) -> bytes:
    """Pack a root folder with busybox and a link for each of its applets as a tar archive."""
    applets = subprocess.run([program, "--list"], capture_output=True, text=True, check=True).stdout.split()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, mode in _FOLDERS.items():
            archive.addfile(_member(name, tarfile.DIRTYPE, mode))
        for name, text in _FILES.items():
            archive.addfile(_member(name, tarfile.REGTYPE, 0o644, len(text)), io.BytesIO(text.encode("ascii")))
        binary = Path(program).read_bytes()
        archive.addfile(_member("bin/busybox", tarfile.REGTYPE, 0o755, len(binary)), io.BytesIO(binary))
        for applet in sorted(set(applets) - {"busybox"}):
            link = _member(f"bin/{applet}", tarfile.SYMTYPE, 0o777)
            link.linkname = "busybox"
            archive.addfile(link)
    return packed.getvalue()


def _member(name: str, kind: bytes, mode: int, size: int = 0) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.mode, member.size = kind, mode, size
    return member
