"""Prints what an image holds, as CycloneDX 1.5: Debian's packages, Python's, and jars.

    python scripts/sbom.py IMAGE

The image is asked itself, in a container without a network; DOCKER_HOST names the daemon.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import PurePosixPath

_ASK = r"""
dpkg-query -W -f 'deb ${Package} ${Version} ${Architecture}\n'
for folder in /opt/dccf/lib/python3*/site-packages/*.dist-info; do
    [ -d "$folder" ] && echo "pypi $(basename "$folder" .dist-info | tr - ' ')"
done
for jar in /opt/kafka/libs/*.jar; do [ -f "$jar" ] && echo "jar $jar"; done
exit 0
"""
_JAR = re.compile(r"(?P<name>.+?)-(?P<version>\d.*)")


def component(line: str) -> dict[str, str]:
    """Turn one line of the image's answer into a component."""
    kind, *words = line.split()
    if kind == "deb":
        name, version, architecture = words
        purl = f"pkg:deb/debian/{name}@{version}?arch={architecture}"
    elif kind == "pypi":
        name, version = words
        purl = f"pkg:pypi/{name.lower().replace('_', '-')}@{version}"
    else:
        stem = PurePosixPath(words[0]).stem
        match = _JAR.fullmatch(stem)
        name, version = (match["name"], match["version"]) if match else (stem, "")
        purl = f"pkg:generic/{name}@{version}"
    return {"type": "library", "name": name, "version": version, "purl": purl}


def main(image: str) -> None:
    """Ask the image and print the answer."""
    command = [
        "docker",
        "run",
        "--rm",
        "--network",
        "none",
        "--user",
        "65534",
        "--entrypoint",
        "sh",
        image,
        "-c",
        _ASK,
    ]
    answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {"type": "container", "name": image}},
        "components": [component(line) for line in answer.splitlines()],
    }
    json.dump(document, sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main(sys.argv[1])
