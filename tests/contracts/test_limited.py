"""The contracts in the other direction: what is said to be missing is refused by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from machinery.memory import MemoryQueues, MemoryRecords
from machinery.testing import BackendContract, BrokerContract
from tests.contracts.limited import LimitedBackend, LimitedBroker
from tests.contracts.made import Made


class TestLimitedBroker(BrokerContract):
    @pytest.fixture
    def make_broker(self) -> Iterator[Callable[[], LimitedBroker]]:
        queues = MemoryQueues()
        with Made(lambda: LimitedBroker(queues)) as made:
            yield made

    @pytest.fixture
    def broker(self, make_broker: Callable[[], LimitedBroker]) -> LimitedBroker:
        return make_broker()


class TestLimitedBackend(BackendContract):
    @pytest.fixture
    def make_backend(self) -> Iterator[Callable[..., LimitedBackend]]:
        records = MemoryRecords()

        def make(**config: Any) -> LimitedBackend:
            return LimitedBackend(records, **config)

        with Made(make) as made:
            yield made

    @pytest.fixture
    def backend(self, make_backend: Callable[..., LimitedBackend]) -> LimitedBackend:
        return make_backend()
