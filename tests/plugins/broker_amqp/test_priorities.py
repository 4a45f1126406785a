"""Priorities, through a worker: what is urgent runs first, when it is new, when it was delayed and when it is tried again."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from machinery import Exponential, Server, Signature, TaskContext
from machinery.abc import Config
from machinery.errors import PriorityNotSupported
from machinery.memory import MemoryBackend, MemoryLock
from machinery.testing._expectations import eventually
from machinery_broker_amqp import AmqpBroker
from tests.plugins.broker_amqp.conftest import config_with


@pytest.fixture
def config() -> Config:
    return config_with(queue_declare_args={"x-max-priority": 10}, prefetch_count=1)


@pytest.fixture
def ran() -> list[int]:
    return []


@pytest.fixture
def failed() -> list[int]:
    return []


@pytest.fixture
def server(broker: AmqpBroker, config: Config, ran: list[int], failed: list[int]) -> Iterator[Server]:
    with Server(config, broker, MemoryBackend(), MemoryLock()) as made:

        @made.task
        def note(number: int) -> None:
            ran.append(number)

        @made.task(retry_count=1, retry=Exponential(base=3, jitter=0))
        def falter(context: TaskContext, number: int) -> None:
            if context.attempt == 1:
                failed.append(number)
                raise ValueError("not yet")
            ran.append(number)

        yield made


def signatures(name: str, eta: datetime | None = None) -> list[Signature]:
    return [Signature(name, [number], priority=number, eta=eta, retry_count=1) for number in (1, 9, 0, 5, 9, 3)]


def test_what_is_urgent_runs_first(server: Server, ran: list[int]) -> None:
    server.send_tasks(signatures("note"))

    with server.new_worker("test", 1):
        eventually(lambda: len(ran) == 6)

    assert ran == [9, 9, 5, 3, 1, 0]


def test_what_was_delayed_keeps_its_priority(server: Server, ran: list[int]) -> None:
    server.send_tasks(signatures("note", datetime.now(UTC) + timedelta(seconds=0.5)))
    eventually(lambda: len(server.pending_tasks()) == 6)

    with server.new_worker("test", 1):
        eventually(lambda: len(ran) == 6)

    assert ran == [9, 9, 5, 3, 1, 0]


def test_what_is_tried_again_keeps_its_priority(server: Server, ran: list[int], failed: list[int]) -> None:
    server.send_tasks(signatures("falter"))
    with server.new_worker("test", 1):
        eventually(lambda: len(failed) == 6)
    assert failed == [9, 9, 5, 3, 1, 0]
    early = len(ran)  # on a busy machine some were tried again before all had failed
    eventually(lambda: len(server.pending_tasks()) == 6 - early)

    with server.new_worker("test", 1):
        eventually(lambda: len(ran) == 6)

    assert ran[early:] == sorted(ran[early:], reverse=True)
    assert sorted(ran) == sorted(failed)


def test_where_queues_have_no_priorities_they_are_refused(amqp_url: str) -> None:
    config = config_with()
    with (
        Server(config, AmqpBroker.from_url(amqp_url, config), MemoryBackend(), MemoryLock()) as server,
        pytest.raises(PriorityNotSupported, match="no priorities"),
    ):
        server.send_tasks(signatures("note"))
