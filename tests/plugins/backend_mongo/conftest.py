"""A backend on a database of the test's own, and what else many tests here use."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pymongo
import pytest

from machinery.abc import Config
from machinery_backend_mongo import MongoBackend
from tests.contracts.made import Made


@pytest.fixture
def make_backend(mongo_database: str) -> Iterator[Callable[..., MongoBackend]]:
    """Makes backends on the test's database, given fields of `Config`."""
    with Made(lambda **changes: MongoBackend.from_url(mongo_database, Config(**changes))) as made:
        yield made


@pytest.fixture
def backend(make_backend: Callable[..., MongoBackend]) -> MongoBackend:
    return make_backend()


@pytest.fixture
def raw(mongo_database: str) -> Iterator[Any]:
    """The same database through a plain client, to look behind the scenes and to play Go."""
    client: pymongo.MongoClient[dict[str, Any]]
    with pymongo.MongoClient(mongo_database, tz_aware=True) as client:
        yield client.get_default_database()


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
