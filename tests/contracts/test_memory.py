"""``memory://`` keeps the contracts."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from machinery.memory import MemoryBroker, MemoryQueues
from machinery.testing import BrokerContract


class TestMemoryBroker(BrokerContract):
    @pytest.fixture
    def make_broker(self) -> Iterator[Callable[[], MemoryBroker]]:
        queues = MemoryQueues()
        made: list[MemoryBroker] = []

        def make() -> MemoryBroker:
            made.append(MemoryBroker(queues))
            return made[-1]

        yield make
        for broker in made:
            broker.close()

    @pytest.fixture
    def broker(self, make_broker: Callable[[], MemoryBroker]) -> MemoryBroker:
        return make_broker()
