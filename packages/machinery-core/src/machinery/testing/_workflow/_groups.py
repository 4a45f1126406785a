"""Groups: tasks side by side, whose results come in the order of the group."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from typing import TYPE_CHECKING

from machinery import ResultTimeout, Server, Signature, State, TaskContext, TaskFailed, group
from machinery.errors import ResultsNotStored
from machinery.testing._expectations import PATIENCE, eventually, raises
from machinery.testing._workflow._suite import SOON, Got, add_add, special_queue

if TYPE_CHECKING:
    from machinery import GroupResult

MANY = 500


class Groups:
    """`Server.send_group` and `GroupResult`."""

    def test_a_group_runs_and_its_results_come_back(self, server: Server) -> None:
        add = add_add(server)
        with server.new_worker("contract", 4):
            for concurrency in (0, 1, 2, 50):
                sent = server.send_group(
                    group(add.signature(1, 1), add.signature(2, 2), add.signature(5, 6)), concurrency
                )
                assert sent.get(timeout=PATIENCE) == [2, 4, 11]

    def test_results_are_in_the_order_of_the_group_whoever_ended_first(self, server: Server) -> None:
        last_has_ended = threading.Event()

        @server.task
        def first() -> str:
            assert last_has_ended.wait(PATIENCE)
            return "first"

        @server.task
        def last() -> str:
            return "last"

        with server.new_worker("contract", 2):
            sent = server.send_group(group(first.signature(), last.signature()))
            assert sent[1].get(timeout=PATIENCE) == "last"
            assert sent.touch() is None
            last_has_ended.set()
            assert sent.get(timeout=PATIENCE) == ["first", "last"]
            assert sent.touch() == ["first", "last"]

    def test_members_may_return_nothing_or_several_values(self, server: Server) -> None:
        @server.task
        def nothing() -> None:
            pass

        @server.task
        def several() -> tuple[int, str]:
            return 7, "seven"

        with server.new_worker("contract", 4):
            sent = server.send_group(group(nothing.signature(), several.signature(), nothing.signature()))
            assert sent.get(timeout=PATIENCE) == [None, (7, "seven"), None]

    def test_a_large_group_runs_whole(self, server: Server) -> None:
        add = add_add(server)
        count = min(MANY, server.backend.capabilities.largest_group or MANY)
        sent = server.send_group(group(add.signature(number) for number in range(count)))
        with server.new_worker("one", 4), server.new_worker("other", 4):
            assert sent.get(timeout=2 * PATIENCE) == list(range(count))

    def test_members_keep_their_own_options(self, server: Server) -> None:
        special = special_queue(server)
        got = Got()

        @server.task
        def note(context: TaskContext, name: str) -> str:
            got.put((name, context.headers.get("tenant"), time.time()))
            return name

        with server.new_worker("contract", 2), server.new_custom_queue_worker("special", 2, special):
            before = time.time()
            sent = server.send_group(
                group(
                    note.options(headers={"tenant": "Ümlaut"}).signature("headers"),
                    note.options(queue=special).signature("queue"),
                    note.options(countdown=0.5).signature("later"),
                )
            )
            assert sent.get(timeout=PATIENCE) == ["headers", "queue", "later"]
        noted = {name: (tenant, when) for name, tenant, when in got.take(3)}
        assert noted["headers"][0] == "Ümlaut"
        assert noted["later"][1] - before >= 0.45

    def test_a_member_that_fails_at_first_is_tried_again(self, server: Server) -> None:
        add = add_add(server)

        @server.task(retry_count=2, retry=SOON)
        def shaky(context: TaskContext) -> int:
            if context.attempt < 3:
                raise ValueError("not yet")
            return context.attempt

        with server.new_worker("contract", 4):
            sent = server.send_group(group(add.signature(1), shaky.signature(), add.signature(2)))
            assert sent.get(timeout=PATIENCE) == [1, 3, 2]

    def test_what_follows_a_member_runs_too(self, server: Server) -> None:
        add = add_add(server)
        got = Got()
        server.register_task("note", got.put)
        with server.new_worker("contract", 4):
            follow = add.options(on_success=[Signature("note")])
            server.send_group(group(follow.signature(number) for number in (1, 2, 3)))
            assert sorted(got.only(3)) == [1, 2, 3]

    def test_the_failure_of_a_member_is_raised_and_the_others_finish(self, server: Server) -> None:
        leave = threading.Event()

        @server.task
        def slow() -> str:
            assert leave.wait(PATIENCE)
            return "done"

        @server.task
        def bad() -> None:
            raise ValueError("no good")

        with server.new_worker("contract", 2):
            sent = server.send_group(group(slow.signature(), bad.signature()))
            with raises(TaskFailed, "no good") as caught:
                sent.get(timeout=PATIENCE)
            assert caught.value.uuid == sent[1].uuid
            with raises(TaskFailed, "no good"):
                sent.touch()
            leave.set()
            assert sent[0].get(timeout=PATIENCE) == "done"

    def test_waiting_for_a_group_ends_with_the_timeout(self, server: Server) -> None:
        add = add_add(server)
        sent = server.send_group(group(add.signature(1), add.signature(2)))
        assert sent.touch() is None
        assert [result.state for result in sent] == [State.PENDING, State.PENDING]
        with raises(ResultTimeout, "within 0.1 s"):
            sent.get(timeout=0.1)
        with server.new_worker("contract", 2):
            assert sent.get(timeout=PATIENCE) == [1, 2]

    def test_the_same_group_may_be_sent_twice(self, server: Server) -> None:
        runs = Got()

        @server.task
        def count(number: int) -> int:
            runs.put(number)
            return number

        made = group(count.signature(1), Signature("count", [2], uuid="task_two"))
        with server.new_worker("contract", 2):
            sent: list[GroupResult] = []
            for _ in range(2):
                sent.append(server.send_group(made))
                assert sent[-1].get(timeout=PATIENCE) == [1, 2]
        assert sorted(runs.only(4)) == [1, 1, 2, 2]
        assert sent[0].group_uuid != sent[1].group_uuid
        assert sent[0][0].uuid != sent[1][0].uuid

    def test_a_group_that_has_ended_is_not_open(self, server: Server) -> None:
        add = add_add(server)
        with server.new_worker("contract", 2):
            sent = server.send_group(group(add.signature(1), add.signature(2)))
            sent.get(timeout=PATIENCE)
        later = sent[0].task_state().created_at + timedelta(days=1)
        assert sent.group_uuid not in server.backend.open_groups(later, 1000)

    def test_without_a_result_backend_a_group_runs(self, server: Server) -> None:
        forgetful = Server(server.config, server.broker)
        got = Got()
        forgetful.register_task("note", got.put)
        with forgetful.new_worker("contract", 2):
            sent = forgetful.send_group(group(Signature("note", [number]) for number in (1, 2, 3)))
            assert sorted(got.only(3)) == [1, 2, 3]
        for look in (sent.touch, lambda: sent.get(timeout=PATIENCE)):
            with raises(ResultsNotStored):
                look()
        if server.broker.capabilities.inspection:
            assert eventually(lambda: not server.pending_tasks())
