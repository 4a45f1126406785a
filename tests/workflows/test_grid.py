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
    return f"{fixture('redis_database')}?lease=20"


def on_pubsub(fixture: Fixture) -> str:
    return f"gcppubsub://tests/grid-{uuid4().hex}?ack_deadline=10&emulator_host={fixture('pubsub_host')}"


BROKERS: Mapping[str, Callable[[Fixture], str]] = {
    "redis": on_redis,
    "rabbitmq": lambda fixture: str(fixture("amqp_url")),
    "sqs": lambda fixture: f"{fixture('sqs_url')}?region=us-east-1",
    "pubsub": on_pubsub,
}
BACKENDS: Mapping[str, Callable[[Fixture], str]] = {
    "redis": lambda fixture: str(fixture("redis_database")),
    "rabbitmq": lambda fixture: str(fixture("amqp_url")),
    "mongodb": lambda fixture: str(fixture("mongo_database")),
    "memcached": lambda fixture: str(fixture("memcached_url")),
    "dynamodb": lambda fixture: str(fixture("dynamodb_url")),
}


def make_sqs_queues(fixture: Fixture, server: Server) -> None:
    queues = fixture("sqs_queues")
    for queue in (server.config.default_queue, special_queue(server)):
        queues.create(queue, dead_letters=queues.create(f"{queue}-dead"))


def make_pubsub_resources(_: Fixture, server: Server) -> None:
    own, special = server.config.default_queue, special_queue(server)
    make = server.broker.commands["create-resources"]
    make([server.config.broker, "--default-queue", own, "--queue", own, "--queue", special])


PREPARATIONS: Mapping[str, Callable[[Fixture, Server], None]] = {
    "sqs": make_sqs_queues,
    "pubsub": make_pubsub_resources,
}
"""Where queues are not made by who sends: how they are made."""


def by_redis(broker: str, backend: str) -> bool:
    """Whether one of the two is Redis: each service shows there, beside the one that answers soonest, all that it can."""
    return "redis" in {broker, backend}


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
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
        if prepare := PREPARATIONS.get(broker):
            prepare(request.getfixturevalue, server)
        yield server


PATIENT = pytest.mark.timeout(240)  # thousands of records take some services a while on a busy machine
PAIRS = list(product(BROKERS, BACKENDS))


@PATIENT
@pytest.mark.parametrize(
    "server",
    [pytest.param(pair, id="-".join(pair), marks=() if by_redis(*pair) else pytest.mark.thorough) for pair in PAIRS],
    indirect=True,
)
class TestEveryPair(WorkflowContract):
    """The whole contract."""


@PATIENT
@pytest.mark.parametrize(
    "server", [pytest.param(pair, id="-".join(pair)) for pair in PAIRS if not by_redis(*pair)], indirect=True
)
class TestWhatEitherMaySpoil:
    """Of the contract what the broker and the backend do together, for the other pairs."""

    test_values_of_every_kind_pass_through = WorkflowContract.test_values_of_every_kind_pass_through
    test_a_delayed_task_waits_for_its_time = WorkflowContract.test_a_delayed_task_waits_for_its_time
    test_a_task_that_fails_at_first_is_tried_again = WorkflowContract.test_a_task_that_fails_at_first_is_tried_again
    test_a_task_that_is_sent_again_runs_again = WorkflowContract.test_a_task_that_is_sent_again_runs_again
    test_a_chain_passes_results_from_link_to_link = WorkflowContract.test_a_chain_passes_results_from_link_to_link
    test_a_chain_ends_with_its_first_failure = WorkflowContract.test_a_chain_ends_with_its_first_failure
    test_a_chord_calls_back_with_the_results_of_its_group = (
        WorkflowContract.test_a_chord_calls_back_with_the_results_of_its_group
    )
    test_whichever_member_fails_is_named_and_mourned_once = (
        WorkflowContract.test_whichever_member_fails_is_named_and_mourned_once
    )
