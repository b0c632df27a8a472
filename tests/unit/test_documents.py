"""What the documents point at is there: files, headings, modules, folders."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
TRACKED = subprocess.run(
    ["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True
).stdout.splitlines()
DOCUMENTS = [path for path in TRACKED if path.endswith(".md")]
_FENCED = re.compile(r"^[ ]*```.*?^[ ]*```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_FOLDERS = "bench|dccf|docker|docs|examples|k8s|scripts|tests|tools"
#: ``dccf/store/blobs.py``, ``scripts/e2e``; of modules also ``store/blobs.py``, as people say it.
_PACKAGES = "|".join(sorted({path.split("/")[1] for path in TRACKED if re.match(r"dccf/\w+/", path)}))
_PATH = re.compile(rf"`((?:{_FOLDERS})/[\w./-]+|(?:{_PACKAGES})/[\w/]+\.py)`")


def prose(path: str) -> str:
    return _FENCED.sub("", (REPOSITORY / path).read_text("utf-8"))


def anchors(path: Path) -> set[str]:
    """Give the names that GitHub gives a document's headings."""
    headings = re.findall(r"^#+ (.*)$", prose(str(path.relative_to(REPOSITORY))), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


def broken_link(document: str, target: str) -> bool:
    name, _, anchor = target.partition("#")
    path = (REPOSITORY / document).parent / name if name else REPOSITORY / document
    return not path.exists() or bool(anchor and anchor not in anchors(path.resolve()))


def exists(path: str) -> bool:
    """Say whether a file or folder of the repository is meant."""
    plain = path.rstrip("/")
    return any(one in {plain, f"dccf/{plain}"} or one.startswith((f"{plain}/", f"dccf/{plain}/")) for one in TRACKED)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_leads_somewhere(document: str) -> None:
    targets = [one for one in _LINK.findall(prose(document)) if not re.match(r"[a-z]+:", one)]

    assert [one for one in targets if broken_link(document, one)] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_path_of_ours_that_is_named_is_there(document: str) -> None:
    assert [one for one in _PATH.findall(prose(document)) if not exists(one)] == []


def test_a_heading_that_is_gone_would_be_noticed() -> None:
    assert broken_link("README.md", "docs/operations.md#no-such-heading")
    assert broken_link("README.md", "docs/no-such-file.md")
    assert not broken_link("README.md", "docs/operations.md#metrics")
