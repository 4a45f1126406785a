"""Bad input: each has a named error or outcome, and none of it loses anything."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from machinery import Arg, Server, Signature, State, TaskFailed
from machinery.abc import Message
from machinery.errors import ConfigError, EncodeError, UnknownScheme
from machinery.wire import encode_signature
from tests.interop.eventually import eventually

QUEUE = "machinery_tasks"


@pytest.fixture
def server() -> Iterator[Server]:
    with Server.from_url("memory://") as made:

        @made.task
        def add(a: int, b: int) -> int:
            return a + b

        @made.task
        def take(value: Any) -> None: ...

        @made.task
        def small(value: bytes) -> None: ...

        yield made


def add_still_works(server: Server) -> bool:
    return bool(server.send_task(Signature("add", [1, 2])).get(timeout=10) == 3)


def test_an_unknown_scheme_is_named_with_what_is_installed() -> None:
    with pytest.raises(UnknownScheme, match=r"memori.*memory"):
        Server.from_url("memori://")


@pytest.mark.parametrize("url", ["", "memory", "://", "memory:///path", "memory://name?option=1"])
def test_a_wrong_url_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigError):
        Server.from_url(url)


def _loop() -> list[Any]:
    looped: list[Any] = []
    looped.append(looped)
    return looped


@pytest.mark.parametrize(
    "value",
    [object(), {1, 2}, {1: 2}, float("nan"), float("inf"), "\ud800", [object()], {"a": b"x"}, 2**64, _loop(), 1j],
)
def test_an_argument_that_cannot_be_said_is_an_error_when_it_is_sent(server: Server, value: object) -> None:
    task = server.registry.find("take")
    assert task is not None
    with pytest.raises(EncodeError, match="argument 1 of take"):
        task.send(value)
    with pytest.raises(EncodeError, match="argument 1 of take"):
        Signature("take", [value])
    assert server.pending_tasks() == []


@pytest.mark.parametrize(
    ("kind", "value"),
    [("int8", 128), ("uint8", -1), ("uint64", 2**64), ("float32", 1e39), ("bool", 1), ("nonsense", 1)],
)
def test_a_value_out_of_range_for_its_stated_type_is_an_error_when_it_is_sent(
    server: Server, kind: str, value: object
) -> None:
    with pytest.raises(EncodeError, match="argument 1 of take"):
        server.send_task(Signature("take", [Arg(kind, value)]))


def publish(server: Server, body: bytes) -> None:
    server.broker.publish([Message(body, QUEUE)])


def message(**changes: Any) -> bytes:
    """A message as any program may have written it."""
    signature = json.loads(encode_signature(Signature("add", [1, 2], uuid="task_1", routing_key=QUEUE)))
    return json.dumps(signature | changes).encode()


MALFORMED = {
    "nothing": b"",
    "half an object": b"{",
    "no UTF-8": b"\xff\xfe",
    "a number": b"3",
    "a list": b"[]",
    "a text": b'"text"',
    "deep lists": b"[" * 100_000,
    "a deep id": b'{"UUID": ' + b"[" * 100_000,
    "an id that is a number": message(UUID=5),
    "arguments that are a text": message(Args="x"),
    "an argument whose type is a number": message(Args=[{"Type": 5}]),
    "a retry count that is a text": message(RetryCount="3"),
    "a time that is none": message(ETA="tomorrow"),
    "a successor that is a list": message(OnSuccess=[[]]),
    "headers that are a list": message(Headers=[1]),
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_message_becomes_a_dead_letter_and_the_others_run(server: Server, body: bytes) -> None:
    publish(server, body)
    with server.new_worker("test", 1):
        assert add_still_works(server)
        (letter,) = eventually(server.dead_tasks)
    assert letter.body == body
    assert letter.reason.startswith("undecodable: ")


@pytest.mark.parametrize(
    "args",
    [
        [],
        [{"Type": "int64", "Value": 1}],
        [{"Type": "int64", "Value": 1}] * 3,
        [{"Type": "int64", "Value": 1}, {"Type": "string", "Value": "x"}],
        [{"Type": "int64", "Value": 1}, {"Type": "int64", "Value": "x"}],
        [{"Type": "int64", "Value": 1}, {"Type": "int8", "Value": 300}],
        [{"Type": "int64", "Value": 1}, {"Type": "uint64", "Value": 2**64}],
        [{"Type": "int64", "Value": 1}, {"Type": "nonsense", "Value": 1}],
        [{"Type": "int64", "Value": 1}, {"Value": 1}],
        [{"Type": "int64", "Value": 1}, {}],
        [{"Type": "int64", "Value": 1}, {"Type": "json", "Value": {"a": [None]}}],
    ],
    ids=json.dumps,
)
def test_arguments_that_do_not_fit_fail_the_task_at_once(server: Server, args: list[dict[str, Any]]) -> None:
    publish(server, message(Args=args, RetryCount=3))
    with server.new_worker("test", 1):
        result = server.result("task_1")
        with pytest.raises(TaskFailed):
            result.get(timeout=10)
        assert add_still_works(server)
    assert result.state is State.FAILURE
    assert server.pending_tasks() == []
    assert server.delayed_tasks() == []


def test_an_unknown_task_stays_until_a_worker_comes_that_knows_it(server: Server) -> None:
    result = server.send_task(Signature("later"))
    with server.new_worker("test", 1):
        assert add_still_works(server)
        eventually(server.delayed_tasks)

        server.register_task("later", lambda: "known now")
        assert result.get(timeout=10) == "known now"


@pytest.mark.parametrize("uuid", ["", "x" * 10_000, "täsk/..\n\0"])
def test_an_odd_id_is_an_id(server: Server, uuid: str) -> None:
    publish(server, message(UUID=uuid))
    with server.new_worker("test", 1):
        assert server.result(uuid).get(timeout=10) == 3


@pytest.mark.parametrize(
    "headers",
    [
        {"machinery_attempt": "many", "machinery_failures": -1, "machinery_expires": "soon"},
        {"machinery_attempt": None, "machinery_failures": "9" * 50, "machinery_expires": 5},
        {"machinery_attempt": "٣", "x": {"deep": [1, {"er": None}]}},
    ],
)
def test_headers_are_anybodys(server: Server, headers: dict[str, Any]) -> None:
    publish(server, message(Headers=headers))
    with server.new_worker("test", 1):
        assert server.result("task_1").get(timeout=10) == 3


@pytest.mark.parametrize("retries", [-1, 2**31])
def test_odd_retry_counts_are_survived(server: Server, retries: int) -> None:
    publish(server, message(Name="take", Args=[], RetryCount=retries, RetryTimeout=2**40))
    with server.new_worker("test", 1):
        with pytest.raises(TaskFailed):
            server.result("task_1").get(timeout=10)
        assert add_still_works(server)


def test_an_error_text_with_lone_surrogates_is_stored(server: Server) -> None:
    @server.task
    def bad() -> None:
        raise ValueError("\ud800 broken")

    with server.new_worker("test", 1), pytest.raises(TaskFailed, match="broken"):
        bad.send().get(timeout=10)
