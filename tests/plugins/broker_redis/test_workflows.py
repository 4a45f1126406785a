"""The workflows run on Redis: broker, result backend and lock in one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from machinery import Server
from machinery.testing import WorkflowContract


class TestOnRedis(WorkflowContract):
    @pytest.fixture
    def server(self, redis_database: str) -> Iterator[Server]:
        with Server.from_url(f"{redis_database}?lease=2") as server:
            yield server
