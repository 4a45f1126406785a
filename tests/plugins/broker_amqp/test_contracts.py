"""RabbitMQ keeps the contracts: with plain queues, with priorities, and with quorum queues."""

from __future__ import annotations

import pytest

from machinery.abc import Config
from machinery.testing import BrokerContract
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
