"""The private Docker daemon of :mod:`tests.fixtures_docker`."""

from tests.fixtures_docker import docker_daemon, docker_url

__all__ = ["docker_daemon", "docker_url"]
