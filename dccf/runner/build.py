"""Builds an image from a tar stream, with BuildKit over plain HTTP or with the classic builder.

BuildKit is asked without a session (``POST /build?version=2``): nothing of the worker is within reach of
the build, and closing the connection ends it. It fails with the containerd image store of newer daemons
(measured on 26.1.5), hence the classic builder.
"""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

from dccf.errors import AttemptFailed, AttemptStopped, EngineUnavailable
from dccf.models import Reason, StopCause, Stream
from dccf.runner import bktrace
from dccf.runner.apart import OwnStep, StepNames
from dccf.runner.base import LogSink, StopSignal
from dccf.runner.dockerfile import Dockerfile, Instruction
from dccf.runner.engine import Engine
from dccf.runner.wire import Exchange, Refused

POLL_SECONDS = 0.05
#: Longest wait for the end of an exchange that was cut off; 0.08 s was the most seen.
CUT_SECONDS = 30.0
#: Longest line of JSON in the daemon's answer; BuildKit sends progress in one line.
_LINE_BYTES = 32 << 20

_EXIT_CODE = re.compile(r"(?:exit code|non-zero code): (\d+)")
_CLASSIC_STEP = re.compile(r"Step (\d+)/\d+ : ")
_ANSI_RED = re.compile(r"\x1b\[91m(.*?)\x1b\[0m", re.DOTALL)


class BuildFailed(Exception):
    """Raised when the daemon says that a build failed; ``message`` names line and instruction where known."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Progress(ABC):
    """Turns the daemon's answer into log and result, for one builder."""

    def __init__(self, dockerfile: Dockerfile, log: LogSink) -> None:
        self._instructions = dockerfile.instructions
        self._log = log
        #: Id of the image, once it is known.
        self.image = ""

    def take(self, record: dict[str, Any]) -> None:
        """Take one record of the answer.

        Raises:
            BuildFailed: the record says so.
        """
        if "errorDetail" in record or "error" in record:
            detail = record.get("errorDetail") or {}
            raise BuildFailed(self._failure(str(detail.get("message") or record.get("error")), detail.get("code")))
        self._take(record)

    @abstractmethod
    def _take(self, record: dict[str, Any]) -> None: ...

    @abstractmethod
    def _failing(self) -> Instruction | None: ...

    def _failure(self, message: str, code: object) -> str:
        match = _EXIT_CODE.search(message)
        why = f"exit code {match[1]}" if match else f"exit code {code}" if isinstance(code, int) and code else message
        instruction = self._failing()
        return f"line {instruction.line}: {instruction}: {why}" if instruction else message


class BuildKitProgress(Progress):
    """Reads BuildKit's traces; ``apart`` is the step that was put in, if there is one."""

    def __init__(self, dockerfile: Dockerfile, log: LogSink, apart: OwnStep | None = None) -> None:
        super().__init__(dockerfile, log)
        self._steps = StepNames(dockerfile, apart)
        self._numbers: dict[str, int] = {}
        self._names: dict[str, str] = {}
        self._said: set[str] = set()
        self._failed = ""

    def _take(self, record: dict[str, Any]) -> None:
        if record.get("id") == "moby.image.id":
            self.image = str(record["aux"]["ID"])
        elif record.get("id") == "moby.buildkit.trace":
            try:
                for event in bktrace.decode(base64.b64decode(record["aux"])):
                    self._event(event)
            except (bktrace.TraceError, ValueError) as error:
                raise EngineUnavailable(f"BuildKit's progress makes no sense: {error}") from error

    def _event(self, event: bktrace.Vertex | bktrace.VertexLog) -> None:
        if isinstance(event, bktrace.VertexLog):
            stream = Stream.BUILD_STDERR if event.is_stderr else Stream.BUILD_STDOUT
            self._log.write(stream, event.data)
            return
        if event.name:
            self._names[event.digest] = event.name
        if event.error and not self._failed:
            self._failed = event.digest
        if event.is_started or event.is_cached:
            self._say(event)

    def _say(self, vertex: bktrace.Vertex) -> None:
        """Print the heading of a step once, and say when it was not executed again."""
        if vertex.digest in self._said:
            return
        self._said.add(vertex.digest)
        name = self._steps.shown(vertex.name)
        if name is None:
            return
        number = self._numbers.setdefault(vertex.digest, len(self._numbers) + 1)
        cached = " (cached)" if vertex.is_cached else ""
        self._log.write(Stream.BUILD_STDOUT, f"#{number} {name}{cached}\n".encode())

    def _failing(self) -> Instruction | None:
        return self._steps.instruction(self._names.get(self._failed, ""))


def labelled(text: str, dockerfile: Dockerfile, labels: Mapping[str, str]) -> str:
    """Put labels behind every FROM, so that all that the classic builder makes carries them.

    It labels the finished image only, and leaves the layers of a failed build behind (measured).
    """
    lines = text.split("\n")
    label = "LABEL " + " ".join(f'{key}="{value}"' for key, value in labels.items())
    for instruction in reversed(dockerfile.instructions):
        if instruction.keyword == "FROM":
            lines.insert(instruction.last_line, label)
    return "\n".join(lines)


class ClassicProgress(Progress):
    """Reads the classic builder's text, in which stderr is marked by colour only.

    The Dockerfile that it builds has passed through :func:`labelled`.
    """

    def __init__(self, dockerfile: Dockerfile, log: LogSink) -> None:
        super().__init__(dockerfile, log)
        self._steps: list[Instruction] = []
        for instruction in dockerfile.instructions:
            self._steps += [instruction] * (2 if instruction.keyword == "FROM" else 1)
        self._step = 0

    def _take(self, record: dict[str, Any]) -> None:
        aux = record.get("aux")
        if isinstance(aux, dict) and "ID" in aux:
            self.image = str(aux["ID"])
        text = record.get("stream")
        if not isinstance(text, str):
            return
        match = _CLASSIC_STEP.match(text)
        # A RUN can print such a line too; only the next number can be true.
        if match and int(match[1]) == self._step + 1:
            self._step += 1
        at = 0
        for red in _ANSI_RED.finditer(text):
            self._write(Stream.BUILD_STDOUT, text[at : red.start()])
            self._write(Stream.BUILD_STDERR, red[1])
            at = red.end()
        self._write(Stream.BUILD_STDOUT, text[at:])

    def _write(self, stream: Stream, text: str) -> None:
        if text:
            self._log.write(stream, text.encode("utf-8", "surrogateescape"))

    def _failing(self) -> Instruction | None:
        return self._steps[self._step - 1] if 0 < self._step <= len(self._steps) else None


class Build:
    """One build in a thread of its own, which can be cut off at any time."""

    def __init__(
        self, engine: Engine, parameters: dict[str, str], context: Iterator[bytes], progress: Progress
    ) -> None:
        self._exchange: Exchange = engine.exchange()
        self._parameters = parameters
        self._context = context
        self._progress = progress
        self._error: Exception | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dccf-build", daemon=True)

    def run(self, stop: StopSignal, timeout_seconds: float) -> str:
        """Build, and give the image's id.

        Raises:
            AttemptFailed: ``build_failed``, ``build_timed_out``.
            AttemptStopped: ``stop`` said so; the build is cut off.
            EngineUnavailable: the daemon failed.
        """
        deadline = time.monotonic() + timeout_seconds
        cause: StopCause | None = None
        self._thread.start()
        while not self._ended.wait(POLL_SECONDS):
            cause = stop.cause()
            if cause is not None or time.monotonic() >= deadline:
                self._cut()
                break
        else:
            return self._result()
        if cause is not None:
            raise AttemptStopped(cause)
        raise AttemptFailed(Reason.BUILD_TIMED_OUT, f"The build took longer than {timeout_seconds:g} s.")

    def _cut(self) -> None:
        self._exchange.cut()
        if not self._ended.wait(CUT_SECONDS):
            raise EngineUnavailable(f"A build was cut off and did not end within {CUT_SECONDS:g} s.")

    def _result(self) -> str:
        if isinstance(self._error, BuildFailed | Refused):
            raise AttemptFailed(Reason.BUILD_FAILED, self._error.message) from self._error
        if self._error is not None:
            raise self._error
        if not self._progress.image:
            raise EngineUnavailable("The Docker daemon ended a build without a result.")
        return self._progress.image

    def _run(self) -> None:
        try:
            with self._exchange:
                headers = {"Content-Type": "application/x-tar"}
                self._exchange.request("POST", "/build", self._parameters, self._context, headers)
                for record in _records(self._exchange):
                    self._progress.take(record)
        except Exception as error:  # noqa: BLE001 - whatever the context's files raise is the caller's, in his thread
            self._error = error
        finally:
            self._ended.set()


def _records(exchange: Exchange) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects of an answer, one a line.

    Raises:
        EngineUnavailable: the answer is something else.
    """
    buffer = b""
    while data := exchange.read():
        *lines, buffer = (buffer + data).split(b"\n")
        for line in lines:
            if line.strip():
                yield _record(line)
        if len(buffer) > _LINE_BYTES:
            raise EngineUnavailable("The Docker daemon's answer has a line without end.")
    if buffer.strip():
        yield _record(buffer)


def _record(line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise EngineUnavailable(f"The Docker daemon's answer is no JSON: {line[:100]!r}") from error
    return record if isinstance(record, dict) else {}
