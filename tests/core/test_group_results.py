"""What a client sees of a group and of a chord."""

from __future__ import annotations

import asyncio
import time

import pytest

from machinery import (
    ChordResult,
    GroupResult,
    ResultTimeout,
    Server,
    Signature,
    State,
    TaskFailed,
    TaskResult,
    TaskState,
    _group_results,
)
from machinery import chord as make_chord
from machinery import group as make_group
from machinery.errors import StateNotFound
from machinery.testing._expectations import eventually, in_background
from tests.core.observed import Journal, ObservedBackend


@pytest.fixture
def group(server: Server) -> GroupResult:
    """Of three tasks, none of which has run."""
    return server.send_group(make_group(Signature("a"), Signature("b"), Signature("a")))


@pytest.fixture
def chord(server: Server) -> ChordResult[object]:
    """Of three members, none of which has run."""
    return server.send_chord(make_chord([Signature("a"), Signature("b"), Signature("a")], Signature("c")))


def succeed(backend: ObservedBackend, uuid: str, *values: int) -> None:
    backend.save([TaskState(uuid, "", State.SUCCESS, tuple(TaskResult("int64", value) for value in values))])


def fail(backend: ObservedBackend, uuid: str, error: str = "it broke") -> None:
    backend.save([TaskState(uuid, "", State.FAILURE, None, error)])


# -- groups -------------------------------------------------------------------------------------------------------------


def test_a_group_result_is_a_sequence_of_results_in_group_order(group: GroupResult, server: Server) -> None:
    assert len(group) == 3
    assert [result.uuid for result in group] == [task.uuid for task in server.pending_tasks()]
    assert group[1].signature is not None
    assert group[1].signature.name == "b"
    assert group[-1] is group[2]
    assert group[1:] == (group[1], group[2])
    assert repr(group) == f"<GroupResult {group.group_uuid} of 3>"


def test_its_values_are_in_group_order_whoever_ended_first(group: GroupResult, backend: ObservedBackend) -> None:
    succeed(backend, group[2].uuid, 3, 33)
    succeed(backend, group[0].uuid)
    assert group.touch() is None
    succeed(backend, group[1].uuid, 2)
    assert group.touch() == [None, 2, (3, 33)]
    assert group.get(timeout=0) == [None, 2, (3, 33)]
    assert group.get() == [None, 2, (3, 33)]
    assert asyncio.run(group.aget(timeout=0)) == [None, 2, (3, 33)]
    assert asyncio.run(group.atouch()) == [None, 2, (3, 33)]


def test_waiting_ends_with_the_last_member(group: GroupResult, backend: ObservedBackend) -> None:
    with in_background(lambda: group.get(timeout=10)) as waited:
        for at, result in enumerate(group):
            succeed(backend, result.uuid, at)
        assert waited() == [0, 1, 2]


def test_a_failed_member_is_raised_at_once_though_others_run(group: GroupResult, backend: ObservedBackend) -> None:
    fail(backend, group[2].uuid, "no good")
    for look in (group.touch, group.get, lambda: group.get(timeout=5)):
        with pytest.raises(TaskFailed, match="no good") as caught:
            look()
        assert caught.value.uuid == group[2].uuid


def test_a_member_that_fails_while_it_is_waited_for_ends_the_waiting(
    group: GroupResult, backend: ObservedBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_group_results, "FIRST_LOOK", 0.05)
    with pytest.raises(TaskFailed), in_background(lambda: group.get(timeout=30)):
        fail(backend, group[1].uuid)


def test_waiting_for_a_group_ends_with_the_timeout(group: GroupResult) -> None:
    began = time.monotonic()
    with pytest.raises(ResultTimeout, match=r"no result of 3 tasks \(.*\) within 0.1 s"):
        group.get(timeout=0.1)
    assert 0.1 <= time.monotonic() - began < 15


def test_a_lost_member_of_a_group_is_not_waited_for(group: GroupResult, backend: ObservedBackend) -> None:
    backend.forget([group[1].uuid])
    for look in (group.touch, group.get, lambda: group.get(timeout=0.05)):
        with pytest.raises(StateNotFound, match=group[1].uuid):
            look()


# -- chords -------------------------------------------------------------------------------------------------------------


def test_a_chord_result_is_the_callbacks(chord: ChordResult[object], backend: ObservedBackend) -> None:
    assert repr(chord) == f"<ChordResult {chord.uuid} of 3>"
    assert chord.touch() is None
    succeed(backend, chord.uuid, 7)
    assert chord.touch() == 7
    assert chord.get(timeout=0) == 7
    assert asyncio.run(chord.aget(timeout=0)) == 7
    assert asyncio.run(chord.atouch()) == 7


def test_a_failed_callback_is_raised(chord: ChordResult[object], backend: ObservedBackend) -> None:
    for member in chord.members:
        succeed(backend, member.uuid)
    fail(backend, chord.uuid, "the end was bad")
    for look in (chord.touch, lambda: chord.get(timeout=5)):
        with pytest.raises(TaskFailed, match="the end was bad") as caught:
            look()
        assert caught.value.uuid == chord.uuid


def test_a_failed_member_is_raised_by_its_own_name(chord: ChordResult[object], backend: ObservedBackend) -> None:
    fail(backend, chord.members[1].uuid, "no good")
    fail(backend, chord.uuid, "the member b of its group failed")
    for look in (chord.touch, chord.get, lambda: chord.get(timeout=5)):
        with pytest.raises(TaskFailed, match="no good") as caught:
            look()
        assert (caught.value.uuid, caught.value.name) == (chord.members[1].uuid, "b")


def test_a_member_that_failed_on_a_worker_of_gos_is_raised_too(
    chord: ChordResult[object], backend: ObservedBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those write nothing into the callback's record."""
    monkeypatch.setattr(_group_results, "FIRST_LOOK", 0.05)
    with pytest.raises(TaskFailed, match="no good"), in_background(lambda: chord.get(timeout=30)):
        fail(backend, chord.members[2].uuid, "no good")
    with pytest.raises(TaskFailed, match="no good"):
        chord.touch()


def test_looking_for_failed_members_costs_ever_less(
    chord: ChordResult[object], backend: ObservedBackend, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looks come ever less often, and only at those that had not ended."""
    monkeypatch.setattr(_group_results, "FIRST_LOOK", 0.05)
    succeed(backend, chord.members[0].uuid)
    with pytest.raises(ResultTimeout):
        chord.get(timeout=1)
    looks = [journal.entries.count(f"load {member.uuid}") for member in chord.members]
    assert looks[0] == 1
    assert looks[1] == looks[2] <= 6  # after 0.05 s, 0.1 s, 0.2 s …


def test_a_callback_that_runs_is_waited_for_whatever_becomes_of_the_members_records(
    chord: ChordResult[object], backend: ObservedBackend
) -> None:
    backend.save([TaskState(chord.uuid, "c", State.STARTED)])
    backend.forget([member.uuid for member in chord.members])
    with pytest.raises(ResultTimeout):
        chord.get(timeout=0.05)


def test_a_chord_that_lost_a_member_is_not_waited_for(chord: ChordResult[object], backend: ObservedBackend) -> None:
    backend.forget([chord.members[1].uuid])
    for look in (chord.touch, lambda: chord.get(timeout=0.05)):
        with pytest.raises(StateNotFound, match=chord.members[1].uuid):
            look()


def test_a_callback_whose_record_came_while_the_members_went_is_waited_for(
    chord: ChordResult[object], backend: ObservedBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was looked for before the members were."""
    backend.forget([member.uuid for member in chord.members])
    backend.save([TaskState(chord.uuid, "c", State.STARTED)])
    monkeypatch.setattr(backend.inner, "wait", lambda ids, *_: [None] * len(ids))
    with pytest.raises(ResultTimeout):
        chord.get(timeout=0.05)


def test_waiting_for_a_chord_ends_with_the_timeout(chord: ChordResult[object]) -> None:
    with pytest.raises(ResultTimeout, match=f"no result of {chord.uuid} within 0.1 s"):
        chord.get(timeout=0.1)


@pytest.mark.parametrize("seconds", [-1, "1", float("nan")])
def test_a_timeout_that_is_none_is_refused(group: GroupResult, chord: ChordResult[object], seconds: float) -> None:
    for get in (group.get, chord.get):
        with pytest.raises(ValueError, match="timeout is"):
            get(timeout=seconds)
        with pytest.raises(ValueError, match="interval is"):
            get(timeout=1, interval=seconds)


def test_waiting_for_a_chord_ends_when_its_records_go_before_anybody_ended_it(
    chord: ChordResult[object], backend: ObservedBackend, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_group_results, "FIRST_LOOK", 0.05)
    for member in chord.members:
        succeed(backend, member.uuid, 1)
    with in_background(lambda: _gone_while_waiting(chord)) as is_gone:
        eventually(lambda: len(journal.of("load")) >= len(chord.members))  # all are seen to have ended
        backend.forget([member.uuid for member in chord.members])
        assert is_gone()


def _gone_while_waiting(chord: ChordResult[object]) -> bool:
    try:
        chord.get()
    except StateNotFound:
        return True
    return False
