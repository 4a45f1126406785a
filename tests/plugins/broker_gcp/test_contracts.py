"""Pub/Sub keeps the contract: with plain subscriptions, with such that deliver exactly once, and with ordering keys."""

from __future__ import annotations

from typing import ClassVar

import pytest

from machinery.abc import Config
from machinery.testing import BrokerContract
from machinery.testing._broker._delivery import DeliveryOfMessages
from machinery.testing._broker._leases import Leases
from machinery.testing._broker._settling import Settling
from machinery.testing._broker._suite import BrokerSuite
from tests.plugins.broker_gcp.conftest import MakeQueue, config_with


class OnMadeQueues(BrokerSuite):
    """Every queue has to be made before."""

    odd_queue_names: ClassVar[tuple[str, ...]] = ("a.b_c~d+e%25",)
    arguments: ClassVar[tuple[str, ...]] = ()

    @pytest.fixture(autouse=True)
    def _queues(self, make_queue: MakeQueue) -> None:
        self._make_queue = make_queue

    def new_queue(self, beginning: str = "contract-") -> str:
        return self._make_queue(super().new_queue(beginning), *self.arguments)


SHORT_LEASE = 2
"""Seconds: as long as the contract waits for."""


class TestPubsubBroker(OnMadeQueues, BrokerContract):
    @pytest.fixture
    def config(self, request: pytest.FixtureRequest) -> Config:
        is_of_leases = request.node.originalname in vars(Leases)
        return config_with(ack_deadline=SHORT_LEASE) if is_of_leases else config_with()


class TestPubsubBrokerWithExactlyOnceDelivery(TestPubsubBroker):
    arguments: ClassVar[tuple[str, ...]] = ("--exactly-once",)


class TestPubsubBrokerWithOrderingKeys(OnMadeQueues, DeliveryOfMessages, Settling):
    """What they may change."""

    arguments: ClassVar[tuple[str, ...]] = ("--ordering",)

    @pytest.fixture
    def config(self) -> Config:
        return config_with(ordering_keys=True)
