"""Chords: a callback that runs once, with the results of a whole group in its order."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from machinery import (
    ResultTimeout,
    Server,
    Signature,
    State,
    TaskContext,
    TaskFailed,
    TaskResult,
    TaskState,
    chord,
    group,
)
from machinery.errors import ResultsNotStored
from machinery.testing._expectations import PATIENCE, only_if, raises
from machinery.testing._workflow._suite import SOON, Got, add_add, add_gather, add_multiply, is_open, special_queue

if TYPE_CHECKING:
    from machinery import ChordResult

MANY = 500
CHORDS = 20
SOONER_OR_LATER = 2 * PATIENCE


class Chords:
    """`Server.send_chord` and `ChordResult`, when all goes well."""

    def test_a_chord_calls_back_with_the_results_of_its_group(self, server: Server) -> None:
        add, multiply = add_add(server), add_multiply(server)
        with server.new_worker("contract", 4):
            sent = server.send_chord(chord([add.signature(1, 1), add.signature(5, 5)], multiply.signature()))
            assert sent.get(timeout=PATIENCE) == 20
            assert sent.touch() == 20
            assert sent.members.get(timeout=PATIENCE) == [2, 10]
            members = group(add.signature(1, 1), add.signature(2, 2), add.signature(5, 6))
            assert server.send_chord(chord(members, multiply.signature()), 2).get(timeout=PATIENCE) == 88

    def test_results_come_behind_the_callbacks_own_arguments_in_group_order(self, server: Server) -> None:
        gather = add_gather(server)
        entered = [threading.Event() for _ in range(4)]

        @server.task
        def member(number: int) -> int:
            """Ends when the one behind it has ended."""
            if number < 3:
                assert entered[number + 1].wait(PATIENCE)
            entered[number].set()
            return number

        with server.new_worker("one", 2), server.new_worker("other", 2):
            sent = server.send_chord(chord([member.signature(at) for at in range(4)], gather.signature("own", 7)))
            assert sent.get(timeout=PATIENCE) == "own 7 0 1 2 3"

    def test_members_may_pass_on_nothing_or_several_values(self, server: Server) -> None:
        gather = add_gather(server)

        @server.task
        def nothing() -> None:
            pass

        @server.task
        def several() -> tuple[int, str, list[int]]:
            return 7, "seven", [7, 7]

        with server.new_worker("contract", 4):
            members = [nothing.signature(), several.signature(), nothing.signature(), several.signature()]
            sent = server.send_chord(chord(members, gather.signature()))
            assert sent.get(timeout=PATIENCE) == "7 seven [7, 7] 7 seven [7, 7]"
            sent = server.send_chord(chord([nothing.signature()], gather.signature("alone")))
            assert sent.get(timeout=PATIENCE) == "alone"

    def test_an_immutable_callback_gets_its_own_arguments_alone(self, server: Server) -> None:
        add, gather = add_add(server), add_gather(server)
        with server.new_worker("contract", 4):
            immutable = gather.options(immutable=True).signature("own")
            sent = server.send_chord(chord([add.signature(1), add.signature(2)], immutable))
            assert sent.get(timeout=PATIENCE) == "own"

    def test_an_immutable_member_passes_its_result_to_the_callback_all_the_same(self, server: Server) -> None:
        """Whether a callback gets results is its own to say."""
        add, gather = add_add(server), add_gather(server)
        with server.new_worker("contract", 4):
            members = [add.options(immutable=True).signature(1), add.signature(2)]
            assert server.send_chord(chord(members, gather.signature())).get(timeout=PATIENCE) == "1 2"

    def test_members_and_callback_keep_their_own_options(self, server: Server) -> None:
        special = special_queue(server)

        @server.task
        def tell(context: TaskContext, *told: str) -> str:
            return " ".join([*told, str(context.headers.get("tenant"))])

        with server.new_worker("contract", 2), server.new_custom_queue_worker("special", 2, special):
            before = time.time()
            members = [
                tell.options(headers={"tenant": "Ümlaut"}).signature("a"),
                tell.options(queue=special).signature("b"),
                tell.options(countdown=0.4).signature("c"),
            ]
            callback = tell.options(headers={"tenant": "✓"}, queue=special, countdown=0.8).signature()
            assert server.send_chord(chord(members, callback)).get(timeout=PATIENCE) == "a Ümlaut b None c None ✓"
            assert time.time() - before >= 0.75

    def test_what_follows_a_callback_runs_once(self, server: Server) -> None:
        add = add_add(server)
        got = Got()
        server.register_task("note", lambda *values: got.put(values))
        with server.new_worker("contract", 4):
            callback = add.options(on_success=[Signature("note", ["sum"])]).signature(100)
            sent = server.send_chord(chord([add.signature(1), add.signature(2)], callback))
            assert sent.get(timeout=PATIENCE) == 103
            assert got.only(1) == [("sum", 103)]

    def test_a_member_that_fails_at_first_is_waited_for(self, server: Server) -> None:
        add, gather = add_add(server), add_gather(server)

        @server.task(retry_count=2, retry=SOON)
        def shaky(context: TaskContext) -> int:
            if context.attempt < 3:
                raise ValueError("not yet")
            return context.attempt

        with server.new_worker("contract", 4):
            sent = server.send_chord(chord([shaky.signature(), add.signature(1)], gather.signature()))
            assert sent.get(timeout=PATIENCE) == "3 1"

    def test_coroutines_are_members_and_callbacks_too(self, server: Server) -> None:
        @server.task
        async def add(*numbers: int) -> int:
            return sum(numbers)

        with server.new_worker("contract", 4):
            sent = server.send_chord(chord([add.signature(at) for at in range(10)], add.signature(100)))
            assert sent.get(timeout=PATIENCE) == 145

    def test_a_chord_of_one_calls_back(self, server: Server) -> None:
        add, gather = add_add(server), add_gather(server)
        with server.new_worker("contract", 4):
            sent = server.send_chord(chord([add.signature(1)], gather.signature("own")))
            assert sent.get(timeout=PATIENCE) == "own 1"

    def test_a_large_chord_calls_back_once_with_all_of_it(self, server: Server) -> None:
        add = add_add(server)
        called = Got()

        @server.task
        def check(*numbers: int) -> int:
            called.put(list(numbers))
            return len(numbers)

        count = min(MANY, server.backend.capabilities.largest_group or MANY)
        sent = server.send_chord(chord([add.signature(number) for number in range(count)], check.signature()))
        with server.new_worker("one", 4), server.new_worker("other", 4):
            assert sent.get(timeout=SOONER_OR_LATER) == count
            assert called.only(1) == [list(range(count))]

    def test_each_of_many_chords_calls_back_once_whoever_ends_its_members(self, server: Server) -> None:
        add = add_add(server)
        called = Got()

        @server.task
        def total(context: TaskContext, *numbers: int) -> int:
            called.put(context.uuid)
            return sum(numbers)

        with server.new_worker("one", 3), server.new_worker("two", 3), server.new_worker("three", 3):
            sent = [
                server.send_chord(chord([add.signature(at, number) for number in range(6)], total.signature()))
                for at in range(CHORDS)
            ]
            assert [each.get(timeout=PATIENCE) for each in sent] == [6 * at + 15 for at in range(CHORDS)]
            assert Counter(called.only(CHORDS)) == Counter([each.uuid for each in sent])

    def test_a_chord_is_touched_and_waited_for_like_a_task(self, server: Server) -> None:
        add = add_add(server)
        sent = server.send_chord(chord([add.signature(1), add.signature(2)], add.signature()))
        assert sent.touch() is None
        assert sent.members.touch() is None
        with raises(ResultTimeout, "within 0.1 s"):
            sent.get(timeout=0.1)
        with server.new_worker("contract", 2):
            assert sent.get(timeout=PATIENCE) == 3
        assert sent.state is State.SUCCESS
        assert server.result(sent.uuid).get(timeout=PATIENCE) == 3

    def test_the_same_chord_may_be_sent_twice(self, server: Server) -> None:
        add, gather = add_add(server), add_gather(server)
        made = chord([add.signature(1), add.signature(2)], gather.signature())
        with server.new_worker("contract", 2):
            first, second = server.send_chord(made), server.send_chord(made)
            assert [each.get(timeout=PATIENCE) for each in (first, second)] == ["1 2"] * 2
        assert first.uuid != second.uuid
        assert first.members.group_uuid != second.members.group_uuid

    def test_a_chord_that_is_sent_again_under_its_own_ids_runs_again(self, server: Server) -> None:
        runs = Got()

        @server.task
        def count(*_: int) -> int:
            runs.put(1)
            return len(runs.take(0))

        made = chord([Signature("count", uuid="task_member")], Signature("count", uuid="task_callback"))
        with server.new_worker("contract", 2):
            assert server.send_chord(made).get(timeout=PATIENCE) == 2
            again = server.send_chord(made)
            assert again.get(timeout=PATIENCE) == 4
        assert again.uuid == "task_callback"

    def test_a_task_may_send_a_chord(self, server: Server) -> None:
        """The way to put one workflow into another."""
        add, multiply = add_add(server), add_multiply(server)

        @server.task
        def begin(number: int) -> str:
            members = [add.signature(number, at) for at in (1, 2)]
            return server.send_chord(chord(members, multiply.signature())).uuid

        with server.new_worker("contract", 2):
            inner = begin.send(10).get(timeout=PATIENCE)
            assert server.result(inner).get(timeout=PATIENCE) == 11 * 12

    def test_a_failed_callback_is_raised_and_mourned(self, server: Server) -> None:
        add = add_add(server)
        mourned = Got()
        server.register_task("mourn", lambda *values: mourned.put(values))

        @server.task
        def bad(*_: int) -> None:
            raise ValueError("a bad end")

        with server.new_worker("contract", 2):
            callback = bad.options(on_error=[Signature("mourn", ["own"])]).signature()
            sent = server.send_chord(chord([add.signature(1), add.signature(2)], callback))
            with raises(TaskFailed, "a bad end") as caught:
                sent.get(timeout=PATIENCE)
            assert caught.value.uuid == sent.uuid
            assert mourned.only(1) == [("a bad end", "own")]

    def test_a_chord_that_has_ended_is_not_open(self, server: Server) -> None:
        add = add_add(server)
        with server.new_worker("contract", 2):
            sent = server.send_chord(chord([add.signature(1), add.signature(2)], add.signature()))
            sent.get(timeout=PATIENCE)
        assert not is_open(server, sent)

    def test_a_member_that_nobody_counted_does_not_hold_up_the_chord(self, server: Server) -> None:
        """A worker of Go's may have finished it, or the count may be lost."""
        only_if(server.backend.capabilities.lists_open_groups, "the backend cannot list chords")
        sent = self._half_uncounted(server)
        assert not isinstance(sent, str)
        with server.new_worker("contract", 2):
            assert sent.get(timeout=PATIENCE) == "7 1"
        assert not is_open(server, sent)
        server.broker.purge(special_queue(server))

    def test_in_a_mixed_fleet_such_a_member_is_seen(self, server: Server) -> None:
        mixed = Server(server.config.with_(mixed_fleet=True), server.broker, server.backend, server.lock)
        sent = self._half_uncounted(mixed)
        with mixed.new_worker("contract", 2):
            assert sent.get(timeout=PATIENCE) == "7 1"
        server.broker.purge(special_queue(server))

    def _half_uncounted(self, server: Server) -> ChordResult[Any]:
        """A chord of two: one whose record alone says that it has ended, and one that waits."""
        add, gather = add_add(server), add_gather(server)
        members = [add.options(queue=special_queue(server)).signature(0), add.signature(1)]
        sent = server.send_chord(chord(members, gather.signature()))
        record = TaskState(sent.members[0].uuid, "add", State.SUCCESS, (TaskResult("int64", 7),))
        server.backend.save([record])
        return sent

    def test_without_a_result_backend_a_chord_is_refused_when_it_is_sent(self, server: Server) -> None:
        forgetful = Server(server.config, server.broker)
        with raises(ResultsNotStored, "result_backend"):
            forgetful.send_chord(chord([Signature("add"), Signature("add")], Signature("add")))
        if server.broker.capabilities.inspection:
            assert server.pending_tasks() == []
