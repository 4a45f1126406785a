"""SQS: two doubles of it, servers of a test's own, and the places the shared ones may come from.

ministack is quick and lenient (it takes a delay of 901 s, which Amazon does not); moto is slow and strict. Credentials that mean
nothing are set where the environment has none (`tests.services.dynamodb.credentials`): either takes any, and asks for some.
"""

from __future__ import annotations

import functools
import json
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from tests.services.chain import Source, from_environment
from tests.services.containers import container_of
from tests.services.dynamodb import ENVIRONMENT
from tests.services.processes import ServerProcess, free_port, installed

IMAGE = "localstack/localstack:4"
_PORT_OF_IMAGE = 4566
PATIENCE = 60.0
"""Seconds that a server may take to start on a busy machine."""
ACCOUNT = "000000000000"
"""The account of ministack and of LocalStack for any access key that is not a number itself."""
MOTO_ACCOUNT = "123456789012"
FIFO = ".fifo"


def answers(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a double of Amazon's services answers there now, be it with a refusal."""
    try:
        with urllib.request.urlopen(f"http://{host}:{port}/", timeout=1):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


class SqsServer(ServerProcess):
    """A ministack of a test's own, to be stopped, killed and restarted. Its port and its folder stay the same.

    ``durable``: it keeps its queues when it is stopped (not when it is killed); else it forgets them.
    """

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.url = f"sqs://127.0.0.1:{self.port}/{ACCOUNT}"
        variables = {
            "GATEWAY_PORT": self.port,
            "BIND_HOST": "127.0.0.1",
            "MINISTACK_HOST": "127.0.0.1",
            "SERVICES": "sqs",
            "IOT_MTLS_ENABLED": 0,
            "LOG_LEVEL": "WARNING",
            "PERSIST_STATE": int(durable),
            "STATE_DIR": folder / "state",
        }
        super().__init__(
            [
                "env",
                *(f"{name}={value}" for name, value in variables.items()),
                str(installed("ministack", "bin/python").absolute()),
                "-m",
                "ministack",
            ],
            folder,
            lambda: answers(self.port),
            PATIENCE,
        )


class MotoServer(ServerProcess):
    """A moto server of a test's own."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.url = f"sqs://127.0.0.1:{self.port}/{MOTO_ACCOUNT}"
        python = str(installed("moto", "bin/python").absolute())
        super().__init__(
            [python, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)],
            folder,
            lambda: answers(self.port),
            PATIENCE,
        )


@contextmanager
def from_program() -> Iterator[str]:
    """A local ministack on a free port, which keeps nothing."""
    with (
        tempfile.TemporaryDirectory(prefix="machinery-sqs-") as folder,
        SqsServer(Path(folder), durable=False) as server,
    ):
        yield server.url


@contextmanager
def moto_from_program() -> Iterator[str]:
    """A local moto server on a free port."""
    with tempfile.TemporaryDirectory(prefix="machinery-moto-") as folder, MotoServer(Path(folder)) as server:
        yield server.url


@contextmanager
def from_container() -> Iterator[str]:
    """A LocalStack in a container of its own."""
    with container_of(IMAGE, _PORT_OF_IMAGE, answers) as address:
        yield f"sqs://{address}/{ACCOUNT}"


@functools.cache
def _descriptions() -> Any:
    """Botocore's of its services: to read them takes a tenth of a second."""
    from botocore.loaders import create_loader  # noqa: PLC0415 - only where queues are wanted

    return create_loader()


def raw_client(url: str) -> Any:
    """A plain boto3 client of the SQS at ``url``; whoever asked closes it."""
    import boto3  # noqa: PLC0415 - only where queues are wanted
    from botocore.config import Config  # noqa: PLC0415 - likewise
    from botocore.session import get_session  # noqa: PLC0415 - likewise

    inner = get_session()
    inner.register_component("data_loader", _descriptions())
    return boto3.session.Session(botocore_session=inner).client(
        "sqs",
        region_name=ENVIRONMENT["AWS_REGION"],
        endpoint_url=f"http://{urlsplit(url).netloc}",
        config=Config(retries={"total_max_attempts": 1}, read_timeout=30, max_pool_connections=50),
    )


def queue_url(url: str, queue: str) -> str:
    """The address of a queue, put together as Go puts it."""
    where = urlsplit(url)
    return f"http://{where.netloc}{where.path.rstrip('/')}/{queue}"


def dead_letters_of(queue: str) -> str:
    """What the other queue of `Queues.with_dead_letters` is called."""
    name = queue.removesuffix(FIFO)
    return f"{name}-dead{queue.removeprefix(name)}"


class Queues:
    """Makes queues that nobody else uses, and looks into them with a client of its own."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client = raw_client(url)

    def create(
        self,
        name: str = "",
        *,
        fifo: bool = False,
        dead_letters: str | None = None,
        max_receives: int = 1000,
        **attributes: Any,
    ) -> str:
        """A new queue, by default of a name that is new too; the name.

        ``dead_letters``: the queue that messages go to after ``max_receives`` receives. ``attributes``: Amazon's, such as
        ``VisibilityTimeout=2``.
        """
        name = name or f"q-{uuid4().hex}{FIFO if fifo else ''}"
        given = {key: str(value) for key, value in attributes.items()}
        if name.endswith(FIFO):
            given["FifoQueue"] = "true"
        if dead_letters:
            target = self.attributes(dead_letters)["QueueArn"]
            given["RedrivePolicy"] = json.dumps({"deadLetterTargetArn": target, "maxReceiveCount": max_receives})
        self.client.create_queue(QueueName=name, Attributes=given)
        return name

    def with_dead_letters(self, *, fifo: bool = False, max_receives: int = 1000, **attributes: Any) -> str:
        """A new queue of a new name, with another for its dead letters (`dead_letters_of`); the first one's name."""
        name = f"q-{uuid4().hex}{FIFO if fifo else ''}"
        dead = self.create(dead_letters_of(name))
        return self.create(name, dead_letters=dead, max_receives=max_receives, **attributes)

    def attributes(self, queue: str) -> dict[str, str]:
        """All that the service tells of a queue."""
        found: dict[str, str] = self.client.get_queue_attributes(
            QueueUrl=queue_url(self.url, queue), AttributeNames=["All"]
        )["Attributes"]
        return found

    def counts(self, queue: str) -> tuple[int, int, int]:
        """How many messages of the queue are to be had, on loan, and waiting for their time."""
        found = self.attributes(queue)
        number = "ApproximateNumberOfMessages"
        return int(found[number]), int(found[f"{number}NotVisible"]), int(found[f"{number}Delayed"])

    def send(self, queue: str, *bodies: str, **more: Any) -> None:
        """Put messages there, as any program would."""
        for body in bodies:
            self.client.send_message(QueueUrl=queue_url(self.url, queue), MessageBody=body, **more)

    def take(self, queue: str, limit: int = 10, wait: int = 0) -> list[dict[str, Any]]:
        """Receive some and delete them: everything that the service tells of them."""
        address = queue_url(self.url, queue)
        found: list[dict[str, Any]] = self.client.receive_message(
            QueueUrl=address,
            MaxNumberOfMessages=limit,
            WaitTimeSeconds=wait,
            AttributeNames=["All"],
            MessageAttributeNames=["All"],
        ).get("Messages", [])
        for message in found:
            self.client.delete_message(QueueUrl=address, ReceiptHandle=message["ReceiptHandle"])
        return found

    def delete(self, queue: str) -> None:
        """Delete a queue with all that is in it."""
        self.client.delete_queue(QueueUrl=queue_url(self.url, queue))

    def close(self) -> None:
        """Let go of the connections. The queues stay until the server ends."""
        self.client.close()


def _given(variable: str) -> Source:
    def source() -> AbstractContextManager[str]:
        return from_environment(variable, "sqs")

    return source


SOURCES: dict[str, Source] = {"environment": _given("SQS_URL"), "program": from_program}
MOTO_SOURCES: dict[str, Source] = {"environment": _given("MOTO_URL"), "program": moto_from_program}
