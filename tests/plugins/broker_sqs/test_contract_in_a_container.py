"""The broker's contract once more, on LocalStack in a container.

Written for those who have its image, and not run by this project, whose CI reaches no registry: the image's absence is a skip.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import ClassVar

import pytest

from machinery.abc import Config
from machinery.testing import BrokerContract
from machinery_broker_sqs import SqsBroker
from tests.contracts.made import Made
from tests.services.chain import is_asked_for, obtained
from tests.services.sqs import Queues, from_container

if not is_asked_for("testcontainers"):
    pytest.skip("needs containers, which `make test-docker` asks for", allow_module_level=True)

pytestmark = pytest.mark.testcontainers


@pytest.fixture(scope="module")
def container_url(aws_credentials: None) -> Iterator[str]:
    with obtained("localstack", {"testcontainers": from_container}) as url:
        yield url


class TestSqsBrokerInAContainer(BrokerContract):
    odd_queue_names: ClassVar[tuple[str, ...]] = ()
    many: ClassVar[int] = 300

    @pytest.fixture(autouse=True)
    def _queues(self, container_url: str) -> Iterator[None]:
        self.queues = Queues(container_url)
        yield
        self.queues.close()

    def new_queue(self, beginning: str = "") -> str:
        return self.queues.with_dead_letters()

    @pytest.fixture
    def make_broker(self, container_url: str, config: Config) -> Iterator[Callable[[], SqsBroker]]:
        with Made(lambda: SqsBroker.from_url(container_url, config)) as made:
            yield made

    @pytest.fixture
    def broker(self, make_broker: Callable[[], SqsBroker]) -> SqsBroker:
        return make_broker()
