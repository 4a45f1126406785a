"""The contract once more, on a Memcached in a container: the path of those who have an engine and no server."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from machinery.abc import Config
from machinery.testing import BackendContract
from machinery_backend_memcache import MemcacheBackend
from tests.contracts.made import Made
from tests.services.chain import is_asked_for, is_required, obtained
from tests.services.memcached import from_container

if not is_asked_for("testcontainers") and not is_required("docker"):
    pytest.skip("needs containers, which `make test-docker` asks for", allow_module_level=True)

pytestmark = pytest.mark.testcontainers


@pytest.fixture(scope="module")
def container_url() -> Iterator[str]:
    with obtained("docker", {"testcontainers": from_container}) as url:
        yield url


class TestMemcacheBackendInAContainer(BackendContract):
    @pytest.fixture
    def make_backend(self, container_url: str) -> Iterator[Callable[..., MemcacheBackend]]:
        with Made(lambda **config: MemcacheBackend.from_url(container_url, Config(**config))) as made:
            yield made

    @pytest.fixture
    def backend(self, make_backend: Callable[..., MemcacheBackend]) -> MemcacheBackend:
        return make_backend()
