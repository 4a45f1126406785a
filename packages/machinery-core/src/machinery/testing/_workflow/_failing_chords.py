"""Chords whose members fail: the callback does not run, its error callbacks do, once, and nobody waits in vain."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from machinery import Reject, Signature, TaskFailed, chord
from machinery.testing._expectations import PATIENCE, eventually, only_if, raises
from machinery.testing._workflow._suite import SOON, Got, add_add, is_open, special_queue

if TYPE_CHECKING:
    from collections.abc import Sequence

    from machinery import ChordResult, Server

SEVERAL = 8


class FailingChords:
    """`Server.send_chord` and `ChordResult`, when something goes wrong."""

    def test_whichever_member_fails_is_named_and_mourned_once(self, server: Server) -> None:
        mourning = _Mourning(server)
        with server.new_worker("contract", 4):
            for position in range(3):
                members = [Signature("bad" if at == position else "good") for at in range(3)]
                sent = mourning.send(members, name=str(position))
                mourning.check(sent, position, "no good")
            assert sorted(mourning.mourned.only(3)) == [("no good", str(position)) for position in range(3)]
        assert mourning.called.none()

    def test_members_that_fail_at_once_are_mourned_once(self, server: Server) -> None:
        mourning = _Mourning(server)
        with server.new_worker("one", 4), server.new_worker("other", 4):
            sent = mourning.send([Signature("bad") for _ in range(SEVERAL)])
            with raises(TaskFailed, "no good") as caught:
                sent.get(timeout=PATIENCE)
            assert caught.value.uuid in {member.uuid for member in sent.members}
            assert mourning.mourned.only(1) == [("no good", "")]
        assert mourning.called.none()

    def test_a_member_without_any_retry_left_has_failed(self, server: Server) -> None:
        mourning = _Mourning(server)
        runs = Got()

        @server.task(retry_count=2, retry=SOON)
        def shaky() -> None:
            runs.put(1)
            raise ValueError("never")

        with server.new_worker("contract", 4):
            sent = mourning.send([Signature("good"), shaky.signature()])
            mourning.check(sent, 1, "never")
            assert mourning.mourned.only(1) == [("never", "")]
        assert len(runs.only(3)) == 3

    def test_a_chord_that_has_failed_stays_so_when_its_dead_members_run_again(self, server: Server) -> None:
        only_if(server.broker.capabilities.dead_letters, "the broker keeps no dead letters")
        mourning = _Mourning(server)
        done: set[int] = set()
        runs = Got()

        @server.task
        def picky(number: int) -> int:
            runs.put(number)
            if number not in done:
                raise Reject("not now")
            return number

        with server.new_worker("contract", 4):
            sent = mourning.send([picky.signature(1), picky.signature(2)])
            with raises(TaskFailed, "not now"):
                sent.get(timeout=PATIENCE)
            letters = eventually(lambda: len(found := server.dead_tasks()) == 2 and found)
            assert letters
            done.update((1, 2))
            for count, letter in enumerate(letters, 3):
                assert server.requeue_dead_tasks(ids=[letter.id]) == 1
                runs.take(count)
            assert eventually(lambda: all(member.state.is_final for member in sent.members))
            assert mourning.mourned.only(1) == [("not now", "")]
        assert mourning.called.none()
        assert sent.state.is_final

    def test_a_member_that_cannot_be_called_has_failed(self, server: Server) -> None:
        mourning = _Mourning(server)

        @server.task
        def picky(number: int) -> int:
            return number

        with server.new_worker("contract", 4):
            sent = mourning.send([Signature("good"), Signature("picky", ["text"]), Signature("good")])
            mourning.check(sent, 1, "picky")
            ((error, _),) = mourning.mourned.only(1)
        assert "wants int" in error

    def test_a_member_that_came_too_late_has_failed(self, server: Server) -> None:
        mourning = _Mourning(server)
        late = server.task(name="late")(lambda: None)
        sent = mourning.send([late.options(expires=0.001).signature(), Signature("good")])
        threading.Event().wait(0.05)
        with server.new_worker("contract", 4):
            mourning.check(sent, 0, "expired")
            assert len(mourning.mourned.only(1)) == 1

    def test_a_rejected_member_is_a_dead_letter_and_has_failed(self, server: Server) -> None:
        only_if(server.broker.capabilities.dead_letters, "the broker keeps no dead letters")
        mourning = _Mourning(server)

        @server.task
        def rejected() -> None:
            raise Reject("never again")

        with server.new_worker("contract", 4):
            sent = mourning.send([rejected.signature(), Signature("good")])
            mourning.check(sent, 0, "never again")
            assert mourning.mourned.only(1) == [("never again", "")]
            (letter,) = eventually(server.dead_tasks)
        assert "never again" in letter.reason

    def test_a_member_that_nobody_knows_and_that_may_be_dropped_has_failed(self, server: Server) -> None:
        only_if(server.backend.capabilities.lists_open_groups, "the backend cannot list chords")
        mourning = _Mourning(server)
        with server.new_worker("contract", 4):
            sent = mourning.send([Signature("unknown", ignore_when_task_not_registered=True), Signature("good")])
            mourning.check(sent, 0, "not registered")
            assert len(mourning.mourned.only(1)) == 1

    def test_a_member_that_nobody_knows_yet_is_waited_for(self, server: Server) -> None:
        mourning = _Mourning(server)
        with server.new_worker("contract", 4):
            sent = mourning.send([Signature("later"), Signature("good")])
            assert sent.members[1].get(timeout=PATIENCE) is None
            server.register_task("later", lambda: 7)
            assert sent.get(timeout=PATIENCE) is None
            assert mourning.called.only(1) == [(7,)]
        assert mourning.mourned.none()

    def test_the_failure_is_told_at_once_and_the_others_are_left_to_finish(self, server: Server) -> None:
        mourning = _Mourning(server)
        leave = threading.Event()

        @server.task
        def slow() -> str:
            assert leave.wait(PATIENCE)
            return "done"

        with server.new_worker("contract", 4):
            sent = mourning.send([slow.signature(), Signature("bad"), slow.signature()])
            mourning.check(sent, 1, "no good")
            assert mourning.mourned.only(1) == [("no good", "")]
            leave.set()
            assert [sent.members[at].get(timeout=PATIENCE) for at in (0, 2)] == ["done", "done"]
            assert len(mourning.mourned.only(1)) == 1
        assert mourning.called.none()
        with raises(TaskFailed, "no good"):
            sent.touch()

    def test_the_members_own_error_callbacks_run_too(self, server: Server) -> None:
        mourning = _Mourning(server)
        with server.new_worker("contract", 4):
            bad = Signature("bad", on_error=[Signature("mourn", ["member"])])
            mourning.send([bad, Signature("good")], name="chord")
            assert sorted(mourning.mourned.only(2)) == [("no good", "chord"), ("no good", "member")]

    def test_a_failed_chord_is_closed_when_its_last_member_has_ended(self, server: Server) -> None:
        only_if(server.backend.capabilities.lists_open_groups, "the backend cannot list chords")
        mourning = _Mourning(server)
        leave = threading.Event()

        @server.task
        def slow() -> None:
            assert leave.wait(PATIENCE)

        with server.new_worker("contract", 4):
            sent = mourning.send([Signature("bad"), slow.signature()])
            mourning.check(sent, 0, "no good")
            assert is_open(server, sent)
            leave.set()
            assert eventually(lambda: not is_open(server, sent))
            assert len(mourning.mourned.only(1)) == 1

    def test_a_chord_that_lost_a_record_fails_instead_of_waiting_for_ever(self, server: Server) -> None:
        mourning = _Mourning(server)
        add_add(server)
        sent = mourning.send([Signature("add", [1], routing_key=special_queue(server)), Signature("good")])
        server.backend.forget([sent.members[0].uuid])
        mixed = server.config.mixed_fleet or server.backend.capabilities.lists_open_groups
        only_if(mixed, "nobody looks at the members")
        with server.new_worker("contract", 4):
            ((error, _),) = mourning.mourned.only(1)
            with raises(TaskFailed, "is gone"):
                sent.get(timeout=PATIENCE)
        assert sent.members[0].uuid in error
        server.broker.purge(special_queue(server))


class _Mourning:
    """Chords whose callback must not be called, and whose failure is to be mourned."""

    def __init__(self, server: Server) -> None:
        self.called = Got()
        self.mourned = Got()
        self._server = server

        @server.task
        def good() -> None:
            pass

        @server.task
        def bad() -> None:
            raise ValueError("no good")

        server.register_task("call", lambda *values: self.called.put(values))
        server.register_task("mourn", lambda *values: self.mourned.put(values))

    def send(self, members: Sequence[Signature], name: str = "") -> ChordResult[Any]:
        return self._server.send_chord(chord(members, Signature("call", on_error=[Signature("mourn", [name])])))

    def check(self, sent: ChordResult[Any], position: int, words: str) -> None:
        """The failure of that member is raised."""
        with raises(TaskFailed, words) as caught:
            sent.get(timeout=PATIENCE)
        assert caught.value.uuid == sent.members[position].uuid
