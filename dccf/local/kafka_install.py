"""Kafka's program on this machine: a Java that can run it, and its jars, fetched once with Maven."""

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from dccf.local.kafka_errors import JavaMissingError, KafkaDownloadError

KAFKA_VERSION = "4.4.0"
LOG4J_VERSION = "2.25.3"
MINIMUM_JAVA = 17

_POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>dccf</groupId><artifactId>kafka-jars</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{KAFKA_VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId>
      <version>{LOG4J_VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId><artifactId>log4j-core</artifactId>
      <version>{LOG4J_VERSION}</version>
    </dependency>
  </dependencies>
</project>
"""


def default_cache_dir() -> Path:
    """Return the folder that keeps the jars between runs."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "dccf" / f"kafka-{KAFKA_VERSION}"


def require_java() -> str:
    """Return the path of a Java that can run Kafka."""
    java = shutil.which("java")
    if java is None:
        raise JavaMissingError(f"Kafka needs Java {MINIMUM_JAVA} or newer, and no java is on PATH")
    probe = subprocess.run([java, "-version"], capture_output=True, text=True, check=False)
    found = re.search(r'version "(\d+)', probe.stderr)
    if found is None or int(found.group(1)) < MINIMUM_JAVA:
        raise JavaMissingError(
            f"Kafka needs Java {MINIMUM_JAVA} or newer, {java} is {found.group(1) if found else 'unknown'}"
        )
    return java


def ensure_jars(cache_dir: Path) -> Path:
    """Return the folder with Kafka's jars, fetched with Maven on the first call."""
    jars = cache_dir / "jars"
    if jars.is_dir():
        return jars
    maven = shutil.which("mvn")
    if maven is None:
        raise KafkaDownloadError(f"Kafka's jars are not in {cache_dir}, and no mvn is on PATH to fetch them")
    cache_dir.mkdir(parents=True, exist_ok=True)
    # A private folder that is renamed at the end: two processes may fetch at once, and neither sees half of it.
    with tempfile.TemporaryDirectory(dir=cache_dir) as scratch:
        (Path(scratch) / "pom.xml").write_text(_POM)
        command = [maven, "-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={scratch}/jars"]
        fetch = subprocess.run(command, cwd=scratch, capture_output=True, text=True, check=False)
        if fetch.returncode != 0:
            raise KafkaDownloadError(f"Maven could not fetch Kafka {KAFKA_VERSION}: {fetch.stdout[-2000:]}")
        with contextlib.suppress(OSError):
            (Path(scratch) / "jars").rename(jars)
    return jars
