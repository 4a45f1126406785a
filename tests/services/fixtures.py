"""The fixtures that tests ask for by name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from tests.services.chain import Unobtainable, missing, obtained
from tests.services.processes import comes_up

DATABASES = cycle(range(2, 16))
"""Each test has the next one, so that what an earlier test left running does not disturb. 0 and 1 belong to no single test."""


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A Redis server for the whole run, without a database in its URL. It has a place for others: name keys uniquely."""
    redis = pytest.importorskip("tests.services.redis", reason="needs the redis package", exc_type=ImportError)
    with obtained("redis", redis.SOURCES) as url:
        if not comes_up(lambda: redis.answers(url)):
            missing("redis", f"nothing answers at {urlsplit(url).hostname}:{urlsplit(url).port}")
        yield url.rstrip("/")


@pytest.fixture
def redis_database(redis_url: str) -> Iterator[str]:
    """The URL of an empty database, for one test. Never empties one that it did not find empty."""
    from redis import Redis  # noqa: PLC0415 - present where redis_url is

    url = redis_url if urlsplit(redis_url).path.strip("/") else f"{redis_url}/{next(DATABASES)}"
    with Redis.from_url(url) as client:
        if client.dbsize() and not os.environ.get("REDIS_URL"):
            client.flushdb()  # a server of our own: what wrote there after its test had ended is ours
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


@pytest.fixture(scope="session")
def pubsub_host() -> Iterator[str]:
    """``host:port`` of a Pub/Sub for the whole run, without topics. It has a place for others: name topics uniquely."""
    pubsub = pytest.importorskip("tests.services.pubsub", reason="needs google-cloud-pubsub", exc_type=ImportError)
    with obtained("pubsub", pubsub.SOURCES) as host:
        name, _, port = host.rpartition(":")
        if not comes_up(lambda: pubsub.answers(int(port), name)):
            missing("pubsub", f"nothing answers at {host}")
        yield host


@pytest.fixture
def pubsub_server(tmp_path: Path) -> Iterator[object]:
    """A Pub/Sub of the test's own (`PubsubServer`), durable, to be killed and restarted."""
    pubsub = pytest.importorskip("tests.services.pubsub", reason="needs google-cloud-pubsub", exc_type=ImportError)
    with pubsub.PubsubServer(tmp_path / "pubsub") as server:
        yield server


# -- result backends --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def mongo_url() -> Iterator[str]:
    """A MongoDB server for the whole run. It has a place for others: name databases uniquely."""
    mongo = pytest.importorskip("tests.services.mongo", reason="needs the pymongo package", exc_type=ImportError)
    with obtained("mongo", mongo.SOURCES) as url:
        if not comes_up(lambda: mongo.answers(url)):
            missing("mongo", f"nothing answers at {urlsplit(url).hostname}:{urlsplit(url).port}")
        yield url.rstrip("/")


@pytest.fixture
def mongo_database(mongo_url: str) -> Iterator[str]:
    """The URL of a database of one test's own."""
    from tests.services.mongo import connected  # noqa: PLC0415 - present where mongo_url is

    name = f"test_{uuid4().hex}"
    yield f"{mongo_url}/{name}"
    with connected(mongo_url) as client:
        client.drop_database(name)


@pytest.fixture
def mongo_server(tmp_path: Path) -> Iterator[object]:
    """A MongoDB server of the test's own (`MongoServer`), to be killed and restarted."""
    mongo = pytest.importorskip("tests.services.mongo", reason="needs the pymongo package", exc_type=ImportError)
    try:
        server = mongo.MongoServer(tmp_path / "mongo")
    except Unobtainable as reason:
        missing("mongo", str(reason))
    with server:
        yield server


@pytest.fixture(scope="session")
def memcached_url() -> Iterator[str]:
    """A Memcached server for the whole run. It has a place for others: name keys uniquely."""
    from tests.services import memcached  # noqa: PLC0415 - like the others

    with obtained("memcached", memcached.SOURCES) as url:
        where = urlsplit(url)
        if not comes_up(lambda: memcached.answers(where.port or 11211, where.hostname or "localhost")):
            missing("memcached", f"nothing answers at {where.hostname}:{where.port}")
        yield url.rstrip("/")


@pytest.fixture
def memcached_server(tmp_path: Path) -> Iterator[object]:
    """A Memcached server of the test's own (`MemcachedServer`), to be killed and restarted. It then holds nothing."""
    from tests.services import memcached  # noqa: PLC0415 - like the others

    try:
        server = memcached.MemcachedServer(tmp_path / "memcached")
    except Unobtainable as reason:
        missing("memcached", str(reason))
    with server:
        yield server


@pytest.fixture(scope="session")
def aws_credentials() -> Iterator[None]:
    """Some credentials, where the environment has none."""
    from tests.services.dynamodb import credentials  # noqa: PLC0415 - like the others

    with pytest.MonkeyPatch.context() as patch:
        for name, value in credentials().items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="session")
def dynamodb_url(aws_credentials: None) -> Iterator[str]:
    """A DynamoDB for the whole run, without tables. It has a place for others: name tables uniquely."""
    from tests.services import dynamodb  # noqa: PLC0415 - like the others

    with obtained("dynamodb", dynamodb.SOURCES) as url:
        where = urlsplit(url)
        if where.port and not comes_up(lambda: dynamodb.answers(where.port or 0, where.hostname or "localhost")):
            missing("dynamodb", f"nothing answers at {where.hostname}:{where.port}")
        yield url.rstrip("/")


@pytest.fixture(scope="session")
def dynamodb_tables(dynamodb_url: str) -> dict[str, str]:
    """The keys of the section ``dynamodb`` that name two tables, which have a place for others: name tasks uniquely."""
    from tests.services.dynamodb import create_tables  # noqa: PLC0415 - present where boto3 is

    return create_tables(dynamodb_url)


@pytest.fixture
def dynamodb_server(tmp_path: Path, aws_credentials: None) -> Iterator[object]:
    """A DynamoDB Local of the test's own (`DynamodbServer`), durable, to be killed and restarted."""
    from tests.services import dynamodb  # noqa: PLC0415 - like the others

    try:
        server = dynamodb.DynamodbServer(tmp_path / "dynamodb")
    except Unobtainable as reason:
        missing("dynamodb", str(reason))
    with server:
        yield server


# -- Amazon's queues --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def sqs_url(aws_credentials: None) -> Iterator[str]:
    """An SQS for the whole run, ``sqs://host:port/account``, without queues. It has a place for others: name queues uniquely."""
    from tests.services import sqs  # noqa: PLC0415 - like the others

    with obtained("sqs", sqs.SOURCES) as url:
        where = urlsplit(url)
        if where.port and not comes_up(lambda: sqs.answers(where.port or 0, where.hostname or "localhost")):
            missing("sqs", f"nothing answers at {where.hostname}:{where.port}")
        yield url.rstrip("/")


@pytest.fixture
def sqs_queues(sqs_url: str) -> Iterator[object]:
    """Makes queues of the test's own on the shared SQS, and looks into them (`Queues`)."""
    from tests.services.sqs import Queues  # noqa: PLC0415 - like the others

    queues = Queues(sqs_url)
    yield queues
    queues.close()


@pytest.fixture
def sqs_server(tmp_path: Path, aws_credentials: None) -> Iterator[object]:
    """A ministack of the test's own (`SqsServer`) that keeps its queues when it is stopped, to be killed and restarted."""
    from tests.services import sqs  # noqa: PLC0415 - like the others

    try:
        server = sqs.SqsServer(tmp_path / "sqs")
    except Unobtainable as reason:
        missing("sqs", str(reason))
    with server:
        yield server


@pytest.fixture(scope="session")
def moto_url(aws_credentials: None) -> Iterator[str]:
    """The other double of SQS, a stricter one, likewise for the whole run."""
    from tests.services import sqs  # noqa: PLC0415 - like the others

    with obtained("sqs", sqs.MOTO_SOURCES) as url:
        where = urlsplit(url)
        if not comes_up(lambda: sqs.answers(where.port or 0, where.hostname or "localhost")):
            missing("sqs", f"nothing answers at {where.hostname}:{where.port}")
        yield url.rstrip("/")
