"""Groups and chords: Go's metadata and mutex, counts that cost the same in any group, one claimant."""

from __future__ import annotations

import json
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from machinery.abc import Config, GroupMeta, Signature, State, TaskState
from machinery.errors import GroupNotFound
from machinery.testing._expectations import eventually
from machinery.wire import encode_group, encode_signature
from machinery_broker_redis import RedisBackend

CREATED = datetime(2024, 3, 1, 12, 30, 45, tzinfo=UTC)
CALLBACK = Signature("sum", [1], uuid="chord_1", headers={"a": "b"})


def group(*members: str, uuid: str = "group_1") -> GroupMeta:
    return GroupMeta(uuid, members or ("u1", "u2", "u3"), created_at=CREATED)


def now_and(**span: float) -> datetime:
    return datetime.now(UTC) + timedelta(**span)


def test_the_metadata_is_gos_and_the_callback_lies_beside_it(backend: RedisBackend, raw: Any) -> None:
    backend.create_group(group(), CALLBACK)

    assert raw.get("group_1").encode() == encode_group(group())
    assert raw.hget("{group_1}:machinery:group", "callback").encode() == encode_signature(CALLBACK)
    found = backend.load_group("group_1")
    assert (found.meta, found.callback, found.made_by_go) == (group(), CALLBACK, False)


def test_a_group_without_a_callback_is_still_ours(backend: RedisBackend) -> None:
    backend.create_group(group())

    found = backend.load_group("group_1")
    assert found.callback is None
    assert not found.made_by_go
    assert backend.open_groups(now_and(minutes=1), 9) == []


def test_gos_groups_are_known_for_gos(backend: RedisBackend, raw: Any) -> None:
    raw.set("group_1", encode_group(group()))

    assert backend.load_group("group_1").made_by_go
    assert backend.finish_members([("group_1", "u1")]) == [0]
    assert backend.claim_chord("group_1", "u1")
    assert backend.load_group("group_1").made_by_go


def test_a_group_that_is_not_there_is_an_error(backend: RedisBackend) -> None:
    with pytest.raises(GroupNotFound):
        backend.load_group("never")
    with pytest.raises(GroupNotFound):
        backend.claim_chord("never", "u1")
    assert backend.finish_members([("never", "u1")]) == [0]
    backend.close_group("never")


def test_members_are_counted_once_each(backend: RedisBackend) -> None:
    backend.create_group(group(), CALLBACK)
    backend.create_group(group("a", uuid="group_2"), CALLBACK)

    counts = backend.finish_members(
        [("group_1", "u1"), ("group_2", "a"), ("group_1", "u2"), ("never", "x"), ("group_1", "u1")]
    )

    assert counts == [1, 1, 2, 0, 2]
    assert backend.finish_members([("group_1", "u3")]) == [3]
    assert backend.finish_members([]) == []


def test_creating_a_group_again_starts_it_afresh(backend: RedisBackend) -> None:
    backend.create_group(group(), CALLBACK)
    backend.finish_members([("group_1", "u1")])
    backend.claim_chord("group_1", "u1")
    backend.close_group("group_1")

    backend.create_group(group(), CALLBACK)

    assert backend.finish_members([("group_1", "u2")]) == [1]
    assert backend.claim_chord("group_1", "u2")
    assert backend.open_groups(now_and(minutes=1), 9) == ["group_1"]


def test_ten_thousand_members_cost_no_more_each(backend: RedisBackend) -> None:
    members = tuple(f"u{number}" for number in range(10_000))
    began = time.monotonic()

    backend.create_group(group(*members), CALLBACK)
    counts: list[int] = []
    for start in range(0, 10_000, 100):
        counts = backend.finish_members([("group_1", uuid) for uuid in members[start : start + 100]])

    assert counts[-1] == 10_000
    assert backend.load_group("group_1").meta.task_uuids == members
    backend.close_group("group_1")
    assert time.monotonic() - began < 30


# -- claiming ----------------------------------------------------------------------------------------------------------


def test_one_member_claims_the_chord_and_may_ask_again(backend: RedisBackend, raw: Any) -> None:
    backend.create_group(group(), CALLBACK)

    assert backend.claim_chord("group_1", "u2")
    assert not backend.claim_chord("group_1", "u1")
    assert backend.claim_chord("group_1", "u2")
    assert raw.get("group_1").encode() == encode_group(group()).replace(b"false", b"true", 1)
    assert raw.pttl("group_1") > 600_000_000


def test_one_of_many_claims(backend: RedisBackend) -> None:
    backend.create_group(group(), CALLBACK)
    answers: list[bool] = []
    claimants = [
        threading.Thread(target=lambda number=number: answers.append(backend.claim_chord("group_1", f"u{number}")))
        for number in range(16)
    ]
    for claimant in claimants:
        claimant.start()
    for claimant in claimants:
        claimant.join()

    assert sorted(answers) == [False] * 15 + [True]


def test_what_go_triggered_is_not_claimed(backend: RedisBackend, raw: Any) -> None:
    raw.set("group_1", encode_group(group()).replace(b'"ChordTriggered":false', b'"ChordTriggered":true'))

    assert not backend.claim_chord("group_1", "u1")


def test_the_mutex_of_gos_workers_is_waited_for(backend: RedisBackend, raw: Any, later: Any) -> None:
    backend.create_group(group(), CALLBACK)
    raw.set("TriggerChordMutex", "a Go worker's", nx=True, px=60_000)  # for longer than it is waited for
    began = time.monotonic()
    later(0.3, raw.delete, "TriggerChordMutex")

    assert backend.claim_chord("group_1", "u1")

    assert time.monotonic() - began >= 0.3


@pytest.mark.parametrize(("triggered", "claimed"), [(False, True), (True, False)], ids=["not triggered", "triggered"])
def test_metadata_that_others_formatted_is_understood(
    backend: RedisBackend, raw: Any, triggered: bool, claimed: bool
) -> None:
    raw.set("group_1", json.dumps({"TaskUUIDs": ["u1"], "chordTriggered": triggered, "GroupUUID": "group_1"}, indent=1))

    assert backend.claim_chord("group_1", "u1") is claimed

    assert backend.load_group("group_1").meta.chord_triggered
    assert backend.claim_chord("group_1", "u1") is claimed
    assert not backend.claim_chord("group_1", "u2")


# -- time --------------------------------------------------------------------------------------------------------------


def test_open_groups_are_those_idle_since_then_longest_first(backend: RedisBackend) -> None:
    for number in (1, 2, 3):
        backend.create_group(group(uuid=f"group_{number}"), CALLBACK)
        time.sleep(0.02)
    before = datetime.now(UTC)
    time.sleep(0.05)
    backend.finish_members([("group_1", "u1")])

    # Again and again: it asks for those idle for a span, and that grows while Redis does not get to look.
    assert eventually(lambda: backend.open_groups(before, 9) == ["group_2", "group_3"])
    assert backend.open_groups(now_and(minutes=1), 9) == ["group_2", "group_3", "group_1"]
    assert backend.open_groups(now_and(minutes=1), 1) == ["group_2"]
    assert backend.open_groups(now_and(minutes=-1), 9) == []
    backend.close_group("group_2")
    assert backend.open_groups(now_and(minutes=1), 9) == ["group_3", "group_1"]
    backend.finish_members([("group_2", "u1")])
    assert backend.open_groups(now_and(minutes=1), 9) == ["group_3", "group_1"]


def test_records_of_an_open_group_outlive_their_own_time(redis_database: str) -> None:
    backend = RedisBackend.from_url(redis_database, Config(results_expire_in=0.2, group_expire_in=60))
    backend.submit([TaskState("u1", "add", State.PENDING, created_at=CREATED)])
    backend.create_group(group("u1", "u2", "u3"), CALLBACK)
    assert backend.load(["u2"]) == [None]
    backend.submit([TaskState("u2", "add", State.PENDING, created_at=CREATED)])
    backend.save([TaskState("u1", "add", State.SUCCESS, ()), TaskState("u3", "add", State.STARTED)])
    time.sleep(0.4)

    states = [state and state.state for state in backend.load(["u1", "u2", "u3"])]
    assert states == [State.SUCCESS, State.PENDING, State.STARTED]
    backend.close_group("group_1")
    time.sleep(0.4)
    assert backend.load(["u1", "u2", "u3"]) == [None] * 3
    with pytest.raises(GroupNotFound):
        backend.load_group("group_1")
    backend.close()


def test_a_finishing_member_prolongs_the_group_and_all_its_records(redis_database: str, raw: Any) -> None:
    backend = RedisBackend.from_url(redis_database, Config(results_expire_in=60, group_expire_in=600))
    backend.create_group(group("u1", "u2", "u3"), CALLBACK)
    backend.submit([TaskState(uuid, "add", State.PENDING, created_at=CREATED) for uuid in ("u1", "u2", "u3")])
    for uuid in ("u1", "u2", "u3"):
        let_pass(raw, 400_000)
        backend.save([TaskState(uuid, "add", State.SUCCESS, ())])
        backend.finish_members([("group_1", uuid)])

    assert all(state is not None and state.is_success for state in backend.load(["u1", "u2", "u3"]))
    assert backend.load_group("group_1").callback == CALLBACK
    backend.close_group("group_1")
    backend.finish_members([("group_1", "u3")])
    assert {"group_1", "u1", "u2", "u3"} <= set(raw.keys())
    assert all(0 < raw.pttl(key) <= 60_000 for key in raw.scan_iter())
    backend.close()


def let_pass(raw: Any, milliseconds: int) -> None:
    """Make Redis believe that so much time has passed for what expires, and for the group."""
    for key in list(raw.scan_iter()):
        if (left := raw.pttl(key)) > 0:
            raw.pexpire(key, left - milliseconds)
    raw.hincrby("{group_1}:machinery:group", "renewed", -milliseconds)


def test_a_closed_group_leaves_nothing_for_ever(backend: RedisBackend, raw: Any) -> None:
    backend.create_group(group(), CALLBACK)
    backend.finish_members([("group_1", "u1")])
    backend.claim_chord("group_1", "u1")
    backend.close_group("group_1")
    backend.finish_members([("group_1", "u2")])

    assert all(0 < raw.pttl(key) <= 3_600_000 for key in raw.scan_iter())


def test_what_go_triggered_and_dropped_for_a_failure_is_claimed_once(backend: RedisBackend, raw: Any) -> None:
    # Given a Go worker that marked the group, then found that a member has failed, and told nobody
    marked = encode_group(group()).replace(b'"ChordTriggered":false', b'"ChordTriggered":true')
    raw.set("group_1", marked)
    backend.save([TaskState("u1", "add", State.FAILURE, None, "no")])
    # Then one of ours takes over
    assert backend.claim_chord("group_1", "u2")
    assert not backend.claim_chord("group_1", "u3")
    assert backend.claim_chord("group_1", "u2")
