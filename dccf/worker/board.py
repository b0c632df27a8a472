"""Shared memory between a worker's main process and its pool processes: who runs what, and who shall stop.

Every pool process has one entry. It writes there which attempt it runs; the main process writes why
that attempt shall stop. A cause carries the tag of the attempt it is meant for and is written in one
aligned 8-byte store, so a process that has gone on to its next job never takes an old one for its own.
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from dataclasses import dataclass
from uuid import UUID

from dccf.models import StopCause

#: More than any worker has slots, twice; an entry is 48 bytes.
ENTRIES = 1024
#: Entries from here on are attempts in the slots of pool processes that died, which the main process goes on with.
ADOPTED = ENTRIES // 2
_RUNNING = struct.Struct("=i16sIQ")  # pid of the pool process (0: idle), job, fence, when the process was started
_PID = struct.Struct("=i")
_CAUSE = struct.Struct("=II")  # tag of the attempt, number of the cause
_CAUSE_OFFSET = 32  # aligned to 8 bytes
_ENTRY_BYTES = 48
_CAUSES = (None, StopCause.CANCEL, StopCause.LOST, StopCause.SHUTDOWN, StopCause.OVERDUE, StopCause.ORPHANED)


@dataclass(frozen=True)
class Running:
    """An attempt that a pool process runs, or ran when it died."""

    entry: int
    pid: int
    job_id: UUID
    fence: int
    #: When the process was started, by which it is told from a later one with the same pid.
    started: int

    @property
    def is_alive(self) -> bool:
        """Whether the process that runs it still exists and is no zombie."""
        state, started = _look_at(self.pid)
        return started == self.started and state not in {b"Z", b"X"}


def _look_at(pid: int) -> tuple[bytes, int]:
    """Give the state of a process and its start in clock ticks since the boot (proc_pid_stat(5)); else 0."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:  # noqa: PTH123 - /proc is no place for pathlib's checks
            fields = stat.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):  # reaped before, or while it was read
        return b"X", 0
    return fields[0], int(fields[19])


def _tag(job_id: UUID, fence: int) -> int:
    return zlib.crc32(job_id.bytes + fence.to_bytes(4, "big"))


class Board:
    """The shared memory; made by the main process before its pool, inherited over fork."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, ENTRIES * _ENTRY_BYTES)

    def begin(self, entry: int, job_id: UUID, fence: int) -> BoardStop:
        """Note that this process runs an attempt; give what tells it to stop."""
        start = entry * _ENTRY_BYTES
        _CAUSE.pack_into(self._memory, start + _CAUSE_OFFSET, 0, 0)
        stop = BoardStop(self._memory, entry, job_id, fence)
        # The pid makes the entry count, so it comes when all else stands: the main process may look at any time.
        _RUNNING.pack_into(self._memory, start, 0, job_id.bytes, fence, stop.running.started)
        _PID.pack_into(self._memory, start, os.getpid())
        return stop

    def adopt(self, slot: int, job_id: UUID, fence: int) -> BoardStop:
        """Note that the main process goes on with an attempt in a pool process's slot; give what tells it to stop."""
        stop = self.begin(ADOPTED + slot, job_id, fence)
        stop.has_parent = False
        return stop

    def is_adopted(self, slot: int) -> bool:
        """Tell whether the slot of a pool process is taken by an attempt that the main process goes on with."""
        pid, *_ = _RUNNING.unpack_from(self._memory, (ADOPTED + slot) * _ENTRY_BYTES)
        return bool(pid)

    def clear(self, running: Running) -> None:
        """Note that an attempt has ended, or that its process's death has been dealt with.

        Its place may belong to another process by now, which has then begun an attempt of its own.
        """
        start = running.entry * _ENTRY_BYTES
        stands = _RUNNING.unpack_from(self._memory, start)
        if stands == (running.pid, running.job_id.bytes, running.fence, running.started):
            _PID.pack_into(self._memory, start, 0)

    def running(self) -> list[Running]:
        """List what the pool processes run."""
        found = []
        for entry in range(ENTRIES):
            pid, job, fence, started = _RUNNING.unpack_from(self._memory, entry * _ENTRY_BYTES)
            if pid:
                found.append(Running(entry, pid, UUID(bytes=job), fence, started))
        return found

    def stop(self, running: Running, cause: StopCause) -> None:
        """Tell an attempt to stop; the first cause stands."""
        offset = running.entry * _ENTRY_BYTES + _CAUSE_OFFSET
        tag = _tag(running.job_id, running.fence)
        if _CAUSE.unpack_from(self._memory, offset)[0] != tag:
            self._memory[offset : offset + _CAUSE.size] = _CAUSE.pack(tag, _CAUSES.index(cause))


class BoardStop:
    """Tells one attempt why to stop; a :class:`~dccf.runner.base.StopSignal`.

    An attempt whose main process has died is orphaned: nobody renews its lease any more, and the next life of the
    worker goes on with its container.
    """

    def __init__(self, memory: mmap.mmap, entry: int, job_id: UUID, fence: int) -> None:
        self.running = Running(entry, os.getpid(), job_id, fence, _look_at(os.getpid())[1])
        self._memory = memory
        self._offset = entry * _ENTRY_BYTES + _CAUSE_OFFSET
        self._tag = _tag(job_id, fence)
        self._pid = os.getpid()
        self._parent = os.getppid()
        #: Whether this is a pool process, which has no business without its main process.
        self.has_parent = True

    def cause(self) -> StopCause | None:
        """Give the cause that was set for this attempt, if any; that its main process died comes before all."""
        if self.has_parent and os.getpid() == self._pid and os.getppid() != self._parent:
            return StopCause.ORPHANED
        tag, number = _CAUSE.unpack_from(self._memory, self._offset)
        return _CAUSES[number] if tag == self._tag and number else None
