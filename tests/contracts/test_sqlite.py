"""``sqlite://`` keeps the contracts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from machinery.sqlite import SqliteBroker, SqliteOptions
from machinery.testing import BrokerContract


@pytest.fixture
def options(tmp_path: Path) -> SqliteOptions:
    return SqliteOptions(path=str(tmp_path / "contract.db"), lease=timedelta(seconds=0.6))


class TestSqliteBroker(BrokerContract):
    @pytest.fixture
    def make_broker(self, options: SqliteOptions) -> Iterator[Callable[[], SqliteBroker]]:
        made: list[SqliteBroker] = []

        def make() -> SqliteBroker:
            made.append(SqliteBroker(options))
            return made[-1]

        yield make
        for broker in made:
            broker.close()

    @pytest.fixture
    def broker(self, make_broker: Callable[[], SqliteBroker]) -> SqliteBroker:
        return make_broker()
