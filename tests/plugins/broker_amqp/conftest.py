"""Brokers and backends on the shared RabbitMQ, each test with queues, exchange and binding key of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pika
import pytest

from machinery.abc import Config
from machinery_broker_amqp import AmqpBroker
from tests.contracts.made import Made
from tests.services.chain import Unobtainable, missing
from tests.services.rabbitmq import RabbitServer


def config_with(**options: Any) -> Config:
    """A configuration with names that nobody else uses, whose ``amqp`` section says that besides."""
    own = uuid4().hex
    names = {"exchange": f"exchange-{own}", "binding_key": f"key-{own}"}
    return Config(default_queue=f"queue-{own}", sections={"amqp": {**names, **options}})


@pytest.fixture
def config() -> Config:
    return config_with()


@pytest.fixture
def make_broker(amqp_url: str, config: Config) -> Iterator[Callable[..., AmqpBroker]]:
    with Made(lambda: AmqpBroker.from_url(amqp_url, config)) as made:
        yield made


@pytest.fixture
def broker(make_broker: Callable[..., AmqpBroker]) -> AmqpBroker:
    return make_broker()


@pytest.fixture
def broker_of(amqp_url: str) -> Iterator[Callable[..., AmqpBroker]]:
    """Makes brokers of a configuration, on the shared server or where a URL says."""
    with Made(lambda config, url=amqp_url: AmqpBroker.from_url(url, config)) as made:
        yield made


@pytest.fixture
def raw(amqp_url: str) -> Iterator[Any]:
    """A plain channel to the same server, to look behind the scenes and to play Go."""
    connection = pika.BlockingConnection(pika.URLParameters(amqp_url))
    yield connection.channel()
    if connection.is_open:
        connection.close()


@contextmanager
def node(
    factory: pytest.TempPathFactory, settings: dict[str, str] | None = None, advanced: str = ""
) -> Iterator[RabbitServer]:
    """A node with such settings, for a module to share, since starting one takes seconds."""
    try:
        server = RabbitServer(factory.mktemp("rabbitmq"), settings, advanced)
    except Unobtainable as reason:
        missing("amqp", str(reason))
    with server:
        yield server
