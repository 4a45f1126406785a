"""The reviver among services that fail it, and how often it looks."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

import pytest

from machinery import ChordResult, Config, Server, State, TaskState, group
from machinery._worker import _reviver
from machinery.errors import (
    BackendUnavailable,
    BrokerUnavailable,
    DecodeError,
    MessageTooLarge,
    PublishError,
)
from machinery.memory import MemoryLock, MemoryLocks
from tests.core.joining import (
    GOOD,
    JoiningBackend,
    add_tasks,
    callbacks,
    look,
    open_groups,
    record_of,
    send,
    succeed,
)
from tests.core.observed import Journal, ObservedBroker
from tests.core.worker_parts import Parts
from tests.interop.eventually import eventually


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


# -- what goes wrong ----------------------------------------------------------------------------------------------------


def test_a_callback_that_is_refused_for_good_has_failed_and_is_mourned(
    parts: Parts, server: Server, sent: ChordResult[object], journal: Journal
) -> None:
    succeed(sent, 0, 1, 2)
    journal.fail("publish", PublishError("too large", {0: MessageTooLarge("9 MB")}))
    look(parts)
    assert callbacks(server, "mourn") == [["could not be sent: too large", "late"]]
    record = record_of(server, sent.uuid)
    assert record is not None
    assert record.is_failure
    assert open_groups(server) == []


@pytest.mark.parametrize(
    "error", [BrokerUnavailable("away"), PublishError("busy", {0: BrokerUnavailable("busy")})], ids=["away", "busy"]
)
def test_a_callback_that_is_refused_for_now_is_sent_later(
    parts: Parts, server: Server, sent: ChordResult[object], journal: Journal, error: Exception
) -> None:
    succeed(sent, 0, 1, 2)
    journal.fail("publish", error)
    with pytest.raises(BrokerUnavailable):
        look(parts)
    look(parts)
    assert callbacks(server, "total") == [["sum", 1, 2, 3]]
    assert open_groups(server) == []


@pytest.mark.parametrize("spoilt", ["load_group", "claim_chord", "record"])
def test_a_chord_that_cannot_be_read_does_not_hold_up_the_others(
    parts: Parts,
    server: Server,
    broker: ObservedBroker,
    backend: JoiningBackend,
    monkeypatch: pytest.MonkeyPatch,
    spoilt: str,
) -> None:
    first, second = send(server, broker), send(server, broker)
    look(parts)
    for sent in (first, second):
        succeed(sent, 0, 1, 2)
    method, name = ("load", first.members[0].uuid) if spoilt == "record" else (spoilt, first.members.group_uuid)
    original = getattr(backend.inner, method)

    def fail_for_the_first(wanted: str | list[str], *rest: object) -> object:
        if name in wanted:
            raise DecodeError("not JSON")
        return original(wanted, *rest)

    monkeypatch.setattr(backend.inner, method, fail_for_the_first)
    parts.joiner.verdicts.forget(first.members.group_uuid)
    look(parts)
    assert callbacks(server, "total") == [["sum", 1, 2, 3]]


def test_a_chord_that_makes_trouble_does_not_hold_up_the_others(
    parts: Parts, server: Server, broker: ObservedBroker, journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    for sent in (send(server, broker), send(server, broker)):
        succeed(sent, 0, 1, 2)
    journal.fail("claim", RuntimeError("a defect"))
    with caplog.at_level(logging.ERROR):
        look(parts)
    assert len(callbacks(server, "total")) == 1
    assert "cannot be looked after" in caplog.text
    look(parts)
    assert len(callbacks(server, "total")) == 2


def test_a_broker_that_is_away_ends_the_look(
    parts: Parts, server: Server, broker: ObservedBroker, journal: Journal
) -> None:
    for sent in (send(server, broker), send(server, broker)):
        succeed(sent, 0, 1, 2)
    journal.fail("publish", BrokerUnavailable("away"))
    with pytest.raises(BrokerUnavailable):
        look(parts)
    assert server.pending_tasks() == []
    look(parts)
    assert len(server.pending_tasks()) == 2


# -- when it looks ------------------------------------------------------------------------------------------------------


def test_it_looks_ever_less_often_at_the_same_chord(
    parts: Parts, sent: ChordResult[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    parts.reviver.look()
    (patient,) = parts.reviver._patients.values()
    pauses = []
    for _ in range(10):
        pauses.append(patient.pause)
        patient.due = 0.0
        parts.reviver.look()
    assert pauses == [4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 300.0, 300.0, 300.0]


def test_chords_whose_members_still_run_cost_one_read_for_all_of_them(
    parts: Parts, server: Server, broker: ObservedBroker, journal: Journal
) -> None:
    chords = [send(server, broker) for _ in range(5)]
    for sent in chords:
        succeed(sent, 0)
    look(parts)
    journal.entries.clear()
    look(parts)
    assert journal.of("load_group") == []
    assert sorted(journal.of("load")) == sorted(f"load {sent.members[1].uuid}" for sent in chords)


def test_what_is_listed_and_has_no_callback_is_left_alone(
    parts: Parts, server: Server, backend: JoiningBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = server.send_group(group(GOOD))
    backend.save([TaskState(member.uuid, "good", State.SUCCESS, ()) for member in plain])
    monkeypatch.setattr(backend.inner, "open_groups", lambda *_: [plain.group_uuid])
    look(parts)
    assert len(server.pending_tasks()) == len(GOOD)


def test_it_stops_between_two_chords(parts: Parts, server: Server, broker: ObservedBroker, journal: Journal) -> None:
    for sent in (send(server, broker), send(server, broker)):
        succeed(sent, 0, 1, 2)
    journal.pause("close", parts.reviver.stop)
    look(parts)
    assert len(server.pending_tasks()) == 1


# -- its thread ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def looking(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> Iterator[Parts]:
    """`parts` with the reviver's thread."""
    monkeypatch.setattr(_reviver, "IDLE", 0.01)
    thread = threading.Thread(target=parts.reviver.run)
    thread.start()
    yield parts
    parts.reviver.stop()
    thread.join(10)
    assert not thread.is_alive()


def test_its_thread_ends_chords_until_it_is_stopped(looking: Parts, server: Server, sent: ChordResult[object]) -> None:
    succeed(sent, 0, 1, 2)
    backend = server.backend
    assert isinstance(backend, JoiningBackend)
    backend.clock.advance(1)
    eventually(server.pending_tasks)


def test_its_thread_outlives_services_that_are_away_and_defects(
    looking: Parts, server: Server, sent: ChordResult[object], backend: JoiningBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = [BackendUnavailable("away"), RuntimeError("a defect")]
    listed = backend.inner.open_groups

    def fail_first(idle_since: datetime, limit: int) -> list[str]:
        if errors:
            raise errors.pop()
        return listed(idle_since, limit)

    monkeypatch.setattr(backend.inner, "open_groups", fail_first)
    succeed(sent, 0, 1, 2)
    backend.clock.advance(1)
    eventually(server.pending_tasks)
    assert errors == []


def test_its_thread_ends_when_the_worker_gives_up(
    parts: Parts, sent: ChordResult[object], backend: JoiningBackend, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_reviver, "IDLE", 0.01)
    journal.be_away("load", BackendUnavailable("away"))
    backend.clock.advance(1)
    parts.patience.give_up()
    parts.reviver.run()
    assert journal.of("load?")


def test_it_has_nothing_to_do_where_chords_cannot_be_listed(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = parts.server.backend
    without = replace(backend.capabilities, lists_open_groups=False)
    monkeypatch.setattr(type(backend), "capabilities", property(lambda _: without))
    parts.reviver.run()
