"""Brokers, backends and locks on an empty database of the shared Redis, and what else many tests here use."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from machinery.abc import Config
from machinery_broker_redis import RedisBackend, RedisBroker, RedisLock, _waiting
from machinery_broker_redis._consumer import RedisConsumer


def config_with(**options: Any) -> Config:
    """A configuration whose ``redis`` section says that."""
    return Config(sections={"redis": options})


@pytest.fixture(autouse=True)
def redis_may_be_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """A short wait says that Redis is unavailable when that is a second late, as it may be on a busy machine."""
    monkeypatch.setattr(_waiting, "ALLOWANCE", 20.0)


@pytest.fixture
def config() -> Config:
    return config_with(lease=0.3)


@pytest.fixture
def broker(redis_database: str, config: Config) -> Iterator[RedisBroker]:
    made = RedisBroker.from_url(redis_database, config)
    yield made
    made.close()


@pytest.fixture
def backend(redis_database: str, config: Config) -> Iterator[RedisBackend]:
    made = RedisBackend.from_url(redis_database, config)
    yield made
    made.close()


@pytest.fixture
def lock(redis_database: str, config: Config) -> Iterator[RedisLock]:
    made = RedisLock.from_url(redis_database, config)
    yield made
    made.close()


@pytest.fixture
def raw(redis_database: str) -> Iterator[Any]:
    """A plain client of the same database, to look behind the scenes and to play Go."""
    from redis import Redis  # noqa: PLC0415 - present where redis_database is

    with Redis.from_url(redis_database, decode_responses=True) as client:
        yield client


@pytest.fixture
def consumer(broker: RedisBroker) -> Iterator[RedisConsumer]:
    made = broker.consumer("tasks", "first")
    yield made
    made.close()


@pytest.fixture
def another(broker: RedisBroker) -> Iterator[Callable[..., RedisConsumer]]:
    """Makes further consumers of the queue ``tasks``."""
    made: list[RedisConsumer] = []

    def make(name: str = "second", queue: str = "tasks") -> RedisConsumer:
        made.append(broker.consumer(queue, name))
        return made[-1]

    yield make
    for consumer in made:
        consumer.close()


@pytest.fixture
def later() -> Iterator[Callable[..., threading.Timer]]:
    """Makes a call after some seconds, in a thread to be joined; at the end all were made. Name it last, so it ends first."""
    timers: list[threading.Timer] = []

    def start(seconds: float, *call: Any) -> threading.Timer:
        timers.append(threading.Timer(seconds, call[0], call[1:]))
        timers[-1].start()
        return timers[-1]

    yield start
    for timer in timers:
        timer.join()
