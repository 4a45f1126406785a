"""MongoDB: a server of a test's own, and the three places the shared one may come from."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pymongo
from pymongo.errors import PyMongoError

from tests.services.chain import Source, Unobtainable, check_docker, from_environment
from tests.services.processes import ServerProcess, free_port, installed

IMAGE = "mongo:6"
PATIENCE = 60.0
"""Seconds that a server may take to start on a busy machine."""


def server_program() -> str:
    """The path of ``mongod``. Raises `Unobtainable`."""
    if (found := shutil.which("mongod")) is not None:
        return found
    return str(installed("mongodb", "lib/python3*/site-packages/fiftyone/db/bin/mongod"))


@contextmanager
def connected(url: str) -> Iterator[pymongo.MongoClient[dict[str, Any]]]:
    """A client that does not wait for long."""
    client: pymongo.MongoClient[dict[str, Any]]
    with pymongo.MongoClient(url, serverSelectionTimeoutMS=1000, connectTimeoutMS=1000, socketTimeoutMS=5000) as client:
        yield client


def answers(url: str) -> bool:
    """Whether a MongoDB answers at ``url`` now."""
    try:
        with connected(url) as client:
            return bool(client.admin.command("ping")["ok"])
    except PyMongoError:
        return False


class MongoServer:
    """A MongoDB server of a test's own, to be stopped, killed and restarted. Its port and what it was told to keep stay the same.

    ``replica_set``: it is the only member, and the primary, of a set of that name.
    """

    def __init__(self, folder: Path, replica_set: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.replica_set = replica_set
        self._direct = f"mongodb://127.0.0.1:{self.port}/?directConnection=true"
        self.url = f"mongodb://127.0.0.1:{self.port}" + (f"/?replicaSet={replica_set}" if replica_set else "")
        self._process = ServerProcess(
            [
                server_program(),
                *[
                    "--dbpath",
                    str(folder),
                    "--port",
                    str(self.port),
                    "--bind_ip",
                    "127.0.0.1",
                    "--nounixsocket",
                    "--quiet",
                ],
                *["--wiredTigerCacheSizeGB", "0.25", "--setParameter", "ttlMonitorSleepSecs=1"],
                *["--setParameter", "diagnosticDataCollectionEnabled=false"],
                *(["--replSet", replica_set, "--oplogSize", "50"] if replica_set else []),
            ],
            folder,
            self._answers,
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
        """Start it and wait until it can be written to."""
        self._process.start(PATIENCE)

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

    def _answers(self) -> bool:
        if not self.replica_set:
            return answers(self._direct)
        try:
            with connected(self._direct) as client:
                hello = client.admin.command("hello")
                if "setName" not in hello and not hello.get("isWritablePrimary"):
                    member = {"_id": 0, "host": f"127.0.0.1:{self.port}"}
                    client.admin.command("replSetInitiate", {"_id": self.replica_set, "members": [member]})
                return bool(hello.get("isWritablePrimary"))
        except PyMongoError:
            return False


@contextmanager
def from_container() -> Iterator[str]:
    """A MongoDB in a container of its own."""
    check_docker()
    os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")  # the container is stopped here, by its id
    from testcontainers.core.container import DockerContainer  # noqa: PLC0415 - only where there is an engine

    container = DockerContainer(IMAGE).with_exposed_ports(27017)
    try:
        container.start()
    except Exception as error:
        raise Unobtainable(f"the image {IMAGE} does not start ({type(error).__name__}: {error})") from error
    try:
        yield f"mongodb://{container.get_container_host_ip()}:{container.get_exposed_port(27017)}"
    finally:
        container.stop()


@contextmanager
def from_program() -> Iterator[str]:
    """A local server on a free port."""
    server_program()
    with tempfile.TemporaryDirectory(prefix="machinery-mongodb-") as folder, MongoServer(Path(folder)) as server:
        yield server.url


SOURCES: dict[str, Source] = {
    "environment": lambda: from_environment("MONGODB_URL", "mongodb"),
    "testcontainers": from_container,
    "program": from_program,
}
