"""What must work with every broker and every result backend: the whole of the public interface, worker included."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from machinery import (
    Exponential,
    Reject,
    RetryTaskLater,
    Signature,
    State,
    TaskContext,
    TaskFailed,
    chain,
)
from machinery.errors import PriorityNotSupported
from machinery.testing._expectations import PATIENCE, eventually, only_if, raises

if TYPE_CHECKING:
    from machinery import Server

SOON = Exponential(base=0.02)
"""Retries that no test has to wait for."""


class WorkflowContract:
    """Tasks, retries, callbacks and chains as tests of a server.

    A plug-in's test is a subclass with the fixture ``server``: a `Server` on empty stores, with a default queue of its own,
    closed at the end. Workers run in threads of the test.
    """

    def test_a_task_runs_and_its_result_comes_back(self, server: Server) -> None:
        @server.task
        def add(a: int, b: int) -> int:
            return a + b

        with server.new_worker("contract", 4):
            result = add.send(2, 3)
            assert result.get(timeout=PATIENCE) == 5
        state = result.task_state()
        assert state.is_success
        assert state.task_name == "add"
        assert abs(datetime.now(UTC) - state.created_at) < timedelta(minutes=1)

    def test_values_of_every_kind_pass_through(self, server: Server) -> None:
        values = [
            7,
            -(2**63),
            0.5,
            True,
            "naïve ✓",
            b"\0\xff",
            [1, 2],
            ["a", ""],
            [0.5],
            [True],
            {"a": [1, None]},
            [[1], "x"],
        ]

        server.register_task("echo", lambda value: value)
        with server.new_worker("contract", 4):
            results = server.send_tasks([Signature("echo", [value]) for value in values])
            assert [result.get(timeout=PATIENCE) for result in results] == values

    def test_a_task_may_return_nothing_or_several_values(self, server: Server) -> None:
        @server.task
        def nothing() -> None:
            pass

        @server.task
        def several() -> tuple[int, str]:
            return 7, "seven"

        with server.new_worker("contract", 4):
            assert nothing.send().get(timeout=PATIENCE) is None
            assert several.send().get(timeout=PATIENCE) == (7, "seven")

    def test_a_coroutine_is_a_task_too(self, server: Server) -> None:
        @server.task
        async def add(a: int, b: int) -> int:
            return a + b

        with server.new_worker("contract", 4):
            assert add.send(2, b=3).get(timeout=PATIENCE) == 5

    def test_what_was_sent_before_a_worker_came_runs(self, server: Server) -> None:
        @server.task
        def double(number: int) -> int:
            return number * 2

        results = server.send_tasks([double.signature(number) for number in range(200)])
        assert results[0].state is State.PENDING
        with server.new_worker("contract", 4):
            assert [result.get(timeout=PATIENCE) for result in results] == list(range(0, 400, 2))

    def test_a_delayed_task_waits_for_its_time(self, server: Server) -> None:
        @server.task
        def when() -> float:
            return time.time()

        with server.new_worker("contract", 4):
            before = time.time()
            result = when.options(countdown=0.7).send()
            assert result.get(timeout=PATIENCE) - before >= 0.65

    def test_a_task_that_fails_at_first_is_tried_again(self, server: Server) -> None:
        attempts: list[int] = []

        @server.task(retry_count=3, retry=SOON)
        def shaky(context: TaskContext) -> str:
            attempts.append(context.attempt)
            if len(attempts) < 3:
                raise ValueError("not yet")
            return "done"

        with server.new_worker("contract", 4):
            assert shaky.send().get(timeout=PATIENCE) == "done"
        assert attempts == [1, 2, 3]

    def test_a_task_that_keeps_failing_has_failed(self, server: Server) -> None:
        runs: list[int] = []

        @server.task(retry_count=2, retry=SOON)
        def bad() -> None:
            runs.append(1)
            raise ValueError("no good ✗")

        with server.new_worker("contract", 4):
            result = bad.send()
            with raises(TaskFailed, "no good ✗") as caught:
                result.get(timeout=PATIENCE)
        assert caught.value.error == "no good ✗"
        assert caught.value.name == "bad"
        assert result.state is State.FAILURE
        assert len(runs) == 3

    def test_a_task_may_ask_to_be_run_later_and_that_is_no_failure(self, server: Server) -> None:
        runs: list[int] = []

        @server.task
        def patient() -> int:
            runs.append(1)
            if len(runs) == 1:
                raise RetryTaskLater("too early", timedelta(milliseconds=50))
            return len(runs)

        with server.new_worker("contract", 4):
            assert patient.send().get(timeout=PATIENCE) == 2

    def test_results_are_appended_to_the_arguments_of_what_follows(self, server: Server) -> None:
        got = _Got()

        @server.task
        def first(number: int) -> int:
            return number + 1

        @server.task
        def second(*numbers: int) -> None:
            got.put(list(numbers))

        with server.new_worker("contract", 4):
            first.options(on_success=[second.partial(10), second.partial(20)]).send(1)
            assert sorted(got.take(2)) == [[10, 2], [20, 2]]

    def test_an_immutable_task_passes_nothing_on(self, server: Server) -> None:
        got = _Got()

        @server.task
        def first() -> int:
            return 1

        @server.task
        def second(*numbers: int) -> None:
            got.put(list(numbers))

        with server.new_worker("contract", 4):
            first.options(immutable=True, on_success=[second.partial(10)]).send()
            assert got.take(1) == [[10]]

    def test_the_error_is_put_before_the_arguments_of_an_error_callback(self, server: Server) -> None:
        got = _Got()

        @server.task
        def bad() -> None:
            raise ValueError("no good")

        @server.task
        def mourn(error: str, name: str) -> None:
            got.put([error, name])

        with server.new_worker("contract", 4):
            bad.options(on_error=[mourn.partial("Ann")]).send()
            assert got.take(1) == [["no good", "Ann"]]

    def test_a_chain_passes_results_from_link_to_link(self, server: Server) -> None:
        @server.task
        def add(a: int, b: int) -> int:
            return a + b

        with server.new_worker("contract", 4):
            links = [add.signature(1, 1), *[add.partial(10) for _ in range(4)]]
            assert server.send_chain(chain(*links)).get(timeout=PATIENCE) == 42

    def test_a_chain_ends_with_its_first_failure(self, server: Server) -> None:
        runs: list[str] = []

        @server.task
        def bad() -> int:
            runs.append("bad")
            raise ValueError("broken link")

        @server.task
        def after(number: int) -> int:
            runs.append("after")
            return number

        with server.new_worker("contract", 4), raises(TaskFailed, "broken link"):
            server.send_chain(chain(bad.signature(), after.partial())).get(timeout=PATIENCE)
        assert runs == ["bad"]

    def test_headers_travel_through_retries_and_to_callbacks(self, server: Server) -> None:
        headers = {"trace": "00-ab-cd", "Ümlaut": "✓"}
        got = _Got()

        @server.task(retry_count=1, retry=SOON)
        def first(context: TaskContext) -> None:
            got.put(dict(context.headers))
            if context.attempt == 1:
                raise ValueError("once more")

        @server.task
        def second(context: TaskContext) -> None:
            got.put(dict(context.headers))

        with server.new_worker("contract", 4):
            first.options(headers=headers, on_success=[second.options(headers=headers).signature()]).send()
            for seen in got.take(3):
                assert {key: seen.get(key) for key in headers} == headers

    def test_a_task_that_nobody_knows_yet_is_kept_for_who_does(self, server: Server) -> None:
        with server.new_worker("contract", 4):
            result = server.send_task(Signature("later", [7]))
            server.register_task("known", lambda: "yes")
            assert server.send_task(Signature("known")).get(timeout=PATIENCE) == "yes"
            server.register_task("later", lambda number: number)
            assert result.get(timeout=PATIENCE) == 7

    def test_a_task_may_be_dropped_when_nobody_knows_it(self, server: Server) -> None:
        with server.new_worker("contract", 4):
            server.send_task(Signature("unknown", ignore_when_task_not_registered=True))
            server.register_task("known", lambda: "yes")
            assert server.send_task(Signature("known")).get(timeout=PATIENCE) == "yes"
        if server.broker.capabilities.inspection:
            assert server.pending_tasks() == []

    def test_a_rejected_task_is_a_dead_letter_and_can_be_sent_again(self, server: Server) -> None:
        only_if(server.broker.capabilities.dead_letters, "the broker keeps no dead letters")
        runs: list[int] = []

        @server.task(retry_count=5)
        def picky() -> str:
            runs.append(1)
            if len(runs) == 1:
                raise Reject("not this one")
            return "all right"

        with server.new_worker("contract", 4):
            result = picky.send()
            with raises(TaskFailed, "not this one"):
                result.get(timeout=PATIENCE)
            (letter,) = eventually(server.dead_tasks)
            assert "not this one" in letter.reason
            assert server.requeue_dead_tasks() == 1
            assert eventually(lambda: result.state is State.SUCCESS)
        assert server.dead_tasks() == []

    def test_a_task_that_is_sent_again_runs_again(self, server: Server) -> None:
        runs: list[int] = []

        @server.task
        def count() -> int:
            runs.append(1)
            return len(runs)

        with server.new_worker("contract", 4):
            first = count.send()
            assert first.get(timeout=PATIENCE) == 1
            again = server.send_task(Signature("count", uuid=first.uuid))
            assert again.get(timeout=PATIENCE) == 2

    def test_a_tasks_own_queue_has_its_own_worker(self, server: Server) -> None:
        queue = f"{server.config.default_queue}-special"

        @server.task
        def where(name: str) -> str:
            return name

        with server.new_custom_queue_worker("contract", 2, queue):
            left = where.send("default")
            assert where.options(queue=queue).send("special").get(timeout=PATIENCE) == "special"
            assert left.state is State.PENDING
        with server.new_worker("contract", 2):
            assert left.get(timeout=PATIENCE) == "default"

    def test_a_priority_is_obeyed_or_refused(self, server: Server) -> None:
        order: list[int] = []

        @server.task
        def note(priority: int) -> None:
            order.append(priority)

        if not server.broker.capabilities.priorities:
            with raises(PriorityNotSupported):
                note.options(priority=5).send(5)
            return
        results = [note.options(priority=priority).send(priority) for priority in (0, 9, 5)]
        with server.new_worker("contract", 1):
            for result in results:
                result.get(timeout=PATIENCE)
        assert order == [9, 5, 0]

    def test_a_worker_that_stops_leaves_what_it_did_not_start(self, server: Server) -> None:
        entered, leave = threading.Event(), threading.Event()

        @server.task
        def slow() -> str:
            entered.set()
            assert leave.wait(PATIENCE)
            return "done"

        @server.task
        def quick() -> str:
            return "done too"

        worker = server.new_worker("contract", 1)
        with worker:
            first = slow.send()
            assert entered.wait(PATIENCE)
            others = server.send_tasks([quick.signature() for _ in range(20)])
            worker.quit()
            leave.set()
        assert first.get(timeout=PATIENCE) == "done"
        with server.new_worker("contract", 1):
            assert [other.get(timeout=PATIENCE) for other in others] == ["done too"] * 20


class _Got:
    """What tasks have left for the test to see."""

    def __init__(self) -> None:
        self._values: list[list[object] | dict[str, object]] = []
        self._condition = threading.Condition()

    def put(self, value: list[object] | dict[str, object]) -> None:
        with self._condition:
            self._values.append(value)
            self._condition.notify_all()

    def take(self, count: int) -> list[Any]:
        with self._condition:
            assert self._condition.wait_for(lambda: len(self._values) >= count, PATIENCE), self._values
            return self._values[:]
