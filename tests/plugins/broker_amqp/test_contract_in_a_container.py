"""The broker's contract once more, on a RabbitMQ in a container: the path of those who have an engine and no server."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from machinery.abc import Config
from machinery.testing import BrokerContract
from machinery_broker_amqp import AmqpBroker
from tests.contracts.made import Made
from tests.services.chain import is_asked_for, is_required, obtained
from tests.services.rabbitmq import from_container

if not is_asked_for("testcontainers") and not is_required("docker"):
    pytest.skip("needs containers, which `make test-docker` asks for", allow_module_level=True)

pytestmark = pytest.mark.testcontainers


@pytest.fixture(scope="module")
def container_url() -> Iterator[str]:
    with obtained("docker", {"testcontainers": from_container}) as url:
        yield url


class TestAmqpBrokerInAContainer(BrokerContract):
    @pytest.fixture
    def make_broker(self, container_url: str, config: Config) -> Iterator[Callable[[], AmqpBroker]]:
        with Made(lambda: AmqpBroker.from_url(container_url, config)) as made:
            yield made

    @pytest.fixture
    def broker(self, make_broker: Callable[[], AmqpBroker]) -> AmqpBroker:
        return make_broker()
