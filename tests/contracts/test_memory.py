"""``memory://`` keeps the contracts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from machinery.memory import MemoryBackend, MemoryBroker, MemoryLock, MemoryLocks, MemoryQueues, MemoryRecords
from machinery.testing import BackendContract, BrokerContract, LockContract
from tests.contracts.made import Made
from tests.contracts.skewed import SkewedClock


class TestMemoryBroker(BrokerContract):
    @pytest.fixture
    def make_broker(self) -> Iterator[Callable[[], MemoryBroker]]:
        queues = MemoryQueues()
        with Made(lambda: MemoryBroker(queues)) as made:
            yield made

    @pytest.fixture
    def broker(self, make_broker: Callable[[], MemoryBroker]) -> MemoryBroker:
        return make_broker()


class TestMemoryBackend(BackendContract):
    @pytest.fixture
    def make_backend(self) -> Iterator[Callable[..., MemoryBackend]]:
        records = MemoryRecords()

        def make(**config: Any) -> MemoryBackend:
            return MemoryBackend(records, **config)

        with Made(make) as made:
            yield made

    @pytest.fixture
    def backend(self, make_backend: Callable[..., MemoryBackend]) -> MemoryBackend:
        return make_backend()


class TestMemoryLock(LockContract):
    @pytest.fixture
    def locks(self) -> MemoryLocks:
        return MemoryLocks()

    @pytest.fixture
    def make_lock(self, locks: MemoryLocks) -> Iterator[Callable[[], MemoryLock]]:
        with Made(lambda: MemoryLock(locks)) as made:
            yield made

    @pytest.fixture
    def skewed_lock(self, locks: MemoryLocks) -> Iterator[Callable[[timedelta], MemoryLock]]:
        with Made(lambda ahead: MemoryLock(locks, SkewedClock(ahead))) as made:
            yield made

    @pytest.fixture
    def lock(self, make_lock: Callable[[], MemoryLock]) -> MemoryLock:
        return make_lock()
