"""The one Redis that all peers use: the one that ``REDIS_URL`` names, or a server started for this run alone."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress
from typing import Any

from redis import Redis
from redis.exceptions import ConnectionError as NotConnected

from benchmarks.processes import Processes, ProgramFailed, Running, free_port

PROGRAMS = ("redis-server", "valkey-server")
START_TIMEOUT = 10.0


class NoRedis(Exception):
    """There is no Redis to measure on; the text says why."""


class RedisService:
    """A Redis database that is the benchmark's alone."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._client = Redis.from_url(url)

    def command(self, *words: str) -> Any:
        """The answer to one command."""
        return self._client.execute_command(*words)

    def is_empty(self) -> bool:
        """Whether nothing is stored."""
        return not self._client.dbsize()

    def empty(self) -> None:
        """Delete all that is stored."""
        self._client.flushdb()

    def cpu_seconds(self) -> float:
        """The CPU time that the server has used so far."""
        used: dict[str, float] = self._client.info("cpu")
        return used["used_cpu_sys"] + used["used_cpu_user"]

    def version(self) -> str:
        """The server's version."""
        told: dict[str, Any] = self._client.info("server")
        return str(told["redis_version"])

    def close(self) -> None:
        """Leave the database as empty as it was found."""
        with suppress(NotConnected):
            self.empty()
        self._client.close()


def open_redis(processes: Processes) -> RedisService:
    """The Redis of this run. Raises `NoRedis`."""
    if url := os.environ.get("REDIS_URL", "").strip():
        service = RedisService(url if "://" in url else f"redis://{url}")
        if not service.is_empty():
            raise NoRedis("the database that REDIS_URL names is not empty, and it would be emptied; name another")
        return service
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        raise NoRedis("there is no redis-server on PATH; install one, or name one in REDIS_URL")
    port = free_port()
    started = processes.start(
        [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"],
    )
    service = RedisService(f"redis://127.0.0.1:{port}/0")
    _wait_until_it_answers(service, started)
    return service


def _wait_until_it_answers(service: RedisService, started: Running) -> None:
    until = time.monotonic() + START_TIMEOUT
    while True:
        try:
            service.command("PING")
        except NotConnected:
            if started.has_ended or time.monotonic() > until:
                raise ProgramFailed(f"the Redis server did not start: {started.last_words()}") from None
            time.sleep(0.01)
        else:
            return
