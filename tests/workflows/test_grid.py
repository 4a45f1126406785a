"""Every broker with every result backend: the workflows run, whatever carries the messages and whatever keeps the results."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import product
from typing import Any
from uuid import uuid4

import pytest

from machinery import Server
from machinery.abc import Config
from machinery.testing import WorkflowContract
from machinery.testing._workflow._suite import special_queue

Fixture = Callable[[str], Any]
"""The value of a fixture, which is made when it is asked for: nobody starts a service that another pair needs."""


def on_redis(fixture: Fixture) -> str:
    return f"{fixture('redis_database')}?lease=2"


def on_pubsub(fixture: Fixture) -> str:
    return f"gcppubsub://tests/grid-{uuid4().hex}?ack_deadline=2&emulator_host={fixture('pubsub_host')}"


BROKERS: Mapping[str, Callable[[Fixture], str]] = {
    "redis": on_redis,
    "rabbitmq": lambda fixture: str(fixture("amqp_url")),
    "pubsub": on_pubsub,
}
BACKENDS: Mapping[str, Callable[[Fixture], str]] = {
    "redis": lambda fixture: str(fixture("redis_database")),
    "rabbitmq": lambda fixture: str(fixture("amqp_url")),
    "mongodb": lambda fixture: str(fixture("mongo_database")),
    "memcached": lambda fixture: str(fixture("memcached_url")),
    "dynamodb": lambda fixture: str(fixture("dynamodb_url")),
}


@pytest.mark.timeout(240)  # thousands of records take some services a while on a busy machine
class TestEveryPair(WorkflowContract):
    @pytest.fixture(params=product(BROKERS, BACKENDS), ids="-".join)
    def server(self, request: pytest.FixtureRequest) -> Iterator[Server]:
        broker, backend = request.param
        own = uuid4().hex
        sections: dict[str, Mapping[str, Any]] = {"amqp": {"exchange": f"exchange-{own}", "binding_key": f"key-{own}"}}
        if backend == "dynamodb":
            sections["dynamodb"] = request.getfixturevalue("dynamodb_tables")
        config = Config(
            broker=BROKERS[broker](request.getfixturevalue),
            result_backend=BACKENDS[backend](request.getfixturevalue),
            default_queue=f"queue-{own}",
            sections=sections,
        )
        with Server.from_config(config) as server:
            if make := server.broker.commands.get("create-resources"):
                own_queue, special = config.default_queue, special_queue(server)
                make([config.broker, "--default-queue", own_queue, "--queue", own_queue, "--queue", special])
            yield server
