"""Chords that fail: by a member, and by what has gone from the store."""

from __future__ import annotations

import pytest

from machinery import ChordResult, Server, Signature, State, TaskFailed, TaskResult, TaskState, chord
from machinery.errors import DecodeError, GroupNotFound
from tests.core.joining import (
    GOOD,
    MOURN,
    TOTAL,
    JoiningBackend,
    add_tasks,
    callbacks,
    end,
    end_again,
    open_groups,
    record_of,
    succeed,
)
from tests.core.observed import Journal, ObservedBroker
from tests.core.worker_parts import Parts


@pytest.fixture
def backend(journal: Journal) -> JoiningBackend:
    return JoiningBackend(journal)


@pytest.fixture
def server(server: Server) -> Server:
    add_tasks(server)
    return server


def send_failing(server: Server, *bad: Signature) -> ChordResult[object]:
    return server.send_chord(chord([GOOD[0], *bad, GOOD[2]], TOTAL.with_(on_error=(MOURN,))))


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 0, 1)], ids=str)
def test_a_failed_member_is_mourned_once_and_the_callback_never_sent(
    parts: Parts, server: Server, order: tuple[int, ...]
) -> None:
    sent = send_failing(server, Signature("bad"))
    runs = parts.receive()
    for at in order:
        end(parts, [runs[at]])
    assert callbacks(server, "mourn") == [["no good", "late"]]
    assert callbacks(server, "total") == []
    record = record_of(server, sent.uuid)
    assert record is not None
    assert record.error == f"the member bad {sent.members[1].uuid} of its group failed: no good"
    with pytest.raises(TaskFailed, match="no good") as caught:
        sent.get(timeout=1)
    assert caught.value.uuid == sent.members[1].uuid


def test_members_that_fail_at_once_are_mourned_once(parts: Parts, server: Server) -> None:
    send_failing(server, Signature("bad", ["one"]), Signature("bad", ["other"]))
    end(parts, parts.receive())
    assert callbacks(server, "mourn") == [["one", "late"]]
    assert open_groups(server) == []


def test_a_rejected_member_has_failed(parts: Parts, server: Server) -> None:
    send_failing(server, Signature("rejected"))
    end(parts, parts.receive())
    assert callbacks(server, "mourn") == [["never", "late"]]
    assert len(server.dead_tasks()) == 1


def test_the_other_members_are_left_to_finish(parts: Parts, server: Server) -> None:
    sent = send_failing(server, Signature("bad"))
    runs = parts.receive()
    end(parts, [runs[1]])
    end(parts, [runs[0], runs[2]])
    assert [member.touch() for member in (sent.members[0], sent.members[2])] == [1, 3]


def test_the_group_stays_while_members_of_a_failed_chord_run(
    parts: Parts, server: Server, backend: JoiningBackend
) -> None:
    """When it went after the failure, those that end later would not know that it has been mourned."""
    sent = send_failing(server, Signature("bad"))
    runs = parts.receive()
    end(parts, [runs[1]])
    for run in (runs[0], runs[2]):
        backend.clock.advance(2 * server.config.results_expire_in)
        end(parts, [run])
    assert callbacks(server, "mourn") == [["no good", "late"]]
    assert [member.touch() for member in (sent.members[0], sent.members[2])] == [1, 3]


def test_a_failure_whose_worker_died_before_it_was_told_is_told_by_the_next(
    parts: Parts, server: Server, broker: ObservedBroker, journal: Journal
) -> None:
    send_failing(server, Signature("bad"))
    runs = parts.receive()
    journal.fail("submit", SystemExit("the worker dies"))
    with pytest.raises(SystemExit):
        end(parts, [runs[1]])
    assert callbacks(server, "mourn") == []
    end_again(parts, broker)
    assert callbacks(server, "mourn") == [["no good", "late"]]


def test_a_failure_that_is_found_in_the_records_counts_too(
    parts: Parts, server: Server, backend: JoiningBackend
) -> None:
    sent = send_failing(server, Signature("bad"))
    runs = parts.receive()
    backend.save([TaskState(sent.members[1].uuid, "bad", State.FAILURE, None, "Go saw it break")])
    backend.finish_members([(sent.members.group_uuid, sent.members[1].uuid)])
    end(parts, [runs[0], runs[2]])
    assert callbacks(server, "mourn") == [["Go saw it break", "late"]]


# -- what is gone -------------------------------------------------------------------------------------------------------


def test_a_chord_whose_members_record_is_gone_has_failed(parts: Parts, server: Server, backend: JoiningBackend) -> None:
    sent = send_failing(server)
    runs = parts.receive()
    end(parts, runs[:1])
    backend.forget([sent.members[0].uuid])
    end(parts, runs[1:])
    ((error, _),) = callbacks(server, "mourn")
    assert error == (
        f"the record of the member {sent.members[0].uuid} of its group is gone: it has expired, or was evicted, deleted or spoilt"
    )
    with pytest.raises(TaskFailed, match="is gone"):
        sent.get(timeout=1)


def test_a_chord_that_has_ended_does_not_fail_when_its_records_are_gone(
    parts: Parts, server: Server, broker: ObservedBroker, backend: JoiningBackend, journal: Journal
) -> None:
    """The one that ended it died before its message was acknowledged, and comes again when the others are forgotten."""
    sent = send_failing(server)
    first, last = parts.receive()
    end(parts, [first])
    journal.fail("ack", SystemExit("the worker dies"))
    with pytest.raises(SystemExit):
        end(parts, [last])
    backend.save([TaskState(sent.uuid, "total", State.SUCCESS, ())])
    backend.forget([sent.members[0].uuid])
    end_again(parts, broker)
    assert callbacks(server, "mourn") == []
    assert sent.get(timeout=1) is None


def lose_group(backend: JoiningBackend, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: object) -> None:
        raise error

    for method in ("load_group", "claim_chord"):
        monkeypatch.setattr(backend.inner, method, fail)
    monkeypatch.setattr(backend.inner, "finish_members", lambda pairs: [0] * len(pairs))


@pytest.mark.parametrize("error", [GroupNotFound("there is no group"), DecodeError("not JSON")], ids=["gone", "spoilt"])
@pytest.mark.parametrize("batch", [1, 3])
def test_a_chord_whose_group_is_gone_has_failed_once(
    parts: Parts, server: Server, backend: JoiningBackend, monkeypatch: pytest.MonkeyPatch, batch: int, error: Exception
) -> None:
    sent = send_failing(server, Signature("bad"))
    runs = parts.receive()
    lose_group(backend, monkeypatch, error)
    for at in range(0, 3, batch):
        end(parts, runs[at : at + batch])
    ((why, _),) = callbacks(server, "mourn")
    assert str(error) in str(why)
    record = record_of(server, sent.uuid)
    assert record is not None
    assert f"its group cannot be joined, as {sent.members[0].uuid} found" in record.error
    assert server.dead_tasks() == []


def test_a_replayed_member_says_nothing_of_a_group_that_is_gone(
    parts: Parts, server: Server, broker: ObservedBroker, backend: JoiningBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its chord may have ended long ago."""
    sent = send_failing(server)
    parts.receive()
    for member in sent.members:
        backend.save([TaskState(member.uuid, "good", State.SUCCESS, ())])
    lose_group(backend, monkeypatch, GroupNotFound("there is no group"))
    end_again(parts, broker)
    assert server.pending_tasks() == []
    assert record_of(server, sent.uuid) is None


def test_a_member_whose_record_was_stored_and_the_answer_lost_says_that_the_group_is_gone(
    parts: Parts, server: Server, backend: JoiningBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ran here just now: nobody else is to end its chord."""
    sent = send_failing(server)
    runs = parts.receive()
    succeed(sent, 0)
    backend.save([TaskState(sent.members[1].uuid, "good", State.SUCCESS, (TaskResult("int64", 3),))])
    lose_group(backend, monkeypatch, GroupNotFound("there is no group"))
    end(parts, runs)
    assert callbacks(server, "mourn") == [["there is no group", "late"]]
    record = record_of(server, sent.uuid)
    assert record is not None
    assert record.is_failure


def test_who_said_that_the_group_is_gone_and_died_sends_what_follows(
    parts: Parts, server: Server, broker: ObservedBroker, backend: JoiningBackend, journal: Journal,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    send_failing(server)
    runs = parts.receive()
    lose_group(backend, monkeypatch, GroupNotFound("there is no group"))
    journal.fail("submit", SystemExit("the worker dies"))
    with pytest.raises(SystemExit):
        end(parts, runs[:1])
    end_again(parts, broker)
    assert callbacks(server, "mourn") == [["there is no group", "late"]]
