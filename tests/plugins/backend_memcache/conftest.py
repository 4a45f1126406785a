"""Backends on the shared Memcached, and what else many tests here use. It is shared: ids are unique."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from pymemcache.client.base import Client

from machinery.abc import Config
from machinery_backend_memcache import MemcacheBackend
from tests.contracts.made import Made


@pytest.fixture
def make_backend(memcached_url: str) -> Iterator[Callable[..., MemcacheBackend]]:
    """Makes further backends on the same server, which are patient; takes fields of `Config`."""

    def make(**config: Any) -> MemcacheBackend:
        return MemcacheBackend.from_url(memcached_url, Config(**{"connect_timeout": 30, **config}))

    with Made(make) as made:
        yield made


@pytest.fixture
def backend(make_backend: Callable[..., MemcacheBackend]) -> MemcacheBackend:
    return make_backend()


@contextmanager
def connected_to(url: str) -> Iterator[Any]:
    """A plain client, to look behind the scenes and to play Go."""
    where = urlsplit(url)
    client = Client(
        (where.hostname, where.port or 11211), no_delay=True, timeout=30, default_noreply=False, allow_unicode_keys=True
    )
    try:
        yield client
    finally:
        client.close()


@pytest.fixture
def raw(memcached_url: str) -> Iterator[Any]:
    """A plain client of the same server."""
    with connected_to(memcached_url) as made:
        yield made


@pytest.fixture
def new_id() -> Callable[[], str]:
    """Makes ids that nobody else uses."""
    return lambda: f"task_{uuid4()}"


@pytest.fixture
def uuid(new_id: Callable[[], str]) -> str:
    """An id that nobody else uses."""
    return new_id()
