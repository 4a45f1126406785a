"""MongoDB: a server of a test's own, and the three places the shared one may come from."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pymongo
from pymongo.errors import PyMongoError

from tests.services.chain import Source, from_environment
from tests.services.containers import container_of
from tests.services.processes import ServerProcess, free_port, installed

IMAGE = "mongo:6"
PATIENCE = 60.0
"""Seconds that a server may take to start on a busy machine."""
A_LOOK = 1.0
"""Seconds that one look may take whether it answers; there is always another one."""


def server_program() -> str:
    """The path of ``mongod``. Raises `Unobtainable`."""
    if (found := shutil.which("mongod")) is not None:
        return found
    return str(installed("mongodb", "lib/python3*/site-packages/fiftyone/db/bin/mongod"))


@contextmanager
def connected(url: str, seconds: float = 30) -> Iterator[pymongo.MongoClient[dict[str, Any]]]:
    """A client that waits for so long at each step."""
    client: pymongo.MongoClient[dict[str, Any]]
    span = int(seconds * 1000)
    with pymongo.MongoClient(url, serverSelectionTimeoutMS=span, connectTimeoutMS=span, socketTimeoutMS=span) as client:
        yield client


def answers(url: str) -> bool:
    """Whether a MongoDB answers at ``url`` now."""
    try:
        with connected(url, A_LOOK) as client:
            return bool(client.admin.command("ping")["ok"])
    except PyMongoError:
        return False


class MongoServer(ServerProcess):
    """A MongoDB server of a test's own, to be stopped, killed and restarted. Its port and what it was told to keep stay the same.

    ``replica_set``: it is the only member, and the primary, of a set of that name.
    """

    def __init__(self, folder: Path, replica_set: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.replica_set = replica_set
        self._direct = f"mongodb://127.0.0.1:{self.port}/?directConnection=true"
        self.url = f"mongodb://127.0.0.1:{self.port}" + (f"/?replicaSet={replica_set}" if replica_set else "")
        super().__init__(
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
            self._is_primary if replica_set else lambda: answers(self._direct),
            PATIENCE,
        )

    def _is_primary(self) -> bool:
        """Whether the set's only member can be written to; it is told of its set first."""
        try:
            with connected(self._direct, A_LOOK) as client:
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
    with container_of(IMAGE, 27017, lambda port, host: answers(f"mongodb://{host}:{port}")) as place:
        yield f"mongodb://{place}"


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
