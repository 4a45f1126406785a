"""Memcached: a server of a test's own, and the three places the shared one may come from."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from tests.services.chain import Source, Unobtainable, check_docker, from_environment
from tests.services.processes import ServerProcess, free_port

IMAGE = "memcached:1"


def server_program() -> str:
    """The path of ``memcached``. Raises `Unobtainable`."""
    if (found := shutil.which("memcached")) is not None:
        return found
    raise Unobtainable("there is no memcached on PATH")


def answers(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a Memcached answers there now."""
    try:
        with socket.create_connection((host, port), 1) as probe:
            probe.settimeout(1)
            probe.sendall(b"version\r\n")
            return probe.recv(8) == b"VERSION "
    except OSError:
        return False


class MemcachedServer:
    """A Memcached server of a test's own, to be stopped, killed and restarted. Its port stays the same, and nothing it holds."""

    def __init__(self, folder: Path, *, arguments: Sequence[str] = ()) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.url = f"memcache://127.0.0.1:{self.port}"
        self._process = ServerProcess(
            [
                server_program(),
                *["-u", "root", "-l", "127.0.0.1", "-p", str(self.port), "-U", "0", "-m", "64", "-t", "1"],
                *arguments,
            ],
            folder,
            lambda: answers(self.port),
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def is_running(self) -> bool:
        return self._process.is_running

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._process.start()

    def stop(self) -> None:
        """SIGTERM, as an operator would."""
        self._process.stop()

    def kill(self) -> None:
        """SIGKILL, as the kernel would."""
        self._process.kill()

    def restart(self, *, kill: bool = False) -> None:
        """Down and up again."""
        if kill:
            self.kill()
        else:
            self.stop()
        self.start()


@contextmanager
def from_container() -> Iterator[str]:
    """A Memcached in a container of its own."""
    check_docker()
    os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")  # the container is stopped here, by its id
    from testcontainers.core.container import DockerContainer  # noqa: PLC0415 - only where there is an engine

    container = DockerContainer(IMAGE).with_exposed_ports(11211)
    try:
        container.start()
    except Exception as error:
        raise Unobtainable(f"the image {IMAGE} does not start ({type(error).__name__}: {error})") from error
    try:
        yield f"memcache://{container.get_container_host_ip()}:{container.get_exposed_port(11211)}"
    finally:
        container.stop()


@contextmanager
def from_program() -> Iterator[str]:
    """A local server on a free port."""
    server_program()
    with tempfile.TemporaryDirectory(prefix="machinery-memcached-") as folder, MemcachedServer(Path(folder)) as server:
        yield server.url


SOURCES: dict[str, Source] = {
    "environment": lambda: from_environment("MEMCACHE_URL", "memcache"),
    "testcontainers": from_container,
    "program": from_program,
}
