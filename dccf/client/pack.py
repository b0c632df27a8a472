"""Packing: which files are sent with a job, and under which names."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from dccf import errors
from dccf.client.dockerignore import DockerIgnore
from dccf.client.multipart import Part

DOCKERFILE = "Dockerfile"
IGNORE_FILE = ".dockerignore"
_PERMISSIONS = 0o777

Files = Mapping[str, "bytes | str | os.PathLike[str]"] | Iterable["str | os.PathLike[str]"]


def pack(source: str | os.PathLike[str], files: Files = ()) -> list[Part]:
    """List what is sent for a folder with a Dockerfile, a Dockerfile, or a Dockerfile's text.

    Of a folder everything is sent that its ``.dockerignore`` does not leave out; of a Dockerfile only
    itself. ``files`` are added: paths, or names with their contents or paths.

    Raises:
        InvalidRequest: there is no such file or folder, or no Dockerfile in it.
    """
    parts = {part.name: part for part in _named_files(files)}
    if isinstance(source, str) and "\n" in source:
        parts[DOCKERFILE] = Part("dockerfile", DOCKERFILE, source.encode())
        return list(parts.values())
    path = Path(source)
    if path.is_dir():
        return list(({part.name: part for part in _folder(path)} | parts).values())
    if not path.is_file():
        raise errors.InvalidRequest(f"there is no file or folder {str(path)!r}")
    parts[DOCKERFILE] = _part(DOCKERFILE, path)
    return list(parts.values())


def _folder(folder: Path) -> Iterator[Part]:
    if not (folder / DOCKERFILE).is_file():
        raise errors.InvalidRequest(f"there is no {DOCKERFILE} in {str(folder)!r}")
    ignore_file = folder / IGNORE_FILE
    ignore = DockerIgnore(ignore_file.read_text("utf-8").splitlines() if ignore_file.is_file() else ())
    for path in _walk(folder, folder, ignore):
        name = path.relative_to(folder).as_posix()
        if name == DOCKERFILE or not ignore.leaves_out(name):
            yield _part(name, path)


def _walk(top: Path, folder: Path, ignore: DockerIgnore) -> Iterator[Path]:
    """Yield the files below a folder in order; links are followed to files, not to folders."""
    for path in sorted(folder.iterdir()):
        if path.is_file():
            yield path
        elif path.is_dir() and not path.is_symlink():
            is_left_out = ignore.leaves_out(path.relative_to(top).as_posix())
            if not is_left_out or ignore.has_exceptions:
                yield from _walk(top, path, ignore)


def _named_files(files: Files) -> Iterator[Part]:
    if isinstance(files, Mapping):
        for name, content in files.items():
            if isinstance(content, bytes):
                yield Part("files", name, content)
            else:
                yield from _path(PurePosixPath(name), Path(content))
        return
    for file in files:
        path = Path(file)
        # Where the name of a path would lead out of the bundle only its last part counts.
        is_inside = not path.is_absolute() and ".." not in path.parts
        yield from _path(PurePosixPath(path.as_posix() if is_inside else path.resolve().name), path)


def _path(name: PurePosixPath, path: Path) -> Iterator[Part]:
    if path.is_dir():
        for below in _walk(path, path, DockerIgnore(())):
            yield _part(str(name / below.relative_to(path).as_posix()), below)
    elif path.is_file():
        yield _part(str(name), path)
    else:
        raise errors.InvalidRequest(f"there is no file or folder {str(path)!r}")


def _part(name: str, path: Path) -> Part:
    field = "dockerfile" if name == DOCKERFILE else "files"
    return Part(field, name, path, path.stat().st_mode & _PERMISSIONS)
