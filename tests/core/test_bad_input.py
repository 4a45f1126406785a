"""Bad input: each has a named error or outcome, and none of it loses anything."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from machinery import Arg, Chain, Server, Signature, State, TaskFailed, chain
from machinery.abc import Message
from machinery.errors import ConfigError, EncodeError, UnknownScheme, WorkflowError
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


@pytest.mark.parametrize("uuid", ["x" * 10_000, "täsk/..\n\0"])
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


FAR = [float("nan"), float("inf"), float("-inf"), 1e12, -1e12, 1e300, "soon", [1]]


@pytest.mark.parametrize("span", FAR, ids=repr)
@pytest.mark.parametrize("option", ["countdown", "expires"])
def test_a_span_that_leads_nowhere_is_refused_where_it_is_written(server: Server, option: str, span: Any) -> None:
    task = server.registry.find("add")
    assert task is not None
    with pytest.raises(EncodeError, match=f"the option {option} is "):
        task.options(**{option: span})
    with pytest.raises(EncodeError, match=f"the option {option} is "):
        server.register_task("other", print, **{option: span})


@pytest.mark.parametrize("span", [float("nan"), float("inf"), "soon"])
def test_a_retry_timeout_and_a_time_limit_are_spans(server: Server, span: Any) -> None:
    with pytest.raises(EncodeError, match="the option retry_timeout is "):
        server.register_task("other", print, retry_timeout=span)
    with pytest.raises(ConfigError, match="the soft_time_limit of other is "):
        server.register_task("other", print, soft_time_limit=span)


@pytest.mark.parametrize(
    ("option", "value", "complaint"),
    [
        ("headers", 5, "the headers of a task are 5, not a mapping"),
        ("headers", {5: "x"}, "the headers of a task have the key 5"),
        ("on_success", 5, "the option on_success is 5"),
        ("on_error", "x", "the on_error of add holds a str"),
        ("queue", 5, "the routing_key of 'add' is 5, not a string"),
        ("queue", "\udcff", "the routing_key of 'add' is .* lone surrogate"),
    ],
)
def test_an_option_of_another_type_is_named(server: Server, option: str, value: Any, complaint: str) -> None:
    task = server.registry.find("add")
    assert task is not None
    with pytest.raises(EncodeError, match=complaint):
        task.options(**{option: value}).send(1, 2)
    assert server.pending_tasks() == []


@pytest.mark.parametrize("field", ["uuid", "routing_key", "group_uuid", "broker_message_group_id"])
def test_an_id_or_a_queue_that_utf8_cannot_say_is_refused(server: Server, field: str) -> None:
    with pytest.raises(EncodeError, match=f"the {field} of 'add' is .* lone surrogate"):
        Signature("add", [1, 2], **{field: "a\ud800"})  # type: ignore[arg-type]
    with pytest.raises(EncodeError, match=f"the {field} of 'add' is .* lone surrogate"):
        server.send_task(Signature("add", [1, 2]).with_(**{field: "a\ud800"}))
    with pytest.raises(EncodeError, match=f"the {field} of 'add' is 5, not a string"):
        Signature("add", [1, 2], **{field: 5})  # type: ignore[arg-type]
    assert server.pending_tasks() == []


def test_a_name_that_utf8_cannot_say_is_refused(server: Server) -> None:
    with pytest.raises(EncodeError, match="lone surrogate"):
        Signature("\ud800")
    with pytest.raises(EncodeError, match=r"the id of a task is .* lone surrogate"):
        server.result("\ud800")
    with pytest.raises(EncodeError, match=r"the queue is .* lone surrogate"):
        server.pending_tasks("\ud800")


def test_an_id_and_a_queue_of_other_letters_are_fine(server: Server) -> None:
    with server.new_worker("test", 1, ["schläge"]):
        assert server.send_task(Signature("add", [1, 2], uuid="ü", routing_key="schläge")).get(timeout=10) == 3


@pytest.mark.parametrize("args", [5, "abc", b"abc", {"a": 1}], ids=repr)
def test_the_args_of_a_signature_are_a_list(args: Any) -> None:
    with pytest.raises(EncodeError, match=r"the args of t are .*, not a list of values"):
        Signature("t", args)


def test_the_args_of_a_signature_may_come_from_any_iterable() -> None:
    assert Signature("t", iter([1])).args == Signature("t", (1,)).args
    assert Signature("t", None).args == ()


@pytest.mark.parametrize(("headers", "complaint"), [(5, "5, not a mapping"), ({5: 1}, "key 5, which is not a string")])
def test_the_headers_of_a_signature_are_a_mapping_of_names(headers: Any, complaint: str) -> None:
    with pytest.raises(EncodeError, match=f"the headers of t .*{complaint}"):
        Signature("t", headers=headers)


@pytest.mark.parametrize("field", ["on_success", "on_error"])
def test_the_successors_of_a_signature_are_a_list(field: str) -> None:
    with pytest.raises(EncodeError, match=f"the {field} of t is a Signature, not a list of signatures"):
        Signature("t", **{field: Signature("u")})  # type: ignore[arg-type]


@pytest.mark.parametrize("what", [5, None, "abc", ["abc"], [[Signature("t")]], []], ids=repr)
def test_a_chain_is_made_of_signatures(what: Any) -> None:
    with pytest.raises(WorkflowError):
        chain(what)
    with pytest.raises(WorkflowError):
        Chain(what)


@pytest.mark.parametrize("what", ["x", None, 5], ids=repr)
def test_what_is_no_signature_cannot_be_sent(server: Server, what: Any) -> None:
    with pytest.raises(EncodeError, match=f"{what!r} is no signature"):
        server.send_task(what)
    with pytest.raises(EncodeError, match=f"{what!r} is no signature"):
        server.send_tasks([Signature("add", [1, 2]), what])
    with pytest.raises(EncodeError, match=f"the signatures are {what!r}; they must be a list"):
        server.send_tasks(what)
    with pytest.raises(WorkflowError, match=f"send_chain takes a Chain, not {what!r}"):
        server.send_chain(what)
    assert server.pending_tasks() == []


def test_a_pre_task_handler_gives_a_signature_or_nothing(server: Server) -> None:
    server.set_pre_task_handler(lambda _: "x")  # type: ignore[arg-type, return-value]
    with pytest.raises(EncodeError, match="the pre-task handler returned 'x'"):
        server.send_task(Signature("add", [1, 2]))


@pytest.mark.parametrize("queues", ["abc", b"abc", 5, [], [""], [5], ["\ud800"]], ids=repr)
def test_the_queues_of_a_worker_are_a_list_of_names(server: Server, queues: Any) -> None:
    with pytest.raises(ConfigError, match="queue"):
        server.new_worker("w", 1, queues)


@pytest.mark.parametrize("queue", ["", 5, None])
def test_the_queue_of_a_worker_has_a_name(server: Server, queue: Any) -> None:
    with pytest.raises(ConfigError, match="a queue of a worker is "):
        server.new_custom_queue_worker("w", 1, queue)


@pytest.mark.parametrize("ids", ["abc", 5])
def test_the_ids_of_dead_letters_are_a_list(server: Server, ids: Any) -> None:
    with pytest.raises(EncodeError, match=f"the ids are {ids!r}; they must be a list"):
        server.requeue_dead_tasks(ids=ids)


def test_an_error_text_with_lone_surrogates_is_stored(server: Server) -> None:
    @server.task
    def bad() -> None:
        raise ValueError("\ud800 broken")

    with server.new_worker("test", 1), pytest.raises(TaskFailed, match="broken"):
        bad.send().get(timeout=10)
