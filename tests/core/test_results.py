"""Results as a client sees them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from machinery import (
    AsyncResult,
    GroupResult,
    ResultTimeout,
    Server,
    Signature,
    State,
    TaskFailed,
    TaskResult,
    TaskState,
    _offloading,
    chain,
    chord,
    group,
)
from machinery.errors import ArgumentError, ResultsNotStored, StateNotFound
from machinery.memory import MemoryBroker
from tests.core.observed import ObservedBackend
from tests.interop.eventually import eventually


def finish(backend: ObservedBackend, uuid: str, *results: TaskResult) -> None:
    backend.save([TaskState(uuid, "made", State.SUCCESS, results)])


def test_a_value_is_waited_for(server: Server, backend: ObservedBackend) -> None:
    result = server.send_task(Signature("made"))
    timer = threading.Timer(0.05, finish, (backend, result.uuid, TaskResult("int64", 5)))
    timer.start()
    assert result.get(timeout=10) == 5
    timer.join()


@pytest.mark.parametrize(
    ("results", "value"),
    [
        ((), None),
        ((TaskResult("string", "x"),), "x"),
        ((TaskResult("int64", 1), TaskResult("float64", 2.5)), (1, 2.5)),
    ],
)
def test_no_value_is_none_and_several_are_a_tuple(
    server: Server, backend: ObservedBackend, results: tuple[TaskResult, ...], value: object
) -> None:
    result = server.send_task(Signature("made"))
    finish(backend, result.uuid, *results)
    assert result.get(timeout=1) == value
    assert result.get() == value
    assert result.touch() == value


def test_a_failure_is_raised_with_its_text_and_task(server: Server, backend: ObservedBackend) -> None:
    result = server.send_task(Signature("made"))
    backend.save([TaskState(result.uuid, "made", State.FAILURE, None, "no good")])
    for look in (result.touch, lambda: result.get(timeout=1)):
        with pytest.raises(TaskFailed) as caught:
            look()
        assert (caught.value.error, caught.value.uuid, caught.value.name) == ("no good", result.uuid, "made")


def test_a_look_at_what_still_runs_is_none(server: Server) -> None:
    result = server.send_task(Signature("made"))
    assert result.touch() is None
    assert result.state is State.PENDING


def test_a_wait_that_ends_first_is_an_error_that_says_how_long_it_was(server: Server) -> None:
    result = server.send_task(Signature("made"))
    with pytest.raises(ResultTimeout, match=r"within 0\.01 s"):
        result.get(timeout=0.01)
    with pytest.raises(TimeoutError):
        result.get(timeout=0)


@pytest.mark.parametrize("seconds", [float("nan"), -1, "soon", timedelta(seconds=1)], ids=repr)
@pytest.mark.parametrize("what", ["timeout", "interval"])
def test_a_wait_is_a_number_of_seconds(server: Server, what: str, seconds: Any) -> None:
    complaint = f"{what} is .*; it must be a number of seconds from 0 on, or None"
    with pytest.raises(ValueError, match=complaint):
        server.send_task(Signature("made")).get(**{what: seconds})
    with pytest.raises(ValueError, match=complaint):
        server.send_chain(chain(Signature("made"))).get(**{what: seconds})


def test_a_task_without_a_record_is_not_found(server: Server) -> None:
    result = server.result("task_unknown")
    for look in (result.task_state, result.touch, result.get, lambda: result.get(timeout=0.01)):
        with pytest.raises(StateNotFound, match="task_unknown"):
            look()


def test_a_record_that_comes_late_is_waited_for(server: Server, backend: ObservedBackend) -> None:
    result = server.result("task_late")
    timer = threading.Timer(0.05, finish, (backend, "task_late", TaskResult("int64", 5)))
    timer.start()
    assert result.get(timeout=10) == 5
    timer.join()


def test_a_server_without_a_result_backend_says_so_at_once() -> None:
    result = Server(None, MemoryBroker()).send_task(Signature("made"))
    for look in (result.task_state, result.touch, result.get, lambda: result.get(timeout=10)):
        with pytest.raises(ResultsNotStored, match="result_backend="):
            look()


def test_a_result_that_cannot_be_read_is_an_error(server: Server, backend: ObservedBackend) -> None:
    result = server.send_task(Signature("made"))
    finish(backend, result.uuid, TaskResult("int64", "five"))
    with pytest.raises(ArgumentError):
        result.get(timeout=1)


def test_asynchronous_twins_do_the_same(server: Server, backend: ObservedBackend) -> None:
    result = server.send_task(Signature("made"))

    async def look() -> tuple[object, object]:
        before = await result.atouch()
        finish(backend, result.uuid, TaskResult("int64", 5))
        return before, await result.aget(timeout=10)

    assert asyncio.run(look()) == (None, 5)


def test_a_chains_result_is_that_of_its_last_task(server: Server, backend: ObservedBackend) -> None:
    result = server.send_chain(chain(Signature("one"), Signature("two")))
    one, two = result.members
    assert result.touch() is None
    assert result.uuid == two.uuid

    # A later member has no record before the one before it has succeeded
    finish(backend, one.uuid, TaskResult("int64", 1))
    assert result.touch() is None
    with pytest.raises(ResultTimeout):
        result.get(timeout=0.01)

    finish(backend, two.uuid, TaskResult("int64", 2))
    assert result.touch() == 2
    assert result.get(timeout=1) == 2
    assert result.get() == 2


@pytest.mark.parametrize("timeout", [None, 0.2])
@pytest.mark.parametrize("gone", [(1,), (0, 1)], ids=["alone", "with the one before"])
def test_a_chain_that_lost_a_record_is_not_waited_for(
    server: Server, backend: ObservedBackend, timeout: float | None, gone: tuple[int, ...]
) -> None:
    """A later record shows that it was there, or there is nobody left who would send it."""
    result = server.send_chain(chain(Signature("one"), Signature("two"), Signature("three")))
    first, second, third = [member.uuid for member in result.members]
    backend.save([TaskState(first, "", State.SUCCESS, ())])
    if gone == (1,):
        backend.save([TaskState(third, "", State.SUCCESS, ())])
    wait = backend.inner.wait

    def wait_and_lose(ids: Sequence[str], *times: float) -> list[TaskState | None]:
        found = wait(ids, *times)
        if 0 in gone:
            backend.forget([first])  # once it has been seen
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backend.inner, "wait", wait_and_lose)
        with pytest.raises(StateNotFound, match=second):
            result.get(timeout=timeout, interval=0.01)


def test_a_member_that_fails_ends_its_chain(server: Server, backend: ObservedBackend) -> None:
    result = server.send_chain(chain(Signature("one"), Signature("two")))
    backend.save([TaskState(result.members[0].uuid, "one", State.FAILURE, None, "no good")])
    for look in (result.touch, result.get, lambda: result.get(timeout=10)):
        with pytest.raises(TaskFailed, match="no good"):
            look()


def test_results_say_who_they_are(server: Server) -> None:
    result = server.result("task_1")
    assert isinstance(result, AsyncResult)
    assert repr(result) == "<AsyncResult task_1>"
    chained = server.send_chain(chain(Signature("one"), Signature("two")))
    assert repr(chained) == f"<ChainResult {chained.uuid} of 2>"


def test_coroutines_that_wait_leave_the_event_loop_its_threads(server: Server, backend: ObservedBackend) -> None:
    async def waiting_for_many() -> list[Any]:
        results = [server.send_task(Signature("made")) for _ in range(100)]
        waiting = [asyncio.create_task(result.aget()) for result in results]
        await asyncio.sleep(0)
        await server.asend_task(Signature("another"))  # in one of the event loop's threads
        for number, result in enumerate(results):
            await asyncio.to_thread(finish, backend, result.uuid, TaskResult("int64", number))
        return await asyncio.gather(*waiting)

    assert asyncio.run(asyncio.wait_for(waiting_for_many(), 30)) == list(range(100))


def test_a_coroutine_that_is_cancelled_waits_no_more(
    server: Server, backend: ObservedBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_offloading, "TURN", 0.05)
    looks: list[object] = []
    has_looked = threading.Event()
    wait = backend.inner.wait

    def observed_wait(*given: Any) -> Any:
        looks.append(given)
        has_looked.set()
        return wait(*given)

    monkeypatch.setattr(backend.inner, "wait", observed_wait)
    results: list[AsyncResult[Any] | GroupResult] = [
        server.send_task(Signature("made")),
        server.send_chain(chain(Signature("made"), Signature("made"))),
        server.send_group(group(Signature("made"))),
        server.send_chord(chord([Signature("made")], Signature("made"))),
    ]

    async def give_up_on_all() -> None:
        for result in results:
            has_looked.clear()
            waiting = asyncio.create_task(result.aget())
            assert await asyncio.to_thread(has_looked.wait, 15)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting

    asyncio.run(give_up_on_all())  # whose end waits for the event loop's own threads

    def look_no_more() -> bool:
        seen = len(looks)
        time.sleep(0.3)
        return len(looks) == seen

    # And the threads that are left behind look no more
    eventually(look_no_more)


def test_the_timeout_of_a_chain_is_told_as_it_was_given(server: Server, backend: ObservedBackend) -> None:
    result = server.send_chain(chain(Signature("made"), Signature("made")))
    timer = threading.Timer(0.05, finish, (backend, result.members[0].uuid))
    timer.start()
    with pytest.raises(ResultTimeout, match=r"within 0\.2 s"):
        result.get(timeout=0.2)
    timer.join()
