"""What a build is made of: the Dockerfile, checked, and the files that are sent along."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from dccf.config import Settings
from dccf.errors import AttemptFailed
from dccf.models import Reason
from dccf.runner import policy
from dccf.runner.base import ContextFile
from dccf.runner.context import DOCKERFILE, IGNORE_FILE, IGNORE_FILE_BYTES, IgnoreRules, read_whole
from dccf.runner.dockerfile import DockerfileError, Grammar


@dataclass(frozen=True)
class Sources:
    """A Dockerfile that may be built, and the files for it without those that its ``.dockerignore`` leaves out."""

    checked: policy.Checked
    files: tuple[ContextFile, ...]


def read(context: Iterable[ContextFile], settings: Settings, grammar: Grammar) -> Sources:
    """List a build's files, of which the Dockerfile and ``.dockerignore`` are read.

    Raises:
        AttemptFailed: ``build_failed``: there is no Dockerfile, or it is not valid; ``rejected``: it is not allowed.
    """
    files = {file.path: file for file in context}
    ignored = _ignore_rules(files.pop(IGNORE_FILE, None))
    dockerfile = files.pop(DOCKERFILE, None)
    if dockerfile is None:
        raise AttemptFailed(
            Reason.BUILD_FAILED, "There is no file named Dockerfile at the top of the context: add one."
        )
    text = read_whole(dockerfile, settings.max_dockerfile_bytes).decode("utf-8", "surrogateescape")
    try:
        checked = policy.check(text, grammar, settings.allowed_images)
    except DockerfileError as error:
        raise AttemptFailed(Reason.BUILD_FAILED, f"The Dockerfile is not valid: {error}") from error
    return Sources(checked, tuple(file for file in files.values() if not ignored.ignores(file.path)))


def _ignore_rules(file: ContextFile | None) -> IgnoreRules:
    return IgnoreRules(read_whole(file, IGNORE_FILE_BYTES).decode("utf-8", "replace") if file else "")
