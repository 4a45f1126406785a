"""The workflows run on RabbitMQ as broker, with results in Redis."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from machinery import Server
from machinery.abc import Config
from machinery.testing import WorkflowContract


class TestWithResultsInRedis(WorkflowContract):
    @pytest.fixture
    def server(self, amqp_url: str, redis_database: str, config: Config) -> Iterator[Server]:
        where = {"broker": amqp_url, "result_backend": redis_database, "lock": redis_database}
        with Server.from_config(config.with_(**where)) as server:
            yield server
