"""``eager://`` runs a task inside the call that sends it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from machinery import Config, Server, Signature, State, TaskFailed, chain
from machinery.abc import Message
from machinery.eager import EagerBackend, EagerBroker
from machinery.errors import Closed, ConfigError, TaskNotRegistered, Unsupported


@pytest.fixture
def server() -> Iterator[Server]:
    with Server.from_url("eager://") as server:
        yield server


def test_a_task_has_run_when_send_returns(server: Server) -> None:
    @server.task
    def add(a: int, b: int) -> int:
        return a + b

    result = add.send(2, 3)
    assert result.state is State.SUCCESS
    assert result.touch() == 5
    assert result.get(timeout=0) == 5


def test_a_failure_is_a_result_and_no_error_of_send(server: Server) -> None:
    @server.task
    def bad() -> None:
        raise ValueError("no good")

    result = bad.send()
    with pytest.raises(TaskFailed, match="no good"):
        result.get(timeout=0)


def test_a_coroutine_runs_even_inside_a_running_loop(server: Server) -> None:
    @server.task
    async def inner() -> int:
        return 7

    @server.task
    async def outer() -> int | None:
        return inner.send().touch()

    assert outer.send().get(timeout=0) == 7


def test_what_follows_runs_too(server: Server) -> None:
    @server.task
    def add(a: int, b: int) -> int:
        return a + b

    assert server.send_chain(chain(add.signature(1, 2), add.partial(10), add.partial(100))).get(timeout=0) == 113


def test_eta_queue_and_priority_do_not_matter(server: Server) -> None:
    @server.task
    def now() -> str:
        return "now"

    far = datetime.now(UTC) + timedelta(days=1)
    assert now.options(eta=far, queue="elsewhere", priority=9).send().get(timeout=0) == "now"
    assert server.pending_tasks() == []
    assert server.delayed_tasks() == []


def test_a_task_that_nobody_knows_is_the_callers_mistake(server: Server) -> None:
    with pytest.raises(TaskNotRegistered, match="'unknown'"):
        server.send_task(Signature("unknown"))


def test_there_is_no_worker(server: Server) -> None:
    with pytest.raises(Unsupported, match="eager:// has no worker"):
        server.broker.consumer("queue", "c")


def test_without_somebody_to_run_them_tasks_are_refused() -> None:
    broker = EagerBroker.from_url("eager://", Config())
    with pytest.raises(ConfigError, match="assign"):
        broker.publish([Message(b"body", "queue")])


def test_messages_run_in_the_order_given_and_an_error_comes_out() -> None:
    ran: list[bytes] = []

    def run(message: Message) -> None:
        ran.append(message.body)
        if message.body == b"2":
            raise OSError("infrastructure")

    broker = EagerBroker(run)
    with pytest.raises(OSError, match="infrastructure"):
        broker.publish([Message(body, "queue") for body in (b"1", b"2", b"3")])
    assert ran == [b"1", b"2"]


def test_nothing_ever_waits_and_nothing_is_kept() -> None:
    broker = EagerBroker(print)
    assert broker.pending("queue", 10) == []
    assert broker.delayed(10) == []
    assert broker.purge("queue") == 0
    refused: list[Callable[[], object]] = [
        lambda: broker.dead("queue", 10),
        lambda: broker.requeue_dead("queue"),
        lambda: broker.purge_dead("queue"),
    ]
    for call in refused:
        with pytest.raises(Unsupported, match="dead letters"):
            call()


def test_a_closed_one_says_so() -> None:
    broker = EagerBroker(print)
    broker.close()
    broker.close()
    calls: list[Callable[[], object]] = [
        lambda: broker.publish([]),
        lambda: broker.consumer("queue", "c"),
        lambda: broker.pending("queue", 1),
        lambda: broker.delayed(1),
        lambda: broker.purge("queue"),
        lambda: broker.dead("queue", 1),
    ]
    for call in calls:
        with pytest.raises(Closed):
            call()


def test_the_backend_is_built_from_the_url() -> None:
    assert isinstance(EagerBackend.from_url("eager://", Config()), EagerBackend)
