"""The workflows run on RabbitMQ alone: broker and result backend in one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from machinery import Server
from machinery.abc import Config
from machinery.testing import WorkflowContract


@pytest.mark.timeout(240)  # a queue for each of thousands of records takes RabbitMQ a while on a busy machine
class TestWithResultsInRabbitMQ(WorkflowContract):
    @pytest.fixture
    def server(self, amqp_url: str, config: Config) -> Iterator[Server]:
        with Server.from_config(config.with_(broker=amqp_url)) as server:
            yield server
