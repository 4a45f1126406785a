"""RabbitMQ keeps the contracts: with plain queues, with priorities, and with quorum queues."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from machinery.abc import Config
from machinery.testing import BackendContract, BrokerContract
from machinery_broker_amqp import AmqpBackend
from tests.contracts.made import Made
from tests.plugins.broker_amqp.conftest import config_with


class TestAmqpBroker(BrokerContract):
    pass


class TestAmqpBrokerWithPriorities(BrokerContract):
    @pytest.fixture
    def config(self) -> Config:
        return config_with(queue_declare_args={"x-max-priority": 10})


class TestAmqpBrokerWithQuorumQueues(BrokerContract):
    @pytest.fixture
    def config(self) -> Config:
        return config_with(queue_declare_args={"x-queue-type": "quorum", "x-delivery-limit": 1_000_000})


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
