"""SQS keeps the contract: with standard queues, with FIFO queues."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import pytest

from machinery.abc import Config
from machinery.testing import BrokerContract
from tests.plugins.broker_sqs.conftest import config_with

if TYPE_CHECKING:
    from tests.services.sqs import Queues


class OnSqs(BrokerContract):
    fifo: ClassVar[bool] = False
    odd_queue_names: ClassVar[tuple[str, ...]] = ()  # SQS allows letters, digits, - and _

    @pytest.fixture(autouse=True)
    def _queues(self, sqs_queues: Queues) -> None:
        self.queues = sqs_queues

    def new_queue(self) -> str:
        return self.queues.with_dead_letters(fifo=self.fifo)


class TestSqsBroker(OnSqs):
    pass


class TestSqsBrokerWithFifoQueues(OnSqs):
    fifo: ClassVar[bool] = True

    @pytest.fixture
    def config(self) -> Config:
        return config_with("contract.fifo")
