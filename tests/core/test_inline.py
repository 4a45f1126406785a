"""``eager://``: tasks run inside the call that sends them, by the worker's own rules."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from machinery import RetryTaskLater, Server, Signature, TaskContext, TaskFailed, chain
from machinery.errors import TaskNotRegistered, Unsupported


@pytest.fixture
def server() -> Iterator[Server]:
    with Server.from_url("eager://", result_backend="memory://") as made:

        @made.task
        def add(*numbers: int) -> int:
            return sum(numbers)

        @made.task
        async def double(number: int) -> int:
            await asyncio.sleep(0)
            return 2 * number

        @made.task
        def bad() -> None:
            raise ValueError("no good")

        yield made


def test_the_result_is_there_when_send_returns(server: Server) -> None:
    assert server.send_task(Signature("add", [1, 2])).touch() == 3
    assert server.send_task(Signature("double", [4])).touch() == 8


def test_a_failure_is_the_result(server: Server) -> None:
    result = server.send_task(Signature("bad"))
    with pytest.raises(TaskFailed, match="no good"):
        result.touch()


def test_a_chain_runs_to_its_end(server: Server) -> None:
    assert server.send_chain(chain(Signature("add", [1, 1]), Signature("add", [5]), Signature("double"))).touch() == 14


def test_retries_run_at_once(server: Server) -> None:
    @server.task(retry_count=1)
    def shaky(context: TaskContext) -> int:
        if context.attempt == 1:
            raise ValueError("not yet")
        if context.attempt == 2:
            raise RetryTaskLater("in an hour", 3600)
        return context.attempt

    assert shaky.send().touch() == 3


def test_a_task_may_send_another_and_wait_for_it(server: Server) -> None:
    @server.task
    def outer() -> int:
        return int(server.send_task(Signature("add", [1, 2])).get(timeout=1)) + 1

    assert outer.send().touch() == 4


def test_it_works_inside_an_event_loop(server: Server) -> None:
    async def send() -> object:
        return await server.send_task(Signature("double", [4])).aget(timeout=1)

    assert asyncio.run(send()) == 8


def test_an_unknown_task_is_told_to_the_caller(server: Server) -> None:
    with pytest.raises(TaskNotRegistered, match="no task 'who'; it has add, bad, double"):
        server.send_task(Signature("who"))
    server.send_task(Signature("who", ignore_when_task_not_registered=True))


def test_an_interruption_by_the_user_is_no_failure_to_hide(server: Server) -> None:
    @server.task
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted.send()


def test_there_is_no_worker(server: Server) -> None:
    with pytest.raises(Unsupported, match="eager:// has no worker"):
        server.new_worker("test").start()
