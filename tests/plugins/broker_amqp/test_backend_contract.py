"""RabbitMQ keeps the contract of a result backend."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from machinery.abc import Config
from machinery.testing import BackendContract
from machinery_broker_amqp import AmqpBackend
from tests.contracts.made import Made


@pytest.mark.timeout(240)  # a queue for each of thousands of records takes RabbitMQ a while on a busy machine
class TestAmqpBackend(BackendContract):
    @pytest.fixture
    def make_backend(self, amqp_url: str, config: Config) -> Iterator[Callable[..., AmqpBackend]]:
        def make(**changes: Any) -> AmqpBackend:
            return AmqpBackend.from_url(amqp_url, config.with_(**changes))

        with Made(make) as made:
            yield made

    @pytest.fixture
    def backend(self, make_backend: Callable[..., AmqpBackend]) -> AmqpBackend:
        return make_backend()
