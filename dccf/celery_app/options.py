"""Reading what people give to ``run_dockerfile``: Dockerfile, files, options, parents' results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias
from uuid import UUID

from dccf import errors
from dccf.lifecycle.ids import parse_job_id
from dccf.lifecycle.intake import DOCKERFILE, Intake

#: What may stand for a file: its content, or where it lies.
Content: TypeAlias = "bytes | str | Path"
#: Files by their path in the bundle, or a folder.
Files: TypeAlias = "Mapping[str, Content] | str | Path"

DEFAULT_OWNER = "celery"
_READ_BYTES = 1 << 20


def read_files(dockerfile: Content | None, files: Files | None) -> Iterator[tuple[str, int, bytes | Path]]:
    """Yield ``(path, mode, content)`` for everything that makes up a bundle.

    Raises:
        InvalidRequest: something is neither content nor a file or folder that can be read.
    """
    if dockerfile is not None:
        yield (DOCKERFILE, *_content(DOCKERFILE, dockerfile))
    if isinstance(files, str | Path):
        yield from _walk("", Path(files))
        return
    for path, content in (files or {}).items():
        if isinstance(content, Path) and content.is_dir():
            yield from _walk(f"{path}/", content)
        else:
            yield (path, *_content(path, content))


def _content(path: str, content: Any) -> tuple[int, bytes | Path]:
    if isinstance(content, str):
        return 0o644, content.encode()
    if isinstance(content, bytes | bytearray):
        return 0o644, bytes(content)
    if isinstance(content, Path):
        if not content.is_file():
            raise errors.InvalidRequest(f"{path!r}: there is no file {content}")
        return content.stat().st_mode, content
    raise errors.InvalidRequest(f"{path!r} must be bytes, text or a pathlib.Path, not {type(content).__name__}")


def _walk(prefix: str, folder: Path) -> Iterator[tuple[str, int, Path]]:
    if not folder.is_dir():
        raise errors.InvalidRequest(f"there is no folder {folder}")
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield f"{prefix}{path.relative_to(folder).as_posix()}", path.stat().st_mode, path


def fill(intake: Intake, dockerfile: Content | None, files: Files | None) -> None:
    """Store everything that makes up a bundle.

    Raises:
        InvalidRequest: a name or content is not allowed, or there is no Dockerfile.
        StoreUnavailable: PostgreSQL is away.
    """
    for path, mode, content in read_files(dockerfile, files):
        intake.add(path, _pieces(content) if isinstance(content, Path) else content, mode)
    intake.finish()


def read_all(call: Mapping[str, Any]) -> dict[str, Any]:
    """Read a call's files into memory, for eager mode, where no PostgreSQL takes them.

    Raises:
        InvalidRequest: something is neither content nor a file or folder that can be read.
    """
    kept = {name: value for name, value in call.items() if name not in {"dockerfile", "files"}}
    files = {
        path: b"".join(_pieces(content)) if isinstance(content, Path) else content
        for path, _, content in read_files(call.get("dockerfile"), call.get("files"))
    }
    return {**kept, "files": files}


def _pieces(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as source:
            while piece := source.read(_READ_BYTES):
                yield piece
    except OSError as error:
        raise errors.InvalidRequest(f"{path} cannot be read: {error}") from error


def parent_ids(args: Sequence[Any]) -> tuple[UUID, ...]:
    """Read the ids of the parents whose artefacts the job gets from the results a canvas passes on.

    Raises:
        InvalidRequest: the argument is no result of a job, or there are several.
    """
    if not args:
        return ()
    if len(args) > 1:
        raise errors.InvalidRequest(
            "run_dockerfile takes one positional argument, a parent's result; give everything else by name"
        )
    given = args[0] if isinstance(args[0], list | tuple) else [args[0]]
    return tuple(_parent_id(result) for result in given)


def _parent_id(result: Any) -> UUID:
    if isinstance(result, Mapping) and "job_id" in result:
        return parse_job_id(str(result["job_id"]))
    raise errors.InvalidRequest(
        "the positional argument must be the result of a job (or a list of them); "
        "after another task use run_dockerfile.si(...), which takes no result"
    )
