"""Redis: a server of a test's own, and the three places the shared one may come from."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.services.chain import Source, Unobtainable, check_docker, from_environment
from tests.services.processes import ServerProcess, free_port

IMAGE = "redis:7"
PROGRAMS = ("redis-server", "valkey-server")


def server_program() -> str:
    """The path of a local Redis server. Raises `Unobtainable`."""
    for program in PROGRAMS:
        if (found := shutil.which(program)) is not None:
            return found
    raise Unobtainable("there is no redis-server on PATH")


def answers(url: str) -> bool:
    """Whether a Redis answers at ``url`` now."""
    try:
        with redis.Redis.from_url(
            url, retry=Retry(NoBackoff(), 0), socket_connect_timeout=1, socket_timeout=1
        ) as client:
            return bool(client.ping())
    except redis.AuthenticationError:
        return True  # it answers, and says no
    except redis.RedisError:
        return False


class RedisServer(ServerProcess):
    """A Redis server of a test's own, to be stopped, killed and restarted. Its port and its folder stay the same.

    ``append_only`` writes every command to disk before it is answered, so that nothing accepted is lost by a kill.
    """

    def __init__(self, folder: Path, *, append_only: bool = False, arguments: Sequence[str] = ()) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        durable = ["--appendonly", "yes", "--appendfsync", "always"] if append_only else ["--appendonly", "no"]
        super().__init__(
            [
                server_program(),
                *["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", "", *durable],
                *arguments,
            ],
            folder,
            lambda: answers(self.url),
        )


@contextmanager
def from_container() -> Iterator[str]:
    """A Redis in a container of its own."""
    check_docker()
    os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")  # the container is stopped here, by its id
    from testcontainers.community.redis import RedisContainer  # noqa: PLC0415 - only where there is an engine

    container = RedisContainer(IMAGE)
    try:
        container.start()
    except Exception as error:
        raise Unobtainable(f"the image {IMAGE} does not start ({type(error).__name__}: {error})") from error
    try:
        yield f"redis://{container.get_container_host_ip()}:{container.get_exposed_port(6379)}"
    finally:
        container.stop()


@contextmanager
def from_program() -> Iterator[str]:
    """A local Redis server on a free port."""
    server_program()
    with tempfile.TemporaryDirectory(prefix="machinery-redis-") as folder, RedisServer(Path(folder)) as server:
        yield server.url


SOURCES: dict[str, Source] = {
    "environment": lambda: from_environment("REDIS_URL", "redis"),
    "testcontainers": from_container,
    "program": from_program,
}
