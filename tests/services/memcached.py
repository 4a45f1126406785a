"""Memcached: a server of a test's own, and the three places the shared one may come from."""

from __future__ import annotations

import shutil
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.services.chain import Source, Unobtainable, from_environment
from tests.services.containers import container_of
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


class MemcachedServer(ServerProcess):
    """A Memcached server of a test's own, to be stopped, killed and restarted. Its port stays the same, and nothing it holds."""

    def __init__(self, folder: Path, *, arguments: Sequence[str] = ()) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.url = f"memcache://127.0.0.1:{self.port}"
        super().__init__(
            [
                server_program(),
                *["-u", "root", "-l", "127.0.0.1", "-p", str(self.port), "-U", "0", "-m", "64", "-t", "1"],
                *arguments,
            ],
            folder,
            lambda: answers(self.port),
        )


@contextmanager
def from_container() -> Iterator[str]:
    """A Memcached in a container of its own."""
    with container_of(IMAGE, 11211, answers) as place:
        yield f"memcache://{place}"


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
