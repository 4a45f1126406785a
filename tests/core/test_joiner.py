"""The joiner: who ends a group, when, and what that sets off."""

from __future__ import annotations

from uuid import NAMESPACE_OID, uuid5

import pytest

from machinery import Config, Server, Signature, State, TaskResult, TaskState, chord, group
from machinery._worker._run import Run
from machinery.abc import GroupMeta, StoredGroup
from tests.core.joining import (
    GOOD,
    TOTAL,
    JoiningBackend,
    add_tasks,
    callbacks,
    end,
    end_again,
    open_groups,
)
from tests.core.observed import Journal, ObservedBackend, ObservedBroker
from tests.core.worker_parts import Parts


@pytest.fixture
def backend(journal: Journal) -> JoiningBackend:
    return JoiningBackend(journal)


@pytest.fixture
def server(server: Server) -> Server:
    add_tasks(server)
    return server


# -- success ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)], ids=str)
def test_the_last_member_sends_the_callback_with_all_results_in_group_order(
    parts: Parts, server: Server, order: tuple[int, ...]
) -> None:
    server.send_chord(chord(GOOD, TOTAL))
    runs = parts.receive()
    for at in order[:-1]:
        end(parts, [runs[at]])
        assert callbacks(server, "total") == []
    end(parts, [runs[order[-1]]])
    assert callbacks(server, "total") == [["sum", 1, 2, 3]]
    assert open_groups(server) == []


def test_members_that_end_in_one_batch_are_counted_in_one_call_and_send_one_callback(
    parts: Parts, server: Server, journal: Journal
) -> None:
    server.send_chord(chord(GOOD, TOTAL))
    runs = parts.receive()
    journal.entries.clear()
    end(parts, runs)
    assert [entry for entry in journal.entries if not entry.startswith(("load task_", "load chord_"))] == [
        *["save SUCCESS good"] * 3,
        "finish 3",
        "load_group",
        "claim",
        "submit total",
        "publish total",
        "close",
        *["ack good"] * 3,
    ]


def test_members_that_are_not_the_last_ask_for_no_more_than_the_count(
    parts: Parts, server: Server, journal: Journal
) -> None:
    server.send_chord(chord(GOOD, TOTAL))
    runs = parts.receive()
    journal.entries.clear()
    end(parts, runs[:2])
    assert journal.entries == [*["save SUCCESS good"] * 2, "finish 2", *["ack good"] * 2]


def test_a_member_that_is_to_be_retried_has_not_ended(parts: Parts, server: Server, journal: Journal) -> None:
    server.send_chord(chord([Signature("shaky", retry_count=1), GOOD[0]], TOTAL))
    end(parts, parts.receive())
    assert journal.of("finish") == ["finish 1"]
    assert callbacks(server, "total") == []


def test_chords_that_end_in_one_batch_are_all_joined(parts: Parts, server: Server) -> None:
    for number in (1, 2):
        server.send_chord(chord(GOOD[:number], TOTAL))
    end(parts, parts.receive())
    assert sorted(callbacks(server, "total"), key=len) == [["sum", 1], ["sum", 1, 2]]


def test_an_immutable_callback_gets_no_results(parts: Parts, server: Server) -> None:
    server.send_chord(chord(GOOD, Signature("total", ["sum"], immutable=True)))
    end(parts, parts.receive())
    assert callbacks(server, "total") == [["sum"]]


def test_a_plain_group_is_closed_by_its_last_member_and_sets_nothing_off(
    parts: Parts, server: Server, journal: Journal
) -> None:
    server.send_group(group(GOOD))
    runs = parts.receive()
    end(parts, runs[:2])
    assert journal.of("close") == []
    end(parts, runs[2:])
    assert journal.of("close") == ["close"]
    assert server.pending_tasks() == []


# -- when counts cannot be trusted --------------------------------------------------------------------------------------


def finished_by_go(backend: ObservedBackend, parts: Parts, run: Run) -> None:
    """Its record is saved, and nothing else happens."""
    (value,) = [arg.value for arg in run.signature.args]
    backend.save([TaskState(run.signature.uuid, "good", State.SUCCESS, (TaskResult("int64", value),))])
    parts.consumer.ack([run.delivery])
    parts.fetcher.forget(run)


def test_in_a_mixed_fleet_the_last_member_sees_that_the_others_ended_elsewhere(
    broker: ObservedBroker, backend: JoiningBackend, server: Server
) -> None:
    mixed = Server(Config(mixed_fleet=True), broker, backend)
    mixed.registry = server.registry
    parts = Parts(mixed)
    mixed.send_chord(chord(GOOD, TOTAL))
    runs = parts.receive()
    finished_by_go(backend, parts, runs[0])
    end(parts, [runs[2]])
    assert callbacks(mixed, "total") == []
    finished_by_go(backend, parts, runs[1])
    assert callbacks(mixed, "total") == []  # who knows
    parts.stop()

    mixed.send_chord(chord(GOOD, TOTAL))
    runs = parts.receive()
    for run in runs[:2]:
        finished_by_go(backend, parts, run)
    end(parts, runs[2:])
    assert callbacks(mixed, "total") == [["sum", 1, 2, 3]]


def test_a_group_without_a_count_is_joined_by_its_records(
    parts: Parts, server: Server, backend: JoiningBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend.inner, "finish_members", lambda pairs: [0] * len(pairs))
    server.send_chord(chord(GOOD, TOTAL))
    runs = parts.receive()
    end(parts, runs[:2])
    assert callbacks(server, "total") == []
    end(parts, runs[2:])
    assert callbacks(server, "total") == [["sum", 1, 2, 3]]


def test_a_count_that_says_too_much_is_not_believed(
    parts: Parts, server: Server, backend: JoiningBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend.inner, "finish_members", lambda pairs: [99] * len(pairs))
    server.send_chord(chord(GOOD, TOTAL))
    runs = parts.receive()
    end(parts, runs[:2])
    assert callbacks(server, "total") == []
    end(parts, runs[2:])
    assert callbacks(server, "total") == [["sum", 1, 2, 3]]


def test_a_group_of_which_the_store_knows_only_some_members_has_not_ended(
    parts: Parts, server: Server, backend: JoiningBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So it is with one that Go has made in RabbitMQ: a member becomes known when it ends."""
    server.send_chord(chord(GOOD, TOTAL))
    runs = parts.receive()
    known: list[str] = []
    monkeypatch.setattr(backend.inner, "finish_members", lambda pairs: [0] * len(pairs))
    monkeypatch.setattr(
        backend.inner,
        "load_group",
        lambda group_uuid: StoredGroup(GroupMeta(group_uuid, tuple(known)), made_by_go=True),
    )
    for run in runs[:2]:
        known.append(run.signature.uuid)
        end(parts, [run])
        assert callbacks(server, "total") == []
    known.append(runs[2].signature.uuid)
    end(parts, runs[2:])
    assert callbacks(server, "total") == [["sum", 1, 2, 3]]


def test_a_callback_without_an_id_has_the_same_one_whoever_sends_it(parts: Parts, server: Server) -> None:
    """Such a message may come from anywhere."""
    server.backend.create_group(GroupMeta("group_x", ("task_x",)), TOTAL)
    server.send_task(
        Signature("good", [1], uuid="task_x", group_uuid="group_x", group_task_count=1, chord_callback=TOTAL)
    )
    end(parts, parts.receive())
    (callback,) = server.pending_tasks()
    assert callback.uuid == f"chord_{uuid5(NAMESPACE_OID, 'group_x/chord/0')}"


# -- deaths -------------------------------------------------------------------------------------------------------------


def test_who_claimed_a_chord_and_died_claims_it_again(
    parts: Parts, server: Server, broker: ObservedBroker, backend: JoiningBackend
) -> None:
    sent = server.send_chord(chord(GOOD, TOTAL))
    runs = parts.receive()
    end(parts, runs[:2])
    parts.executor.run_here(runs[2])
    backend.save([TaskState(sent.members[2].uuid, "good", State.SUCCESS, runs[2].results)])
    assert backend.claim_chord(sent.members.group_uuid, sent.members[2].uuid)

    end_again(parts, broker)
    assert callbacks(server, "total") == [["sum", 1, 2, 3]]


def test_what_another_member_claimed_is_left_to_it(parts: Parts, server: Server, backend: JoiningBackend) -> None:
    sent = server.send_chord(chord(GOOD, TOTAL))
    assert backend.claim_chord(sent.members.group_uuid, "somebody")
    end(parts, parts.receive())
    assert callbacks(server, "total") == []
    assert open_groups(server) == [sent.members.group_uuid]  # it has not said that it was sent


def test_of_members_that_came_before_any_may_be_the_one_that_claimed(
    parts: Parts, server: Server, broker: ObservedBroker, backend: JoiningBackend
) -> None:
    sent = server.send_chord(chord(GOOD, TOTAL))
    parts.receive()
    backend.save([TaskState(sent.members[1].uuid, "good", State.SUCCESS, (TaskResult("int64", 2),))])
    assert backend.claim_chord(sent.members.group_uuid, sent.members[1].uuid)
    end_again(parts, broker)
    assert callbacks(server, "total") == [["sum", 1, 2, 3]]


def test_a_callback_that_was_sent_is_not_sent_by_the_replay(
    parts: Parts, server: Server, broker: ObservedBroker, journal: Journal
) -> None:
    sent = server.send_chord(chord(GOOD, TOTAL))
    runs = parts.receive()
    journal.fail("ack", SystemExit("the worker dies"))
    with pytest.raises(SystemExit):
        end(parts, runs)
    server.backend.save([TaskState(sent.uuid, "total", State.RECEIVED)])
    assert len(end_again(parts, broker)) == 4  # with the callback itself
    assert len(journal.of("publish")) == 3 + 1


def test_what_was_joined_is_not_joined_again_when_its_message_could_not_be_acknowledged(
    parts: Parts, server: Server, journal: Journal
) -> None:
    server.send_chord(chord(GOOD, TOTAL))
    runs = parts.receive()
    journal.fail("ack", RuntimeError("a defect"))
    with pytest.raises(RuntimeError):
        end(parts, runs)
    for run in runs:
        parts.settler.settle([run])
    assert journal.of("finish") == ["finish 3"]
    assert callbacks(server, "total") == [["sum", 1, 2, 3]]
    assert journal.of("ack") == ["ack good"] * 3


def test_a_member_that_died_after_its_record_was_saved_is_counted_by_the_next(
    parts: Parts, server: Server, broker: ObservedBroker, backend: JoiningBackend
) -> None:
    sent = server.send_chord(chord(GOOD, TOTAL))
    runs = parts.receive()
    end(parts, runs[:2])
    backend.save([TaskState(sent.members[2].uuid, "good", State.SUCCESS, (TaskResult("int64", 3),))])
    end_again(parts, broker)
    assert callbacks(server, "total") == [["sum", 1, 2, 3]]
