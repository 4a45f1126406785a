"""Brokers on the shared SQS, each test with queues of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from machinery.abc import Config
from machinery_broker_sqs import SqsBroker
from tests.contracts.made import Made

if TYPE_CHECKING:
    from tests.services.sqs import Queues

LEASE = 60
"""Seconds: longer than a busy machine stands still."""


def config_with(queue: str = "", **options: Any) -> Config:
    """A configuration whose default queue that is, and whose ``sqs`` section says that besides."""
    section = {"receive_visibility_timeout": LEASE, "region": "us-east-1", **options}
    return Config(default_queue=queue or "machinery_tasks", sections={"sqs": section})


@pytest.fixture
def config() -> Config:
    return config_with()


@pytest.fixture
def make_broker(sqs_url: str, config: Config) -> Iterator[Callable[..., SqsBroker]]:
    with Made(lambda: SqsBroker.from_url(sqs_url, config)) as made:
        yield made


@pytest.fixture
def broker(make_broker: Callable[..., SqsBroker]) -> SqsBroker:
    return make_broker()


@pytest.fixture
def queue(sqs_queues: Queues) -> str:
    """A standard queue with a place for dead letters."""
    return sqs_queues.with_dead_letters()


@pytest.fixture
def fifo_queue(sqs_queues: Queues) -> str:
    """A FIFO queue, likewise."""
    return sqs_queues.with_dead_letters(fifo=True)
