"""Where a container's ``/output`` lies: four stores, told apart by how the worker reaches it.

=========== ============================================== ================================================
store       needs                                          gives
=========== ============================================== ================================================
``loop``    root, loop devices, the daemon on this machine a hard limit on bytes and files; nothing to delete
``plain``   root, a folder that the daemon sees as well    files read straight from the disk
``archive`` nothing                                        files read as a stream that the daemon packs
``tmpfs``   memory, one more container a job               as ``archive``, with a hard limit on bytes and files
=========== ============================================== ================================================

A ``tmpfs`` is the daemon's as well; the kernel keeps it only while a running container has it mounted.
In all of them ``/output`` is a volume of the daemon's, so that what an image has there is copied into it.
The worker keeps what is its own in one folder for each worker, under the attempt's name: anybody may clean up.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from uuid import UUID

from dccf.config import Settings
from dccf.errors import EngineUnavailable
from dccf.runner.base import AttemptRef
from dccf.runner.collect import ENTRIES_PER_FILE, OutputLimits
from dccf.runner.spec import name_of

Kind = Literal["loop", "plain", "archive", "tmpfs"]

#: Room for the file system's own tables, and for seeing by how much a job exceeds its limit.
_SLACK_BYTES = 32 << 20
_INODE_BYTES = 256
#: So that what exceeds the limit by a byte can be written and seen.
_PAGE_BYTES = 4096
_TOOL_SECONDS = 60.0
_NAME = re.compile(r"dccf-([0-9a-f-]{36})-(\d+)(?:\.img)?")
_WRITABLE = 0o777
_KIND_OF_TYPE: dict[str, Kind] = {"": "archive", "tmpfs": "tmpfs", "none": "plain", "ext4": "loop"}


@dataclass(frozen=True)
class OutputStore:
    """One kind of store, in a folder of this machine."""

    kind: Kind
    root: Path
    limits: OutputLimits

    @property
    def is_daemons(self) -> bool:
        """Whether only the daemon reaches it."""
        return self.kind in {"archive", "tmpfs"}

    @property
    def _inodes(self) -> int:
        return self.limits.files * ENTRIES_PER_FILE + 64

    def prepare(self, attempt: AttemptRef) -> dict[str, str]:
        """Make room for an attempt's output; give the options of the volume for it.

        Raises:
            EngineUnavailable: this machine cannot.
        """
        if self.kind == "archive":
            return {}
        if self.kind == "tmpfs":
            options = f"size={self.limits.total_bytes + _PAGE_BYTES},nr_inodes={self._inodes},nosuid,nodev"
            return {"type": "tmpfs", "device": "tmpfs", "o": options}
        folder = self._folder(attempt)
        try:
            folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
            if self.kind == "plain":
                return {"type": "none", "o": "bind", "device": str(folder)}
            self._make_image(folder.with_suffix(".img"))
            self._mount(folder)
            # The tool makes it for repairs; a job would wonder.
            with contextlib.suppress(FileNotFoundError):
                (folder / "lost+found").rmdir()
            return {"type": "ext4", "o": "nosuid,nodev", "device": _device_of(folder)}
        except OSError as error:
            raise EngineUnavailable(f"The worker cannot make room for /output in {folder.parent}: {error}") from error

    def open_to_all(self, attempt: AttemptRef) -> bool:
        """Let whatever user an image runs as write; tells whether it could be done from here."""
        if self.is_daemons:
            return False
        descriptor = os.open(self._folder(attempt), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            os.fchmod(descriptor, _WRITABLE)
        finally:
            os.close(descriptor)
        return True

    def folder(self, attempt: AttemptRef) -> Path | None:
        """Give the folder to read an attempt's output from, or ``None`` when it is the daemon's alone.

        Raises:
            EngineUnavailable: it is gone.
        """
        if self.is_daemons:
            return None
        folder = self._folder(attempt)
        if self.kind == "loop" and not os.path.ismount(folder):
            self._mount(folder)  # the machine was started again meanwhile
        if not folder.is_dir():
            raise EngineUnavailable(f"The output folder {folder} is gone.")
        return folder

    def is_full(self, attempt: AttemptRef) -> bool:
        """Whether the container could write no more at its end."""
        if self.kind != "loop":
            return False
        room = os.statvfs(self._folder(attempt))
        return room.f_bavail == 0 or room.f_favail == 0

    def remove(self, attempt: AttemptRef) -> None:
        """Remove an attempt's output, of whatever kind it is; it may be gone.

        Raises:
            EngineUnavailable: it does not go.
        """
        folder = self._folder(attempt)
        while os.path.ismount(folder):
            _run("umount", "--lazy", str(folder))
        if folder.exists():
            # shutil's recursion ends at a thousand levels, and a container can make more.
            _run("rm", "-rf", "--one-file-system", "--", str(folder))
        folder.with_suffix(".img").unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # others have something there
            folder.parent.rmdir()

    def attempts(self, worker: str) -> list[AttemptRef]:
        """List the attempts of a worker that have something here."""
        try:
            names = [path.name for path in (self.root / worker).iterdir()]
        except FileNotFoundError:
            return []
        matches = (_NAME.fullmatch(name) for name in names)
        return [AttemptRef(UUID(match[1]), int(match[2]), worker) for match in matches if match]

    def _folder(self, attempt: AttemptRef) -> Path:
        return self.root / attempt.worker / name_of(attempt)

    def _make_image(self, image: Path) -> None:
        inodes = self._inodes
        size = self.limits.total_bytes + self.limits.total_bytes // 16 + inodes * _INODE_BYTES + _SLACK_BYTES
        with image.open("wb") as file:
            file.truncate(size)
        options = ["-q", "-F", "-t", "ext4", "-m", "0", "-N", str(inodes), "-O", "^has_journal,^resize_inode"]
        _run("mke2fs", *options, "-E", "lazy_itable_init=1,nodiscard", str(image))

    @staticmethod
    def _mount(folder: Path) -> None:
        # The kernel frees the loop device by itself when nobody has it mounted any more. Where the file has one
        # already, in another mount namespace, util-linux's mount takes that one (seen with 2.38.1).
        _run("mount", "-o", "loop,nosuid,nodev", str(folder.with_suffix(".img")), str(folder))


def store_of(settings: Settings, kind: Kind) -> OutputStore:
    """Make a store of one kind as the settings want it."""
    limits = OutputLimits(settings.output_limit_bytes, settings.output_file_limit_bytes, settings.output_files_limit)
    return OutputStore(kind, settings.output_folder or settings.state_folder / "output", limits)


def kind_of(options: Mapping[str, str]) -> Kind:
    """Tell which kind of store a volume with these options belongs to; see :meth:`OutputStore.prepare`."""
    return _KIND_OF_TYPE[options.get("type", "")]


def can_loop() -> bool:
    """Whether this process may try to make file systems in files."""
    tools = ("mke2fs", "mount", "umount")
    return os.geteuid() == 0 and Path("/dev/loop-control").exists() and all(map(shutil.which, tools))


def _device_of(folder: Path) -> str:
    number = folder.stat().st_dev
    device = Path("/dev", Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}").readlink().name)
    if not device.is_block_device():
        raise OSError(f"{device} is no block device")
    return str(device)


def _run(*command: str) -> None:
    """Run one of the system's tools.

    Raises:
        EngineUnavailable: it failed; the message has its words.
    """
    try:
        subprocess.run(
            command,
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=_TOOL_SECONDS,
        )
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode("utf-8", "replace").strip()
        raise EngineUnavailable(f"{command[0]} failed on this worker: {said}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineUnavailable(f"{command[0]} failed on this worker: {error}") from error
