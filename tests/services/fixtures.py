"""The fixtures that tests ask for by name."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.services.chain import Unobtainable, missing, obtained

DATABASES = cycle(range(2, 16))
"""Each test has the next one, so that what an earlier test left running does not disturb. 0 and 1 belong to no single test."""


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A Redis server for the whole run, without a database in its URL. It has a place for others: name keys uniquely."""
    redis = pytest.importorskip("tests.services.redis", reason="needs the redis package", exc_type=ImportError)
    with obtained("redis", redis.SOURCES) as url:
        if not redis.answers(url):
            missing("redis", f"nothing answers at {urlsplit(url).hostname}:{urlsplit(url).port}")
        yield url.rstrip("/")


@pytest.fixture
def redis_database(redis_url: str) -> Iterator[str]:
    """The URL of an empty database, for one test. Never empties one that it did not find empty."""
    from redis import Redis  # noqa: PLC0415 - present where redis_url is

    url = redis_url if urlsplit(redis_url).path.strip("/") else f"{redis_url}/{next(DATABASES)}"
    with Redis.from_url(url) as client:
        if client.dbsize():
            missing(
                "redis",
                f"the database {urlsplit(url).path} is not empty, and tests would delete what it holds; empty it",
            )
        yield url
        client.flushdb()


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[object]:
    """A Redis server of the test's own (`RedisServer`), durable, to be killed and restarted."""
    redis = pytest.importorskip("tests.services.redis", reason="needs the redis package", exc_type=ImportError)
    try:
        server = redis.RedisServer(tmp_path / "redis", append_only=True)
    except Unobtainable as reason:
        missing("redis", str(reason))
    with server:
        yield server


@pytest.fixture(scope="session")
def amqp_url() -> Iterator[str]:
    """A RabbitMQ node for the whole run. It has a place for others: name queues, exchanges and binding keys uniquely."""
    rabbitmq = pytest.importorskip("tests.services.rabbitmq", reason="needs the pika package", exc_type=ImportError)
    with obtained("amqp", rabbitmq.SOURCES) as url:
        if not rabbitmq.comes_up(url):
            missing("amqp", f"nothing answers at {urlsplit(url).hostname}:{urlsplit(url).port}")
        yield url


PROMPT_DEAD_LETTERS = "{dead_letter_worker_publisher_confirm_timeout, 2000}"
"""What a quorum queue sent on to a queue that was not up yet, when the node had been killed, it sends again after 3 minutes."""


@pytest.fixture
def rabbit_server(tmp_path: Path) -> Iterator[object]:
    """A RabbitMQ node of the test's own (`RabbitServer`), to be killed and restarted."""
    rabbitmq = pytest.importorskip("tests.services.rabbitmq", reason="needs the pika package", exc_type=ImportError)
    try:
        server = rabbitmq.RabbitServer(tmp_path / "rabbitmq", advanced=PROMPT_DEAD_LETTERS)
    except Unobtainable as reason:
        missing("amqp", str(reason))
    with server:
        yield server
