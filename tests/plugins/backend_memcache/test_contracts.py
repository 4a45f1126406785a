"""Memcached keeps the contract, as one server and as several."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from machinery.abc import Config
from machinery.testing import BackendContract
from machinery_backend_memcache import MemcacheBackend
from tests.contracts.made import Made
from tests.services.chain import Unobtainable, missing
from tests.services.memcached import MemcachedServer


@pytest.fixture(scope="module")
def several_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("several")
    with ExitStack() as running:
        try:
            servers = [running.enter_context(MemcachedServer(folder / str(number))) for number in range(3)]
        except Unobtainable as reason:
            missing("memcached", str(reason))
        yield "memcache://" + ",".join(f"127.0.0.1:{server.port}" for server in servers)


class TestMemcacheBackend(BackendContract):
    """The fixtures are the folder's."""


class TestMemcacheBackendOnSeveralServers(BackendContract):
    @pytest.fixture
    def make_backend(self, several_url: str) -> Iterator[Callable[..., MemcacheBackend]]:
        with Made(lambda **config: MemcacheBackend.from_url(several_url, Config(**config))) as made:
            yield made

    @pytest.fixture
    def backend(self, make_backend: Callable[..., MemcacheBackend]) -> MemcacheBackend:
        return make_backend()
