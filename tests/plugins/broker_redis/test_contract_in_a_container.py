"""The broker's contract once more, on a Redis in a container: the path of those who have an engine and no server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest

from machinery.abc import Config
from machinery.testing import BrokerContract
from machinery.testing._broker._leases import Leases
from machinery_broker_redis import RedisBroker
from tests.contracts.made import Made
from tests.services.chain import is_asked_for, is_required, obtained
from tests.services.redis import from_container

if not is_asked_for("testcontainers") and not is_required("docker"):
    pytest.skip("needs containers, which `make test-docker` asks for", allow_module_level=True)

pytestmark = pytest.mark.testcontainers


@pytest.fixture(scope="module")
def container_url() -> Iterator[str]:
    with obtained("docker", {"testcontainers": from_container}) as url:
        yield url


class TestRedisBrokerInAContainer(BrokerContract):
    @pytest.fixture
    def make_broker(self, container_url: str, request: pytest.FixtureRequest) -> Iterator[Callable[[], RedisBroker]]:
        lease = 0.6 if request.node.originalname in vars(Leases) else 60
        section = {"lease": lease, "delayed_tasks_key": f"delayed_{uuid4().hex}"}
        with Made(lambda: RedisBroker.from_url(container_url, Config(sections={"redis": section}))) as made:
            yield made

    @pytest.fixture
    def broker(self, make_broker: Callable[[], RedisBroker]) -> RedisBroker:
        return make_broker()
