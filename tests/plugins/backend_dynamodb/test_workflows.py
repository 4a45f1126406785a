"""The workflows run with results in DynamoDB, and Redis as broker and lock."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from machinery import Config, Server
from machinery.testing import WorkflowContract


class TestOnDynamodb(WorkflowContract):
    @pytest.fixture
    def server(self, redis_database: str, dynamodb_url: str, config: Config) -> Iterator[Server]:
        made = config.with_(broker=f"{redis_database}?lease=2", result_backend=dynamodb_url, lock=redis_database)
        with Server.from_config(made) as server:
            yield server
