"""Tasks: they run, their results come back, and those that fail are tried again."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from machinery import RetryTaskLater, Signature, State, TaskContext, TaskFailed
from machinery.testing._expectations import PATIENCE, raises
from machinery.testing._workflow._suite import SOON

if TYPE_CHECKING:
    from machinery import Server


class Tasks:
    """Tasks on their own."""

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
