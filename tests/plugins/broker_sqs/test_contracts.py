"""SQS keeps the contract: with standard queues in full, with FIFO queues where these differ, and on a stricter double of SQS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, ClassVar

import pytest

from machinery.abc import Config
from machinery.testing import BrokerContract
from machinery.testing._broker._dead_letters import DeadLetters
from machinery.testing._broker._delays import Delays
from machinery.testing._broker._delivery import DeliveryOfMessages
from machinery.testing._broker._leases import Leases
from machinery.testing._broker._settling import Settling
from machinery.testing._broker._suite import BrokerSuite
from machinery_broker_sqs import SqsBroker
from tests.contracts.made import Made
from tests.plugins.broker_sqs.conftest import config_with

if TYPE_CHECKING:
    from tests.services.sqs import Queues


class OnSqs(BrokerSuite):
    fifo: ClassVar[bool] = False
    odd_queue_names: ClassVar[tuple[str, ...]] = ()  # SQS allows letters, digits, - and _
    many: ClassVar[int] = 300

    @pytest.fixture(autouse=True)
    def _queues(self, sqs_queues: Queues) -> None:
        self.queues = sqs_queues

    def new_queue(self, beginning: str = "") -> str:
        return self.queues.with_dead_letters(fifo=self.fifo)


SHORT_LEASE = 3
"""Seconds: as long as the contract waits for."""


class TestSqsBroker(OnSqs, BrokerContract):
    @pytest.fixture
    def config(self, request: pytest.FixtureRequest) -> Config:
        is_of_leases = request.node.originalname in vars(Leases)
        return config_with(receive_visibility_timeout=SHORT_LEASE) if is_of_leases else config_with()


class TestSqsBrokerWithFifoQueues(OnSqs, DeliveryOfMessages, Settling, Delays):
    fifo: ClassVar[bool] = True
    many: ClassVar[int] = 40

    @pytest.fixture
    def config(self) -> Config:
        return config_with("contract.fifo")


class TestSqsBrokerOnMoto(OnSqs, DeadLetters):
    """moto takes a while for each request."""

    @pytest.fixture(autouse=True)
    def _queues(self, moto_url: str) -> Iterator[None]:
        from tests.services.sqs import Queues  # noqa: PLC0415 - present where the URL is

        self.queues = Queues(moto_url)
        yield
        self.queues.close()

    @pytest.fixture
    def make_broker(self, moto_url: str, config: Config) -> Iterator[Callable[..., SqsBroker]]:
        with Made(lambda: SqsBroker.from_url(moto_url, config)) as made:
            yield made
