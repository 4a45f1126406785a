"""The contract once more, on a MongoDB in a container: the path of those who have an engine and no server."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from machinery.abc import Config
from machinery.testing import BackendContract
from machinery_backend_mongo import MongoBackend
from tests.contracts.made import Made
from tests.services.chain import is_asked_for, is_required, obtained
from tests.services.mongo import from_container

if not is_asked_for("testcontainers") and not is_required("docker"):
    pytest.skip("needs containers, which `make test-docker` asks for", allow_module_level=True)

pytestmark = pytest.mark.testcontainers


@pytest.fixture(scope="module")
def container_url() -> Iterator[str]:
    with obtained("docker", {"testcontainers": from_container}) as url:
        yield url


class TestMongoBackendInAContainer(BackendContract):
    @pytest.fixture
    def make_backend(self, container_url: str) -> Iterator[Callable[..., MongoBackend]]:
        with Made(lambda **config: MongoBackend.from_url(container_url, Config(**config))) as made:
            yield made

    @pytest.fixture
    def backend(self, make_backend: Callable[..., MongoBackend]) -> MongoBackend:
        return make_backend()
