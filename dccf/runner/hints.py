"""What a person may try when their container failed; a hint never decides anything."""

from __future__ import annotations

from dccf.config import Settings
from dccf.models import JobSpec
from dccf.runner.engine import ImageFacts

#: How programs say EROFS, EPERM and EACCES: the words of the C libraries, and in small letters of Go.
_READ_ONLY = b"read-only file system"
_NOT_PERMITTED = (b"operation not permitted", b"permission denied")


def about_profile(spec: JobSpec, settings: Settings, image: ImageFacts, said: bytes) -> str:
    """Point to ``profile: compat`` where the last words of a container look as if that would have helped; else empty.

    ``compat`` gives rights to root only, so that other users' lack of them says nothing.
    """
    if spec.profile != "strict":
        return ""
    said = said.lower()
    is_root = (spec.user or image.user).partition(":")[0] in {"", "0", "root"}
    if _READ_ONLY in said:
        why = "it wanted to write outside of /output and /tmp"
    elif is_root and any(words in said for words in _NOT_PERMITTED):
        why = "it wanted to do what only root with its special rights may"
    else:
        return ""
    way = (
        "profile: compat lets it"
        if "compat" in settings.allowed_profiles
        else "profile: compat would let it, if the administrator allows that in DCCF_ALLOWED_PROFILES"
    )
    return f" It looks as if {why}: {way}."
