"""The executor: threads that take from one deque, and one event loop."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from machinery import Server, Signature
from machinery._worker._executor import EAGER, Executor
from machinery._worker._run import Outcome, Run
from tests.core.worker_parts import Parts
from tests.interop.eventually import eventually


def executor_of(parts: Parts, slots: int) -> Executor:
    parts.executor = Executor(slots, parts.hooks, parts.ended.append, parts.started)
    return parts.executor


def runs_of(parts: Parts, name: str, count: int) -> list[Run]:
    return parts.send_and_receive([Signature(name) for _ in range(count)])


def test_no_run_is_left_behind_however_starts_and_parking_meet(server: Server, parts: Parts) -> None:
    """Bursts of every size, each started while the threads are about to go to sleep."""

    @server.task
    def noop() -> None: ...

    def wait_for(count: int) -> None:
        while len(parts.ended) < count:
            time.sleep(0)

    executor = executor_of(parts, 4)
    runs = runs_of(parts, "noop", 2000)
    position = 0
    while position < len(runs):
        burst = runs[position : position + 1 + position % 7]
        position += len(burst)
        executor.start(burst)
        wait_for(position - 3)
    eventually(lambda: len(parts.ended) == len(runs))
    assert len(set(parts.ended)) == len(runs)


def test_what_is_taken_back_does_not_run_and_what_runs_is_not_taken_back(server: Server, parts: Parts) -> None:
    ran: list[int] = []

    @server.task
    def note(number: int) -> None:
        ran.append(number)

    @server.task
    async def note_softly(number: int) -> None:
        ran.append(number)

    executor = executor_of(parts, 3)
    back: list[Run] = []
    runs = parts.send_and_receive(
        [Signature(name, [number]) for number, name in enumerate(["note", "note_softly"] * 1000)]
    )
    for position in range(0, len(runs), 20):
        executor.start(runs[position : position + 20])
        back += executor.take_back()
    eventually(lambda: len(parts.ended) + len(back) == len(runs))
    assert not set(back) & set(parts.ended)
    assert len(ran) == len(parts.ended)
    assert executor.busy == 0


def test_runs_that_are_taken_back_come_oldest_first(server: Server, parts: Parts) -> None:
    @server.task
    def noop() -> None: ...

    executor = executor_of(parts, 0)
    runs = runs_of(parts, "noop", 5)
    executor.start(runs)
    assert executor.take_back() == runs
    assert executor.take_back() == []


def test_few_threads_are_made_for_short_tasks_and_all_for_long_ones(
    server: Server, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()

    @server.task
    def short() -> None: ...

    @server.task
    def long() -> None:
        gate.wait(30)

    executor = executor_of(parts, 200)
    with monkeypatch.context() as patch:
        patch.setattr("machinery._worker._executor.SHORT", 60)  # a busy machine makes long ones of them
        executor.start(runs_of(parts, "short", 500))
        eventually(lambda: len(parts.ended) == 500)
    assert len(executor.places) <= EAGER

    executor.start(runs_of(parts, "long", 100))
    executor.relieve()
    eventually(lambda: len(executor.running()) == 100)
    gate.set()
    eventually(lambda: len(parts.ended) == 600)


def test_a_free_slot_is_a_thread_that_sleeps_or_may_be_made(server: Server, parts: Parts) -> None:
    gate = threading.Event()

    @server.task
    def long() -> None:
        gate.wait(10)

    @server.task
    async def soft() -> None:
        await asyncio.to_thread(gate.wait, 10)

    executor = executor_of(parts, 1)
    assert executor.stuck_since() is None
    for name in ("long", "soft"):
        first, second = runs_of(parts, name, 2)
        executor.start([first])
        eventually(executor.running)
        assert executor.running() == [first]
        assert executor.stuck_since() is None
        executor.start([second])
        assert executor.stuck_since() == second.received
        assert executor.busy == 2
        assert executor.take_back() == [second]
        gate.set()
        eventually(lambda: executor.busy == 0)
        gate.clear()


def test_the_mean_duration_follows_the_tasks(server: Server, parts: Parts) -> None:
    @server.task
    def nap() -> None:
        threading.Event().wait(0.01)

    parts.run([Signature("nap")])
    assert parts.executor.mean_duration >= 0.009
    assert time.monotonic() - parts.executor.last_end < 60


def test_a_stopped_executor_starts_nothing(server: Server, parts: Parts) -> None:
    @server.task
    def noop() -> None: ...

    executor = executor_of(parts, 1)
    executor.stop()
    executor.start(runs_of(parts, "noop", 3))
    assert executor.busy == 0
    assert executor.places == []


def test_idle_threads_end_when_it_stops(server: Server, parts: Parts) -> None:
    @server.task
    def noop() -> None: ...

    @server.task
    async def soft() -> None: ...

    before = threading.active_count()
    executor = executor_of(parts, 4)
    executor.start(runs_of(parts, "noop", 50) + runs_of(parts, "soft", 50))
    eventually(lambda: len(parts.ended) == 100)
    executor.stop()
    eventually(lambda: threading.active_count() <= before)


def test_a_coroutine_that_does_not_heed_its_cancellation_does_not_hold_up_the_end(
    server: Server, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("machinery._worker._executor.FAREWELL", 0.05)
    entered = threading.Event()
    let_go = threading.Event()

    @server.task
    async def stubborn() -> None:
        entered.set()
        while not let_go.is_set():
            try:
                await asyncio.sleep(0.005)
            except asyncio.CancelledError:
                let_go.set()

    executor = executor_of(parts, 1)
    executor.start(runs_of(parts, "stubborn", 1))
    assert entered.wait(10)
    executor.stop()
    assert let_go.wait(10)


def test_a_background_task_that_raises_system_exit_does_not_end_the_loop(server: Server, parts: Parts) -> None:
    kept: list[asyncio.Task[None]] = []

    async def leave() -> None:
        raise SystemExit

    @server.task
    async def careless() -> None:
        kept.append(asyncio.create_task(leave()))

    @server.task
    async def careful() -> str:
        await asyncio.sleep(0)
        return "fine"

    executor = executor_of(parts, 1)
    executor.start(runs_of(parts, "careless", 1))
    eventually(lambda: kept and kept[0].done())
    executor.start(runs_of(parts, "careful", 1))
    eventually(lambda: len(parts.ended) == 2)
    assert parts.ended[-1].outcome is Outcome.SUCCEEDED
    assert isinstance(kept[0].exception(), SystemExit)


@pytest.mark.parametrize("raised", [ValueError, KeyboardInterrupt])
def test_a_value_whose_conversion_raises_fails_its_run_and_no_thread(
    server: Server, parts: Parts, raised: type[BaseException]
) -> None:
    class Odd:
        def __index__(self) -> int:
            raise raised("odd")

    @server.task
    def odd() -> Odd:
        return Odd()

    (run,) = parts.run([Signature("odd")])
    assert run.outcome is Outcome.FAILED
    assert "odd" in run.error


def test_a_run_whose_delivery_is_not_ours_is_returned(server: Server, parts: Parts) -> None:
    ran: list[int] = []

    @server.task
    def note() -> None:
        ran.append(1)

    (run,) = runs_of(parts, "note", 1)
    parts.fetcher.forget(run)
    parts.executor.run_here(run)
    assert run.outcome is Outcome.RETURNED
    assert not ran


def test_coroutines_and_functions_end_alike(server: Server, parts: Parts) -> None:
    @server.task
    async def soft(number: int) -> int:
        return number

    executor = executor_of(parts, 2)
    executor.start(parts.send_and_receive([Signature("soft", [number]) for number in range(30)]))
    eventually(lambda: len(parts.ended) == 30)
    assert sorted(run.results[0].value for run in parts.ended) == list(range(30))


def test_a_task_costs_no_slot_when_the_system_has_no_thread_left(
    server: Server, parts: Parts, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    @server.task
    def noop() -> None: ...

    executor = executor_of(parts, 2)
    runs = runs_of(parts, "noop", 3)

    # Given a system that refuses a thread
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as refusing:
        refusing.setattr(threading.Thread, "start", refuse)
        executor.start(runs[:2])
    assert executor.places == []
    assert "can't start new thread" in caplog.text

    # When it has one again
    executor.start(runs[2:])

    # Then everything runs
    eventually(lambda: len(parts.ended) == 3)


def test_an_exception_whose_text_is_a_trap_of_its_own_costs_no_slot(server: Server, parts: Parts) -> None:
    class Text(str):
        __slots__ = ()

        def __bool__(self) -> bool:
            raise SystemExit

        def __format__(self, spec: str) -> str:
            raise SystemExit

    class Trap(Exception):
        def __str__(self) -> str:
            return Text("gotcha")

    @server.task
    def trap() -> None:
        raise Trap

    executor = executor_of(parts, 1)
    executor.start(runs_of(parts, "trap", 3))
    eventually(lambda: len(parts.ended) == 3)
    assert {run.error for run in parts.ended} == {"gotcha"}


@pytest.mark.parametrize("name", ["noop", "soft"])
def test_whatever_goes_wrong_around_a_task_it_has_an_outcome_and_its_slot_is_free(
    server: Server, parts: Parts, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    @server.task
    def noop() -> None: ...

    @server.task
    async def soft() -> None: ...

    def go_wrong(begin: float) -> None:
        raise SystemExit

    executor = executor_of(parts, 1)
    runs = runs_of(parts, name, 4)
    with monkeypatch.context() as wrong:
        wrong.setattr(executor, "_note", go_wrong)
        executor.start(runs[:3])
        eventually(lambda: len(parts.ended) == 3)
    executor.start(runs[3:])
    eventually(lambda: len(parts.ended) == 4)
    assert [run.outcome for run in runs] == [Outcome.SUCCEEDED] * 4
    eventually(lambda: executor.busy == 0)
