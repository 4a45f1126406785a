"""Tasks: callable as their function, makers of signatures, and how parameters meet arguments."""

from __future__ import annotations

import functools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from machinery import Arg, Server, Signature, Task, TaskContext
from machinery._task import Parameters
from machinery.errors import ArgumentError, EncodeError


def make(function: Any, **options: Any) -> Task[..., Any, Any]:
    return Task(function, "made").options(**options)


def add(a: int, b: int = 1) -> int:
    return a + b


def test_a_task_is_called_as_its_function() -> None:
    assert make(add)(2, 3) == 5
    assert make(add)(2, b=4) == 6


def test_a_task_called_here_and_now_gets_a_context() -> None:
    def who(context: TaskContext, greeting: str) -> str:
        return f"{greeting} {context.name} {context.attempt}"

    assert make(who)("hello") == "hello made 1"
    assert make(who)(TaskContext(name="mine"), "hello") == "hello mine 1"


def test_a_signature_carries_the_options() -> None:
    eta = datetime.now(UTC)
    follower = Signature("after")
    signature = make(
        add, queue="q", eta=eta, retry_count=2, retry_timeout=3, priority=4, immutable=True, on_success=follower,
        on_error=[follower, follower], headers={"a": "b"}, ignore_when_task_not_registered=True,
        stop_task_deletion_on_error=True,
    ).signature(1)  # fmt: skip

    assert signature == Signature(
        "made", [1], routing_key="q", eta=eta, retry_count=2, retry_timeout=3, priority=4, immutable=True,
        on_success=[follower], on_error=[follower, follower], headers={"a": "b"}, ignore_when_task_not_registered=True,
        stop_task_deletion_on_error=True,
    )  # fmt: skip


def test_options_make_a_copy_and_leave_the_task_as_it_is() -> None:
    task = make(add, queue="one")
    assert task.options(retry_count=3).signature(1).routing_key == "one"
    assert task.signature(1).retry_count == 0


def test_a_countdown_starts_when_the_signature_is_made() -> None:
    before = datetime.now(UTC)
    eta = make(add, countdown=60).signature(1).eta
    assert eta is not None
    assert timedelta(seconds=59) < eta - before < timedelta(seconds=61)


def test_an_eta_takes_the_place_of_a_countdown_and_the_reverse() -> None:
    eta = datetime(2040, 1, 1, tzinfo=UTC)
    task = make(add, countdown=60).options(eta=eta)
    assert task.signature(1).eta == eta
    later = task.options(countdown=timedelta(seconds=1)).signature(1).eta
    assert later is not None
    assert later < eta


def test_an_expiry_travels_in_a_header() -> None:
    at = datetime(2040, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert make(add, expires=at, headers={"a": "b"}).signature(1).headers == {
        "a": "b",
        "machinery_expires": "2040-01-02T03:04:05Z",
    }
    assert "machinery_expires" in (make(add, expires=5).signature(1).headers or {})


def test_a_retry_timeout_is_kept_in_whole_seconds() -> None:
    assert make(add, retry_timeout=timedelta(seconds=2)).signature(1).retry_timeout == 2
    assert make(add, retry_timeout=1.5).signature(1).retry_timeout == 2


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"eta": datetime(2040, 1, 1)}, "no time zone"),  # noqa: DTZ001 - naive on purpose
        ({"expires": datetime(2040, 1, 1)}, "no time zone"),  # noqa: DTZ001 - naive on purpose
        ({"eta": datetime.now(UTC), "countdown": 1}, "exclude each other"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(EncodeError, match=complaint):
        make(add, **options)


def test_an_option_there_is_not_is_an_error_that_lists_them() -> None:
    with pytest.raises(TypeError, match=r"'retries'.*retry_count"):
        make(add, retries=3)


@pytest.mark.parametrize(
    ("args", "keywords", "complaint"),
    [
        ((1, 2, 3), {}, "too many positional arguments"),
        ((1,), {"c": 3}, "unexpected keyword argument 'c'"),
        ((1,), {"a": 3}, "multiple values for argument 'a'"),
        (("x",), {}, "argument 'a' of made is str, the function wants int"),
        ((True,), {}, "argument 'a' of made is bool, the function wants int"),
        ((1, object()), {}, "argument 'b' of made is object, the function wants int"),
    ],
)
def test_a_call_that_the_function_could_not_take_is_refused(
    args: tuple[Any, ...], keywords: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(EncodeError, match=complaint):
        make(add).signature(*args, **keywords)


def test_a_signature_may_lack_what_the_task_before_it_gives_but_a_task_that_is_sent_may_not() -> None:
    server = Server.from_url("memory://")
    task = server.register_task("add", add)
    assert task.signature().args == ()
    with pytest.raises(EncodeError, match="missing a required argument: 'a'"):
        task.send()


def test_a_task_of_no_server_cannot_be_sent() -> None:
    with pytest.raises(EncodeError, match="belongs to no server"):
        make(add).send(1)


def test_an_argument_that_cannot_travel_is_named() -> None:
    def take(a: Any, *, b: Any) -> None:
        del a, b

    with pytest.raises(EncodeError, match="argument 1 of made"):
        make(take).signature(object(), b=1)
    with pytest.raises(EncodeError, match="argument 'b' of made"):
        make(take).signature(1, b=object())


def test_keyword_arguments_travel_with_their_names_and_come_back_as_such() -> None:
    def take(a: int, /, b: int, *, c: int = 3) -> tuple[int, int, int]:
        return a, b, c

    parameters = Parameters(take, "take")
    args = parameters.to_args((1,), {"b": 2, "c": 4})
    assert args == (Arg("int64", 1), Arg("int64", 2, "b"), Arg("int64", 4, "c"))
    assert parameters.to_call(args) == ([1], {"b": 2, "c": 4})


def test_a_name_that_is_no_parameter_is_a_mere_label() -> None:
    assert Parameters(add, "add").to_call([Arg("int64", 1, "left"), Arg("int64", 2, "right")]) == ([1, 2], {})


def test_annotations_decide_what_values_leave_open() -> None:
    def take(items: list[int], ratio: float, *more: float) -> None:
        del items, ratio, more

    assert Parameters(take, "take").to_args(([], 1, 2), {}) == (
        Arg("[]int64", []),
        Arg("float64", 1.0),
        Arg("float64", 2.0),
    )


def test_variadic_functions_take_any_number() -> None:
    def total(*numbers: int, **labels: str) -> None:
        del numbers, labels

    parameters = Parameters(total, "total")
    assert parameters.to_call(parameters.to_args((1, 2, 3), {"x": "y"})) == ([1, 2, 3], {"x": "y"})
    with pytest.raises(ArgumentError, match="argument 2 of total is str, the function wants int"):
        parameters.to_call([Arg("int64", 1), Arg("string", "x")])


def test_annotations_that_only_a_type_checker_can_resolve_are_no_hindrance() -> None:
    def take(a: NotThere, b: int) -> None:  # type: ignore[name-defined]  # noqa: F821
        del a, b

    assert Parameters(take, "take").to_args((1, 2), {}) == (Arg("int64", 1), Arg("int64", 2))


def test_functions_of_every_kind_can_be_tasks() -> None:
    class Adder:
        """Adds."""

        def __call__(self, a: int, b: int) -> int:
            return a + b

        def method(self, a: int) -> int:
            return a + 1

    assert make(Adder())(1, 2) == 3
    assert make(Adder().method)(1) == 2
    assert make(functools.partial(add, 1))(2) == 3
    assert make(lambda: 1)() == 1


def test_a_task_looks_like_its_function() -> None:
    task = make(add)
    assert repr(task) == "<Task made>"
    assert task.__name__ == "add"
    assert task.__wrapped__ is add
    assert not task.is_async
