"""Tasks that fail: retried, later, for good, or not started at all."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from machinery import (
    Exponential,
    Reject,
    RetryTaskLater,
    Server,
    Signature,
    SoftTimeLimitExceeded,
    State,
    TaskContext,
    TaskFailed,
)
from machinery.abc import Message
from machinery.memory import MemoryBroker, MemoryQueues
from machinery.testing import ManualClock
from tests.core.observed import ObservedBroker
from tests.interop.eventually import eventually


def test_an_exception_is_a_failure_with_its_text(server: Server) -> None:
    @server.task
    def bad() -> None:
        raise ValueError("no good")

    @server.task
    def silent() -> None:
        raise KeyError

    with server.new_worker("test", 1):
        with pytest.raises(TaskFailed, match="no good") as caught:
            bad.send().get(timeout=10)
        assert caught.value.error == "no good"
        with pytest.raises(TaskFailed, match="KeyError"):
            silent.send().get(timeout=10)


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_a_task_that_raises_what_ends_programs_has_failed_and_the_worker_lives(
    server: Server, kind: type[BaseException]
) -> None:
    @server.task
    def leave() -> None:
        raise kind("bye")

    @server.task
    async def leave_softly() -> None:
        raise kind("bye")

    with server.new_worker("test", 1):
        for task in (leave, leave_softly):
            for _ in range(3):
                with pytest.raises(TaskFailed, match="bye"):
                    task.send().get(timeout=10)


def test_an_exception_whose_text_cannot_be_had_is_named_by_its_class(server: Server) -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    @server.task
    def bad() -> None:
        raise Broken

    with server.new_worker("test", 1), pytest.raises(TaskFailed, match="Broken"):
        bad.send().get(timeout=10)


def test_fibonacci_pauses_grow_by_gos_row_and_use_up_the_retry_count(server: Server, broker: ObservedBroker) -> None:
    broker.inner = MemoryBroker(MemoryQueues(ManualClock(datetime.now(UTC))))  # so that the copy stays where it is

    @server.task(retry_count=2)
    def bad() -> None:
        raise ValueError("again")

    with server.new_worker("test", 1):
        result = bad.send()
        eventually(lambda: broker.delayed(10))
        assert result.state is State.RETRY

    (copy,) = server.delayed_tasks()
    assert copy.uuid == result.uuid
    assert copy.retry_count == 1
    assert copy.retry_timeout == 1
    assert copy.headers == {"machinery_attempt": "2", "machinery_failures": "1"}
    assert copy.eta is not None
    assert copy.eta - datetime.now(UTC) < timedelta(seconds=1)


def test_a_task_that_fails_too_often_has_failed(server: Server) -> None:
    runs: list[int] = []

    @server.task(retry_count=3, retry=Exponential(base=0.001, cap=0.002))
    def bad(context: TaskContext) -> None:
        runs.append(context.attempt)
        raise ValueError(f"run {context.attempt}")

    with server.new_worker("test", 1), pytest.raises(TaskFailed, match="run 4"):
        bad.send().get(timeout=10)
    assert runs == [1, 2, 3, 4]


def test_only_the_exceptions_named_are_retried(server: Server) -> None:
    runs: list[str] = []

    @server.task(retry_count=5, retry=Exponential(base=0.001), retry_for=OSError, no_retry_for=(FileNotFoundError,))
    def bad(kind: str) -> None:
        runs.append(kind)
        raise {"value": ValueError, "gone": FileNotFoundError, "io": OSError}[kind](kind)

    with server.new_worker("test", 1):
        for kind in ("value", "gone", "io"):
            with pytest.raises(TaskFailed):
                bad.send(kind).get(timeout=10)

    assert runs.count("value") == 1
    assert runs.count("gone") == 1
    assert runs.count("io") == 6


@pytest.mark.parametrize("wrapped", [False, True])
def test_retry_task_later_does_not_use_up_the_retry_count(server: Server, *, wrapped: bool) -> None:
    @server.task
    def later(context: TaskContext) -> int:
        if context.attempt < 4:
            reason = RetryTaskLater("not yet", 0.001)
            if wrapped:
                raise ValueError("wrapped") from reason
            raise reason
        return context.attempt

    with server.new_worker("test", 1):
        assert later.send().get(timeout=10) == 4


def test_a_retry_task_later_beyond_all_calendars_is_a_failure(server: Server) -> None:
    @server.task
    def later() -> None:
        raise RetryTaskLater("in a while", timedelta.max)

    with server.new_worker("test", 1), pytest.raises(TaskFailed, match="in a while"):
        later.send().get(timeout=10)


def test_a_retry_rule_that_fails_leaves_the_tasks_own_failure(server: Server) -> None:
    class Broken:
        def delay(self, failures: int, last_delay: int) -> timedelta:
            raise ZeroDivisionError("the rule")

    @server.task(retry_count=1, retry=Broken())
    def bad() -> None:
        raise ValueError("the task")

    with server.new_worker("test", 1), pytest.raises(TaskFailed, match=r"the task \(no retry: the rule\)"):
        bad.send().get(timeout=10)


def test_a_rejected_task_fails_at_once_and_is_kept_as_a_dead_letter(server: Server) -> None:
    @server.task(retry_count=5)
    def bad() -> None:
        raise Reject("poisonous")

    with server.new_worker("test", 1):
        with pytest.raises(TaskFailed, match="poisonous"):
            bad.send().get(timeout=10)
        (letter,) = eventually(server.dead_tasks)
    assert letter.reason == "poisonous"


def test_on_error_gets_the_text_first(server: Server) -> None:
    noted: list[tuple[str, int]] = []

    @server.task
    def bad() -> None:
        raise ValueError("no good")

    @server.task
    def note(error: str, number: int) -> None:
        noted.append((error, number))

    with server.new_worker("test", 1):
        bad.options(on_error=Signature("note", [7])).send()
        eventually(lambda: noted)
    assert noted == [("no good", 7)]


def test_results_travel_to_on_success_behind_its_own_arguments(server: Server) -> None:
    @server.task
    def pair() -> tuple[int, str]:
        return 1, "one"

    @server.task
    def collect(own: str, number: int, text: str) -> str:
        return f"{own} {number} {text}"

    with server.new_worker("test", 1):
        follower = Signature("collect", ["own"], uuid="task_follower")
        pair.options(on_success=follower).send()
        assert server.result("task_follower").get(timeout=10) == "own 1 one"


def test_an_immutable_task_keeps_its_results_to_itself(server: Server) -> None:
    @server.task(immutable=True)
    def one() -> int:
        return 1

    @server.task
    def alone() -> str:
        return "alone"

    with server.new_worker("test", 1):
        one.options(on_success=Signature("alone", uuid="task_alone")).send()
        assert server.result("task_alone").get(timeout=10) == "alone"


def test_what_a_task_returns_and_the_wire_cannot_say_is_a_failure_without_retry(server: Server) -> None:
    runs: list[int] = []

    @server.task(retry_count=3)
    def odd() -> object:
        runs.append(1)
        return object()

    with server.new_worker("test", 1), pytest.raises(TaskFailed, match="object"):
        odd.send().get(timeout=10)
    assert len(runs) == 1


def test_a_soft_time_limit_interrupts_a_function(server: Server) -> None:
    @server.task(soft_time_limit=0.05)
    def slow() -> None:
        while True:
            pass

    entered = threading.Event()

    @server.task(soft_time_limit=0.05)
    def tidy() -> str:
        try:
            entered.set()
            while True:
                pass
        except SoftTimeLimitExceeded:
            return "tidied up"

    with server.new_worker("test", 1):
        with pytest.raises(TaskFailed, match=r"soft time limit of 0\.05 s"):
            slow.send().get(timeout=10)

        def is_tidied_up() -> bool:
            try:
                return tidy.send().get(timeout=10) == "tidied up"
            except TaskFailed:
                assert not entered.is_set()  # a busy machine let it strike before the task could be tidy
                return False

        assert eventually(is_tidied_up)


def test_a_soft_time_limit_interrupts_a_coroutine(server: Server) -> None:
    cleaned: list[bool] = []

    @server.task(soft_time_limit=0.05)
    async def slow() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            cleaned.append(True)

    with server.new_worker("test", 1), pytest.raises(TaskFailed, match=r"soft time limit of 0\.05 s"):
        slow.send().get(timeout=10)
    assert cleaned


def test_a_task_past_its_expiry_is_not_started(server: Server) -> None:
    runs: list[int] = []
    noted: list[str] = []

    @server.task
    def stale() -> None:
        runs.append(1)

    @server.task
    def note(error: str) -> None:
        noted.append(error)

    result = stale.options(expires=datetime.now(UTC) - timedelta(seconds=1), on_error=Signature("note")).send()
    with server.new_worker("test", 1):
        with pytest.raises(TaskFailed, match="expired"):
            result.get(timeout=10)
        eventually(lambda: noted)
    assert not runs
    assert server.pending_tasks() == []


def test_a_task_within_its_expiry_runs(server: Server) -> None:
    @server.task
    def fresh() -> str:
        return "fresh"

    with server.new_worker("test", 1):
        assert fresh.options(expires=60).send().get(timeout=10) == "fresh"


def test_an_exception_whose_text_ends_programs_costs_no_slot(server: Server) -> None:
    class Trap(Exception):
        def __str__(self) -> str:
            raise KeyboardInterrupt

    class Rule:
        def delay(self, failures: int, last_delay: int) -> timedelta:
            raise SystemExit

    @server.task
    def trap() -> None:
        raise Trap

    @server.task
    async def trap_softly() -> None:
        raise Trap

    @server.task(retry=Rule(), retry_count=3)
    def ruled() -> None:
        raise ValueError("no good")

    # Given more of them than there are slots
    with server.new_worker("test", 1):
        for task in (trap, trap_softly, ruled, trap, trap_softly, ruled):
            with pytest.raises(TaskFailed):
                task.send().get(timeout=10)


def test_a_task_that_asks_for_another_run_at_once_does_not_spin(server: Server) -> None:
    runs: list[float] = []

    @server.task
    def again() -> None:
        runs.append(time.monotonic())
        if len(runs) < 4:
            raise RetryTaskLater(retry_in=-5)

    with server.new_worker("test", 1):
        again.send().get(timeout=10)
    assert runs[-1] - runs[0] >= 0.03


def test_a_message_that_names_no_task_is_a_dead_letter(server: Server, broker: ObservedBroker) -> None:
    broker.publish([Message(b"{}", server.config.default_queue)])
    with server.new_worker("test", 1):
        eventually(server.dead_tasks)
    assert [letter.reason for letter in server.dead_tasks()] == ["it names no task"]


@pytest.mark.parametrize("pause", [timedelta(0), timedelta(seconds=-5)])
def test_a_retry_rule_that_names_no_pause_gets_the_shortest(
    server: Server, broker: ObservedBroker, pause: timedelta
) -> None:
    class Rule:
        def delay(self, failures: int, last_delay: int) -> timedelta:
            return pause

    runs: list[float] = []

    @server.task(retry=Rule(), retry_count=2)
    def bad() -> None:
        runs.append(time.monotonic())
        raise ValueError("no good")

    with server.new_worker("test", 1), pytest.raises(TaskFailed, match="no good"):
        bad.send().get(timeout=10)
    assert len(runs) == 3
    assert runs[-1] - runs[0] >= 0.02
