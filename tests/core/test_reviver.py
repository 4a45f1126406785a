"""The reviver: no chord waits for ever, and none is ended twice."""

from __future__ import annotations

import pytest

from machinery import ChordResult, Config, Server, Signature, State, TaskFailed, TaskState, chord, group
from machinery._worker import _reviver
from machinery.errors import (
    GroupNotFound,
)
from machinery.memory import MemoryLock, MemoryLocks
from tests.core.joining import (
    GOOD,
    MOURN,
    TOTAL,
    JoiningBackend,
    add_tasks,
    callbacks,
    fail,
    look,
    open_groups,
    send,
    succeed,
)
from tests.core.observed import Journal, ObservedBroker
from tests.core.worker_parts import Parts


@pytest.fixture
def backend(journal: Journal) -> JoiningBackend:
    return JoiningBackend(journal)


@pytest.fixture
def locks() -> MemoryLocks:
    return MemoryLocks()


@pytest.fixture
def server(broker: ObservedBroker, backend: JoiningBackend, locks: MemoryLocks) -> Server:
    made = Server(Config(), broker, backend, MemoryLock(locks))
    add_tasks(made)
    return made


@pytest.fixture
def sent(server: Server, broker: ObservedBroker) -> ChordResult[object]:
    """A chord of three whose messages some other worker has taken, to do with them what a test wants."""
    return send(server, broker)


@pytest.fixture(autouse=True)
def in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chord is idle as soon as nothing happens in it."""
    monkeypatch.setattr(_reviver, "IDLE", -1.0)


# -- what it ends -------------------------------------------------------------------------------------------------------


def test_a_chord_whose_members_were_not_counted_is_ended(
    parts: Parts, server: Server, sent: ChordResult[object]
) -> None:
    succeed(sent, 2, 0, 1)
    look(parts)
    assert callbacks(server, "total") == [["sum", 1, 2, 3]]
    assert [task.uuid for task in server.pending_tasks()] == [sent.uuid]
    assert open_groups(server) == []
    look(parts)
    assert len(server.pending_tasks()) == 1


def test_a_chord_whose_members_run_is_left_alone(parts: Parts, server: Server, sent: ChordResult[object]) -> None:
    succeed(sent, 0, 2)
    for _ in range(3):
        look(parts)
    assert server.pending_tasks() == []
    succeed(sent, 1)
    look(parts)
    assert callbacks(server, "total") == [["sum", 1, 2, 3]]


def test_a_chord_in_which_something_happens_is_not_looked_at(
    parts: Parts, server: Server, sent: ChordResult[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_reviver, "IDLE", 60.0)
    succeed(sent, 0, 1, 2)
    look(parts)
    assert server.pending_tasks() == []


def test_a_member_that_failed_uncounted_is_mourned(parts: Parts, server: Server, sent: ChordResult[object]) -> None:
    succeed(sent, 0)
    fail(sent, 1)
    look(parts)
    assert callbacks(server, "mourn") == [["no good", "late"]]
    assert callbacks(server, "total") == []
    with pytest.raises(TaskFailed, match="no good"):
        sent.get(timeout=1)


def test_the_group_of_a_failed_chord_stays_until_its_last_member_has_ended(
    parts: Parts, server: Server, sent: ChordResult[object], journal: Journal
) -> None:
    fail(sent, 0)
    look(parts)
    (mourning,) = server.pending_tasks()
    server.backend.save([TaskState(mourning.uuid, "mourn", State.STARTED)])
    look(parts)
    assert open_groups(server) == [sent.members.group_uuid]
    succeed(sent, 1)
    look(parts)
    assert open_groups(server) == [sent.members.group_uuid]
    journal.entries.clear()
    look(parts)
    assert [entry for entry in journal.entries if "load" in entry] == [f"load {sent.members[2].uuid}"]
    succeed(sent, 2)
    look(parts)
    assert open_groups(server) == []
    assert callbacks(server, "mourn") == [["no good", "late"]]


def test_a_chord_that_a_member_has_failed_is_closed_when_the_others_have_ended(
    parts: Parts, server: Server, broker: ObservedBroker
) -> None:
    sent = server.send_chord(chord([Signature("bad"), GOOD[0]], TOTAL.with_(on_error=(MOURN,))))
    for run in parts.receive():
        assert open_groups(server) == [sent.members.group_uuid]
        look(parts)
        parts.executor.run_here(run)
        parts.settler.settle([run])
    look(parts)
    assert open_groups(server) == []
    assert callbacks(server, "mourn") == [["no good", "late"]]


def test_a_member_that_was_dropped_fails_its_chord(parts: Parts, server: Server) -> None:
    unknown = Signature("unknown", ignore_when_task_not_registered=True)
    sent = server.send_chord(chord([unknown, GOOD[0]], TOTAL.with_(on_error=(MOURN,))))
    (run,) = parts.receive()
    look(parts)
    ((error, _),) = callbacks(server, "mourn")
    assert "'unknown' is not registered here" in str(error)
    with pytest.raises(TaskFailed, match="is not registered here") as caught:
        sent.get(timeout=1)
    assert caught.value.uuid == sent.members[0].uuid
    parts.executor.run_here(run)
    parts.settler.settle([run])


def test_a_chord_that_lost_a_record_fails(parts: Parts, server: Server, sent: ChordResult[object]) -> None:
    sent._backend.forget([sent.members[0].uuid])
    look(parts)
    ((error, _),) = callbacks(server, "mourn")
    assert "is gone" in str(error)


def test_a_plain_group_is_nobodys_concern(parts: Parts, server: Server, journal: Journal) -> None:
    server.send_group(group(GOOD))
    journal.entries.clear()
    look(parts)
    assert journal.of("load_group", "load") == []


def test_a_group_that_is_listed_and_gone_is_closed(
    parts: Parts, sent: ChordResult[object], backend: JoiningBackend, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(_: str) -> None:
        raise GroupNotFound("there is no group")

    monkeypatch.setattr(backend.inner, "load_group", gone)
    look(parts)
    assert journal.of("close") == ["close"]


# -- what it leaves to others -------------------------------------------------------------------------------------------


def test_a_chord_that_a_member_claimed_is_the_members_to_end(
    parts: Parts, server: Server, sent: ChordResult[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    succeed(sent, 0, 1, 2)
    assert server.backend.claim_chord(sent.members.group_uuid, sent.members[1].uuid)
    for _ in range(3):
        look(parts)
    assert server.pending_tasks() == []
    assert open_groups(server) == [sent.members.group_uuid]

    # Until it can no longer be expected to
    monkeypatch.setattr(_reviver, "OVERDUE", 0.0)
    look(parts)
    assert callbacks(server, "total") == [["sum", 1, 2, 3]]
    assert open_groups(server) == []


def test_a_chord_whose_callback_was_sent_by_a_member_is_closed(
    parts: Parts, server: Server, sent: ChordResult[object]
) -> None:
    succeed(sent, 0, 1, 2)
    assert server.backend.claim_chord(sent.members.group_uuid, sent.members[1].uuid)
    server.backend.submit([TaskState(sent.uuid, "total")])
    look(parts)
    assert server.pending_tasks() == []
    assert open_groups(server) == []


def test_a_chord_that_another_worker_looks_after_is_left_to_it(
    parts: Parts, server: Server, sent: ChordResult[object], locks: MemoryLocks
) -> None:
    succeed(sent, 0, 1, 2)
    token = MemoryLock(locks).try_hold(f"chord:{sent.members.group_uuid}", 60)
    assert token is not None
    look(parts)
    assert server.pending_tasks() == []
    MemoryLock(locks).release(token)
    look(parts)
    assert len(server.pending_tasks()) == 1
    assert locks.holds == {}


def test_a_turn_that_is_nearly_over_is_not_used(
    parts: Parts, server: Server, sent: ChordResult[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    succeed(sent, 0, 1, 2)
    with monkeypatch.context() as patch:
        patch.setattr(_reviver, "HELD", _reviver.MARGIN)
        look(parts)
    assert server.pending_tasks() == []
    look(parts)
    assert len(server.pending_tasks()) == 1


# -- deaths, and others that do the same --------------------------------------------------------------------------------


def test_what_a_dead_one_claimed_is_sent_by_the_next(
    parts: Parts, server: Server, sent: ChordResult[object], journal: Journal, locks: MemoryLocks
) -> None:
    succeed(sent, 0, 1, 2)
    journal.fail("submit", SystemExit("the worker dies"))
    with pytest.raises(SystemExit):
        look(parts)
    locks.holds.clear()
    look(Parts(server))
    assert callbacks(server, "total") == [["sum", 1, 2, 3]]
    assert open_groups(server) == []


def test_what_was_stored_a_moment_ago_is_not_sent_again_though_nobody_closed_the_group(
    parts: Parts, server: Server, sent: ChordResult[object], journal: Journal
) -> None:
    """It may wait in its queue: a second message would be a second run."""
    succeed(sent, 0, 1, 2)
    journal.fail("close", SystemExit("the worker dies"))
    with pytest.raises(SystemExit):
        look(parts)
    next_one = Parts(server)
    for _ in range(3):
        look(next_one)
    assert len(server.pending_tasks()) == 1
    server.backend.save([TaskState(sent.uuid, "total", State.STARTED)])
    look(next_one)
    assert open_groups(server) == []


def test_what_was_stored_long_ago_and_never_began_is_sent_again_as_what_it_is(
    parts: Parts, server: Server, sent: ChordResult[object], journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who stored it died before it was sent."""
    succeed(sent, 0, 1, 2)
    journal.fail("publish", SystemExit("the worker dies"))
    with pytest.raises(SystemExit):
        look(parts)
    monkeypatch.setattr(_reviver, "OVERDUE", 0.0)
    monkeypatch.setattr(server, "lock", MemoryLock())
    journal.entries.clear()
    look(Parts(server))
    assert callbacks(server, "total") == [["sum", 1, 2, 3]]
    assert journal.of("submit") == []  # it may begin at this very moment, and its record say so
    assert open_groups(server) == []


def test_two_that_share_no_lock_send_one_callback(
    server: Server, sent: ChordResult[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    succeed(sent, 0, 1, 2)
    others = []
    for _ in range(2):
        monkeypatch.setattr(server, "lock", MemoryLock())
        others.append(Parts(server))
    listed = open_groups(server)
    monkeypatch.setattr(server.backend.inner, "open_groups", lambda *_: listed)  # type: ignore[attr-defined]
    for parts in others:
        look(parts)
    assert len(server.pending_tasks()) == 1


def test_a_callback_goes_home_whichever_application_ends_its_chord(
    broker: ObservedBroker, backend: JoiningBackend, sent: ChordResult[object]
) -> None:
    # Given a chord of ours, and a worker of another application on the same services
    succeed(sent, 0, 1, 2)
    other = Server(Config(default_queue="another"), broker, backend, MemoryLock())
    # When that one looks after it
    look(Parts(other))
    # Then its callback waits where ours do
    assert other.pending_tasks() == []
    assert [task.uuid for task in other.pending_tasks("machinery_tasks")] == [sent.uuid]


def test_more_chords_than_are_listed_at_once_are_seen_in_the_end(
    parts: Parts, server: Server, broker: ObservedBroker, backend: JoiningBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_reviver, "LISTED", 2)
    for _ in range(5):
        send(server, broker)
        backend.clock.advance(0.01)  # those sent first are listed first
    last = send(server, broker)
    succeed(last, 0, 1, 2)
    assert [parts.reviver.look() for _ in range(3)] == [2, 4, 6]
    assert [task.uuid for task in server.pending_tasks()] == [last.uuid]
