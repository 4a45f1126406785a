"""What a type checker knows of a task. `make check` reads this file, and an ignored error that is none is an error there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import assert_type

import pytest

from machinery import AsyncResult, Server, Signature, Task, TaskContext
from machinery._task_options import RegisterOptions, RunOptions, SendOptions, TaskOptions
from machinery.errors import EncodeError

server = Server.from_url("memory://")


@server.task
def add(a: int, b: int) -> int:
    return a + b


@server.task(name="double", retry_count=3)
def twice(number: int) -> int:
    return 2 * number


@server.task
async def halve(number: int) -> float:
    return number / 2


@server.task
def attempt(context: TaskContext, text: str) -> str:
    return f"{text} {context.attempt}"


@pytest.fixture(autouse=True)
def worker() -> Iterator[None]:
    with server.new_worker("typed", 1):
        yield


def test_a_result_has_the_type_that_the_function_returns() -> None:
    assert assert_type(add.send(2, 3), AsyncResult[int]).get(timeout=15) == 5
    assert_type(add.send(2, b=3).get(timeout=15), int)


def test_a_call_here_and_now_is_the_functions_own() -> None:
    assert assert_type(add(2, 3), int) == 5


def test_options_keep_the_types() -> None:
    assert assert_type(twice.options(queue="").send(4).get(timeout=15), int) == 8
    assert_type(add.signature(1, 2), Signature)


def test_an_async_task_results_in_what_its_coroutine_returns() -> None:
    assert assert_type(halve.send(3).get(timeout=15), float) == 1.5


def test_the_context_is_no_argument_of_a_call() -> None:
    assert assert_type(attempt.send("run").get(timeout=15), str) == "run 1"
    assert attempt("run") == "run 1"


def test_a_wrong_call_is_an_error_for_the_type_checker_and_when_sent() -> None:
    with pytest.raises(EncodeError, match="argument 'a' of add is str"):
        add.send("x", 1)  # type: ignore[arg-type]
    with pytest.raises(EncodeError, match="missing a required argument: 'b'"):
        add.send(1)  # type: ignore[call-arg]
    with pytest.raises(EncodeError, match="too many positional arguments"):
        add.signature(1, 2, 3)  # type: ignore[call-arg]


def test_an_option_there_is_not_or_of_another_type_is_an_error_for_the_type_checker_and_when_written() -> None:
    with pytest.raises(TypeError, match="unknown task option 'bogus'"):
        add.options(bogus=1)  # type: ignore[call-arg]
    with pytest.raises(EncodeError, match="the option countdown is 'x'"):
        add.options(countdown="x")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="unknown task option 'soft_time_limit'"):
        add.options(soft_time_limit=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unknown task option 'bogus'"):
        server.register_task("other", print, bogus=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unknown task option 'bogus'"):
        server.task(bogus=1)(print)  # type: ignore[call-overload]


def test_every_option_has_a_type() -> None:
    assert set(SendOptions.__annotations__) == {field.name for field in fields(TaskOptions)}
    own = set(RegisterOptions.__annotations__) - set(SendOptions.__annotations__)
    assert own == {field.name for field in fields(RunOptions)}


def test_a_task_has_its_parameters_in_its_type() -> None:
    def takes(task: Task[[int, int], int, int]) -> int:
        return task.send(1, 1).get(timeout=15)

    assert takes(add) == 2
