"""``sqlite://`` keeps the contracts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from machinery.sqlite import SqliteBackend, SqliteBroker, SqliteLock, SqliteOptions
from machinery.testing import BackendContract, BrokerContract, LockContract
from machinery.testing._broker._leases import Leases
from tests.contracts.made import Made

SHORT_LEASE = timedelta(seconds=0.6)
"""For the tests that wait for its end; the others are not to lose what they hold because the machine is busy."""


@pytest.fixture
def options(tmp_path: Path, request: pytest.FixtureRequest) -> SqliteOptions:
    is_of_leases = request.node.originalname in vars(Leases)
    made = SqliteOptions(path=str(tmp_path / "contract.db"))
    return replace(made, lease=SHORT_LEASE) if is_of_leases else made


class TestSqliteBroker(BrokerContract):
    @pytest.fixture
    def make_broker(self, options: SqliteOptions) -> Iterator[Callable[[], SqliteBroker]]:
        with Made(lambda: SqliteBroker(options)) as made:
            yield made

    @pytest.fixture
    def broker(self, make_broker: Callable[[], SqliteBroker]) -> SqliteBroker:
        return make_broker()


class TestSqliteBackend(BackendContract):
    @pytest.fixture
    def make_backend(self, options: SqliteOptions) -> Iterator[Callable[..., SqliteBackend]]:
        def make(**config: Any) -> SqliteBackend:
            return SqliteBackend(options, **config)

        with Made(make) as made:
            yield made

    @pytest.fixture
    def backend(self, make_backend: Callable[..., SqliteBackend]) -> SqliteBackend:
        return make_backend()


class TestSqliteLock(LockContract):
    @pytest.fixture
    def make_lock(self, options: SqliteOptions) -> Iterator[Callable[[], SqliteLock]]:
        with Made(lambda: SqliteLock(options)) as made:
            yield made

    @pytest.fixture
    def lock(self, make_lock: Callable[[], SqliteLock]) -> SqliteLock:
        return make_lock()

    @pytest.fixture
    def skewed_lock(self) -> Callable[[timedelta], SqliteLock]:
        pytest.skip("the file's clock is that of the machine, which all who share the file are on")
