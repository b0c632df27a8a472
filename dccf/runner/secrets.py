"""Secrets of jobs: files on the worker, which a job asks for by name and gets as environment variables.

They are no files in the container: those would need a folder that worker and daemon share, which not every store of
``/output`` has, or lie in the container's own layer. The daemon and containerd write variables to files of their own,
which only root on their machine reads (docs/runner.md says which, and for how long).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from pydantic import SecretStr

from dccf.errors import AttemptFailed, EngineUnavailable
from dccf.fields import OWNER_NAME
from dccf.models import Reason
from dccf.runner.engine import Engine
from dccf.runner.wire import Refused

#: Shorter values would make holes in every log, and say little of what they stand for (GitLab has the same rule).
MIN_BYTES = 8
#: The kernel takes 128 KiB for one variable with its name (MAX_ARG_STRLEN, execve(2)).
MAX_BYTES = 64 << 10


def read(folder: Path | None, owner: str | None, names: Mapping[str, str]) -> dict[str, SecretStr]:
    """Read an owner's secrets; ``names`` and the result are by environment variable.

    One line feed at the end of a file is not part of the value.

    Raises:
        AttemptFailed: ``rejected``; says which secret, what is wrong with it, and what to do.
    """
    return {variable: SecretStr(_read(folder, owner, name)) for variable, name in names.items()}


def given_to(engine: Engine, container: str, names: Collection[str]) -> dict[str, SecretStr]:
    """Give the values that a container was created with, whatever has become of the files since.

    Raises:
        EngineUnavailable: the daemon does not answer, or has lost the container.
    """
    if not names:
        return {}
    try:
        environment = engine.ask(f"/containers/{container}/json")["Config"]["Env"]
    except Refused as error:
        raise EngineUnavailable(f"The Docker daemon has lost the container: {error}") from error
    found = dict(pair.partition("=")[::2] for pair in environment)
    return {variable: SecretStr(found[variable]) for variable in names}


def _read(folder: Path | None, owner: str | None, name: str) -> str:
    if folder is None:
        raise _refused(name, "cannot be given: the worker has none; ask the administrator for DCCF_SECRETS_FOLDER")
    if owner is None or not OWNER_NAME.fullmatch(owner):
        raise _refused(name, f"cannot be given: {owner!r} is no owner who can have a folder of secrets")
    try:
        with (folder / owner / name).open("rb") as file:
            data = file.read(MAX_BYTES + 2)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _refused(
            name,
            f"is not there for owner {owner}: correct the name, or ask the administrator for a file {owner}/{name} "
            "in the worker's DCCF_SECRETS_FOLDER",
        ) from error
    except OSError as error:
        raise _refused(
            name, f"cannot be read by the worker ({error.strerror}): ask the administrator to let it"
        ) from error
    value = data.removesuffix(b"\n")
    if not MIN_BYTES <= len(value) <= MAX_BYTES:
        raise _refused(
            name, f"must have {MIN_BYTES} to {MAX_BYTES} bytes: shorter ones could not be kept out of logs"
        )
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        # The cause shows the bytes.
        del error
        text = "\0"
    if "\0" in text:
        raise _refused(name, "is no text in UTF-8 without NUL: write it in base64, and let the job decode it")
    return text


def _refused(name: str, what: str) -> AttemptFailed:
    return AttemptFailed(Reason.REJECTED, f"The secret {name!r} {what}.")
