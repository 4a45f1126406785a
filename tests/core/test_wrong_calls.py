"""Messages whose arguments the function cannot take: a failure with a reason, at once, whatever retries are left."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from machinery import Arg, Server, Signature, TaskFailed

server = Server.from_url("memory://")
ran: list[object] = []


@server.task(retry_count=3)
def divide(a: int, b: int = 1) -> float:
    ran.append((a, b))
    return a / b


@server.task
def only_keywords(*, a: int) -> int:
    return a


@pytest.fixture(autouse=True)
def worker() -> Iterator[None]:
    ran.clear()
    with server.new_worker("test", 1):
        yield


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        ([], "missing a required argument: 'a'"),
        ([1, 2, 3], "too many positional arguments"),
        ([Arg("int64", 1, "b")], "missing a required argument: 'a'"),
        ([1, Arg("int64", 1, "a")], "multiple values for argument 'a'"),
        (["x"], "argument 'a' of divide is str, the function wants int"),
    ],
)
def test_a_wrong_call_fails_without_a_retry(args: list[object], reason: str) -> None:
    with pytest.raises(TaskFailed, match=reason):
        server.send_task(Signature("divide", args, retry_count=3)).get(timeout=15)
    assert ran == []


def test_named_arguments_and_defaults_are_taken() -> None:
    assert server.send_task(Signature("divide", [Arg("int64", 2, "b"), Arg("int64", 6, "a")])).get(timeout=15) == 3
    assert server.send_task(Signature("divide", [6])).get(timeout=15) == 6
    assert server.send_task(Signature("only_keywords", [Arg("int64", 6, "a")])).get(timeout=15) == 6
