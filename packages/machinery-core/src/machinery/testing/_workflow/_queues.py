"""Queues: what waits in them for whom, and what is given up."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from machinery import Reject, Signature, State, TaskFailed
from machinery.errors import PriorityNotSupported
from machinery.testing._expectations import PATIENCE, eventually, only_if, raises
from machinery.testing._workflow._suite import special_queue

if TYPE_CHECKING:
    from machinery import Server


class Queues:
    """Queues, and workers that come and go."""

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

    def test_a_tasks_own_queue_has_its_own_worker(self, server: Server) -> None:
        queue = special_queue(server)

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
            assert worker.join(PATIENCE)  # before the block's end quits a second time, which would not wait for it
        assert first.get(timeout=PATIENCE) == "done"
        with server.new_worker("contract", 1):
            assert [other.get(timeout=PATIENCE) for other in others] == ["done too"] * 20
