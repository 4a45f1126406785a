"""Groups and chords: Go's metadata and flags, exact counts that cost the same in any group, one claimant."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from machinery.abc import GroupMeta, Signature, State, TaskState
from machinery.errors import DecodeError, GroupNotFound, GroupTooLarge
from machinery.testing._expectations import in_threads
from machinery.wire import encode_signature, encode_time
from machinery_backend_dynamodb import DynamodbBackend, _groups
from machinery_backend_dynamodb._groups import LARGEST_GROUP
from machinery_backend_dynamodb._items import LARGEST_ITEM
from machinery_backend_dynamodb._values import size_of
from tests.plugins.backend_dynamodb.conftest import Raw

CREATED = datetime(2024, 3, 1, 12, 30, 45, tzinfo=UTC)
CALLBACK = Signature("sum", [1], uuid="chord_1", headers={"a": "b"})
TALLY = "group_1/machinery/tally"
DAY = 24 * 3600


def group(*members: str, uuid: str = "group_1") -> GroupMeta:
    return GroupMeta(uuid, members or ("u1", "u2", "u3"), created_at=CREATED)


def put_gos(raw: Raw, **attributes: dict[str, Any]) -> None:
    """A group as Go makes it (protocol §6.3)."""
    gos: dict[str, dict[str, Any]] = {
        "TaskUUIDs": {"L": [{"S": "u1"}, {"S": "u2"}, {"S": "u3"}]},
        "ChordTriggered": {"BOOL": False},
        "Lock": {"BOOL": False},
        "CreatedAt": {"S": encode_time(CREATED)},
        "TTL": {"N": str(int(time.time()) + 3600)},
    }
    raw.put_group("group_1", **gos | attributes)


def lives_for(item: dict[str, Any] | None) -> float:
    assert item is not None
    return int(item["TTL"]["N"]) - time.time()


def test_the_metadata_is_gos_with_the_callback_in_an_attribute_of_ours(backend: DynamodbBackend, raw: Raw) -> None:
    backend.create_group(group(), CALLBACK)

    found = raw.group() or {}
    assert lives_for(found) > 7 * DAY
    del found["TTL"]
    assert found == {
        "GroupUUID": {"S": "group_1"},
        "TaskUUIDs": {"L": [{"S": "u1"}, {"S": "u2"}, {"S": "u3"}]},
        "ChordTriggered": {"BOOL": False},
        "Lock": {"BOOL": False},
        "CreatedAt": {"S": encode_time(CREATED)},
        "Callback": {"S": encode_signature(CALLBACK).decode()},
    }
    loaded = backend.load_group("group_1")
    assert (loaded.meta.task_uuids, loaded.callback, loaded.made_by_go) == (group().task_uuids, CALLBACK, False)


def test_a_group_without_a_callback_is_still_ours(backend: DynamodbBackend) -> None:
    backend.create_group(group())

    found = backend.load_group("group_1")
    assert found.callback is None
    assert not found.made_by_go


def test_gos_groups_are_known_for_gos(backend: DynamodbBackend, raw: Raw) -> None:
    put_gos(raw)

    assert backend.load_group("group_1").made_by_go
    assert backend.finish_members([("group_1", "u1")]) == [0]
    assert backend.claim_chord("group_1", "u1")
    found = backend.load_group("group_1")
    assert found.made_by_go
    assert found.meta.chord_triggered
    assert raw.group_keys() == ["group_1"]


def test_a_set_of_members_and_what_is_missing_are_understood(backend: DynamodbBackend, raw: Raw) -> None:
    raw.put_group(TaskUUIDs={"SS": ["u1"]})

    found = backend.load_group("group_1").meta

    assert (found.task_uuids, found.chord_triggered, found.lock, found.ttl) == (("u1",), False, False, 0)
    assert backend.claim_chord("group_1", "u1")


def test_a_group_that_cannot_be_read_is_a_decode_error(backend: DynamodbBackend, raw: Raw) -> None:
    raw.put_group(TaskUUIDs={"L": [{"N": "5"}]})

    with pytest.raises(DecodeError):
        backend.load_group("group_1")


def test_a_group_that_is_not_there_leaves_no_ghost(backend: DynamodbBackend, raw: Raw) -> None:
    with pytest.raises(GroupNotFound):
        backend.load_group("never")
    with pytest.raises(GroupNotFound):
        backend.claim_chord("never", "u1")
    assert backend.finish_members([("never", "u1")]) == [0]
    backend.close_group("never")

    assert raw.group_keys() == []


def test_a_group_that_is_over_is_not_there(backend: DynamodbBackend, raw: Raw) -> None:
    put_gos(raw, TTL={"N": str(int(time.time()) - 1)})

    with pytest.raises(GroupNotFound):
        backend.load_group("group_1")
    with pytest.raises(GroupNotFound):
        backend.claim_chord("group_1", "u1")


# -- counting ----------------------------------------------------------------------------------------------------------


def test_members_are_counted_once_each(backend: DynamodbBackend) -> None:
    backend.create_group(group(), CALLBACK)
    backend.create_group(group("a", uuid="group_2"), CALLBACK)

    counts = backend.finish_members(
        [("group_1", "u1"), ("group_2", "a"), ("group_1", "u2"), ("never", "x"), ("group_1", "u1")]
    )

    assert counts == [1, 1, 2, 0, 1]
    assert backend.finish_members([("group_1", "u2"), ("group_1", "u3"), ("group_1", "u1")]) == [2, 3, 3]
    assert backend.finish_members([]) == []


def test_a_count_whose_answer_was_lost_is_made_once(backend: DynamodbBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    backend.create_group(group(), CALLBACK)
    call = backend._client.call

    def lose_answer(operation: str, **parameters: Any) -> dict[str, Any]:
        answer = call(operation, **parameters)
        if operation == "transact_write_items":
            monkeypatch.undo()
            return call(operation, **parameters)  # as it is when a connection breaks: asked again
        return answer

    monkeypatch.setattr(backend._client, "call", lose_answer)

    assert backend.finish_members([("group_1", "u1"), ("group_1", "u2")]) == [2, 2]
    assert backend.finish_members([("group_1", "u3")]) == [3]


def test_processes_that_count_at_the_same_moment_count_all(
    backend: DynamodbBackend, make_backend: Callable[..., DynamodbBackend]
) -> None:
    members = tuple(f"u{number}" for number in range(24))
    backend.create_group(group(*members), CALLBACK)
    backends = [make_backend() for _ in range(6)]  # each with its own locks, as if in its own process

    counts = in_threads(6, lambda at: [backends[at].finish_members([("group_1", one)])[0] for one in members[at::6]])

    assert sorted(count for some in counts for count in some) == list(range(1, 25))


def test_creating_a_group_again_starts_it_afresh(backend: DynamodbBackend) -> None:
    backend.create_group(group(), CALLBACK)
    backend.finish_members([("group_1", "u1")])
    backend.claim_chord("group_1", "u1")
    backend.close_group("group_1")

    backend.create_group(group(), CALLBACK)

    assert backend.finish_members([("group_1", "u1"), ("group_1", "u2")]) == [1, 2]
    assert backend.claim_chord("group_1", "u2")


def test_a_joined_member_costs_the_same_in_any_group(backend: DynamodbBackend, raw: Raw) -> None:
    members = tuple(f"task_{number:036}" for number in range(300))
    backend.create_group(group(*members), CALLBACK)
    before = raw.group(TALLY)

    assert backend.finish_members([("group_1", uuid) for uuid in members])[-1] == 300

    after = raw.group(TALLY)
    assert before is not None
    assert after is not None
    assert before.keys() == after.keys()
    assert len([key for key in raw.group_keys() if key.startswith("group_1")]) == 302


# -- how long things live ----------------------------------------------------------------------------------------------


def test_members_live_as_long_as_their_open_group_whatever_is_written(backend: DynamodbBackend, raw: Raw) -> None:
    backend.submit([TaskState("u1", "add"), TaskState("u2", "add")])
    assert lives_for(raw.record()) < 2 * 3600

    backend.create_group(group(), CALLBACK)
    assert lives_for(raw.record()) > 7 * DAY
    backend.save([TaskState("u1", "add", State.STARTED)])
    assert lives_for(raw.record()) > 7 * DAY
    for again in (["u1"], ["u1", "u2"]):  # a retry
        backend.submit([TaskState(uuid, "add") for uuid in again])
        assert lives_for(raw.record()) > 7 * DAY
    backend.save([TaskState("u1", "add", State.SUCCESS, ())])
    assert lives_for(raw.record()) > 7 * DAY

    backend.close_group("group_1")
    assert lives_for(raw.record()) < 2 * 3600
    assert lives_for(raw.group()) < 2 * 3600
    assert lives_for(raw.group(TALLY)) < 2 * 3600
    backend.submit([TaskState("u1", "add")])
    assert lives_for(raw.record()) < 2 * 3600


def test_members_live_as_long_as_their_open_group_when_many_are_written_at_once(
    backend: DynamodbBackend, make_backend: Callable[..., DynamodbBackend], raw: Raw
) -> None:
    ids = ["u1", "u2", "u3"]
    backend.submit([TaskState(uuid, "add") for uuid in [*ids, "alone"]])
    backend.create_group(group(), CALLBACK)
    for state in (State.RECEIVED, State.STARTED):
        stored = backend.save([TaskState(uuid, "add", state) for uuid in [*ids, "alone"]])
        assert [each.state for each in stored] == [state] * 4
        assert [lives_for(raw.record(each)) > 7 * DAY for each in [*ids, "alone"]] == [True, True, True, False]

    backend.close_group("group_1")  # by another: this one may still think that they are kept
    backend.save([TaskState(uuid, "add", State.SUCCESS, ()) for uuid in [*ids, "alone"]])

    assert all(lives_for(raw.record(uuid)) < 2 * 3600 for uuid in ids)
    final = make_backend().save([TaskState(uuid, "add", State.FAILURE) for uuid in ids])
    assert all(each.is_success and each.was_final for each in final)


def test_a_member_that_was_written_by_go_lives_on_once_it_is_joined(backend: DynamodbBackend, raw: Raw) -> None:
    backend.create_group(group(), CALLBACK)
    raw.put_record(State={"S": "SUCCESS"}, TTL={"N": str(int(time.time()) + 60)})

    backend.finish_members([("group_1", "u1")])

    assert lives_for(raw.record()) > 7 * DAY


def test_a_group_that_takes_long_is_renewed_now_and_then_with_all_its_members(
    backend: DynamodbBackend, raw: Raw
) -> None:
    backend.submit([TaskState("u3", "add")])
    backend.create_group(group(), CALLBACK)
    two_days = {"N": str(int(time.time()) + 2 * DAY)}
    raw.set_group("TTL", two_days)
    raw.put_record("u3", State={"S": "PENDING"}, TTL=two_days)

    backend.finish_members([("group_1", "u1")])
    assert lives_for(raw.record("u3")) < 3 * DAY

    raw.set_group("Renewed", {"N": str(int(time.time()) - 3 * DAY)}, TALLY)
    backend.finish_members([("group_1", "u2")])
    assert lives_for(raw.record("u3")) > 7 * DAY
    assert lives_for(raw.group()) > 7 * DAY
    assert time.time() - int((raw.group(TALLY) or {})["Renewed"]["N"]) < 60


def test_what_is_kept_by_a_group_that_has_gone_is_kept_no_longer(backend: DynamodbBackend, raw: Raw) -> None:
    soon = {"N": str(int(time.time()) + 60)}
    for count in (1, 2):
        raw.put_record(State={"S": "PENDING"}, TTL=soon, KeptUntil=soon)
        backend.submit([TaskState(uuid, "add") for uuid in ("u1", "u2")[:count]])
        assert lives_for(raw.record()) > 3000
        assert "KeptUntil" not in (raw.record() or {})
    raw.put_record(State={"S": "PENDING"}, TaskName={"S": "add"}, TTL=soon, KeptUntil=soon)

    (stored,) = backend.save([TaskState("u1", "", State.SUCCESS, ())])

    assert stored.task_name == "add"
    assert backend.load(["u1"]) == [stored]
    assert lives_for(raw.record()) > 3000


def test_what_comes_after_the_end_does_not_prolong_it(backend: DynamodbBackend, raw: Raw) -> None:
    backend.create_group(group(), CALLBACK)
    backend.close_group("group_1")

    assert backend.finish_members([("group_1", "u1")]) == [1]

    assert lives_for(raw.group(TALLY)) < 2 * 3600


def test_closing_brings_nothing_back(backend: DynamodbBackend, raw: Raw) -> None:
    backend.create_group(group(), CALLBACK)
    raw.put_record("u2", State={"S": "SUCCESS"}, TTL={"N": str(int(time.time()) - 1)})

    backend.close_group("group_1")

    assert backend.load(["u1", "u2"]) == [None, None]
    assert raw.record("u1") is None


# -- sizes -------------------------------------------------------------------------------------------------------------


def test_the_largest_group_fits(backend: DynamodbBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend._records, "keep", lambda *_: None)  # it has none, and that takes a while
    members = tuple(f"task_{number:036}" for number in range(LARGEST_GROUP))

    backend.create_group(group(*members), CALLBACK)

    assert backend.load_group("group_1").meta.task_uuids == members


def test_ids_and_callbacks_that_do_not_fit_are_refused_though_the_members_are_few(backend: DynamodbBackend) -> None:
    long = tuple(f"{number:01000}" for number in range(500))
    with pytest.raises(GroupTooLarge, match="409600 bytes"):
        backend.create_group(group(*long), CALLBACK)
    with pytest.raises(GroupTooLarge, match="with the callback"):
        backend.create_group(group(), Signature("sum", ["x" * 420_000]))
    with pytest.raises(GroupNotFound):
        backend.load_group("group_1")


def test_the_longest_ids_of_which_keys_can_be_made_are_counted_and_longer_ones_refused(
    backend: DynamodbBackend, raw: Raw
) -> None:
    uuid, member = "g" * 1000, "é" * 507
    backend.create_group(group("u1", member, uuid=uuid), CALLBACK)
    assert backend.finish_members([(uuid, "u1"), (uuid, member)]) == [1, 2]
    before = raw.group_keys()

    with pytest.raises(GroupTooLarge, match="2048 bytes for a key, and one that is made of both has 2049"):
        backend.create_group(group("u1", member + "é", uuid=uuid), CALLBACK)

    assert raw.group_keys() == before


def test_a_member_whose_record_is_full_does_not_hinder_its_group(backend: DynamodbBackend, raw: Raw) -> None:
    # Given a record with no room for a group's wish
    ttl = {"N": str(int(time.time()) + 3600)}
    full: dict[str, dict[str, Any]] = {"State": {"S": "STARTED"}, "TTL": ttl}
    room = LARGEST_ITEM - size_of({"TaskUUID": {"S": "u1"}, **full}) - len("Error")
    raw.put_record("u1", **full, Error={"S": "x" * room})
    raw.put_record("u2", **full)

    backend.create_group(group("u1", "u2"), CALLBACK)

    assert backend.finish_members([("group_1", "u1"), ("group_1", "u2")]) == [1, 2]
    assert (raw.record("u1") or {})["TTL"] == ttl
    assert lives_for(raw.record("u2")) > 7 * DAY


# -- claiming ----------------------------------------------------------------------------------------------------------


def test_one_member_claims_the_chord_and_may_ask_again(backend: DynamodbBackend, raw: Raw) -> None:
    backend.create_group(group(), CALLBACK)

    assert backend.claim_chord("group_1", "u2")
    assert not backend.claim_chord("group_1", "u1")
    assert backend.claim_chord("group_1", "u2")
    found = raw.group() or {}
    assert (found["ChordTriggered"], found["Lock"]) == ({"BOOL": True}, {"BOOL": False})


def test_what_go_triggered_is_not_claimed(backend: DynamodbBackend, raw: Raw) -> None:
    backend.create_group(group(), CALLBACK)
    raw.set_group("ChordTriggered", {"BOOL": True})

    assert not backend.claim_chord("group_1", "u1")


def test_what_go_triggered_and_dropped_at_a_failure_is_claimed_by_one(backend: DynamodbBackend, raw: Raw) -> None:
    backend.create_group(group(), CALLBACK)
    raw.set_group("ChordTriggered", {"BOOL": True})
    backend.save([TaskState("u2", "add", State.FAILURE, error="it broke")])

    assert backend.claim_chord("group_1", "u1")
    assert not backend.claim_chord("group_1", "u2")
    assert backend.claim_chord("group_1", "u1")


def test_members_that_cannot_be_read_leave_the_chord_to_go(backend: DynamodbBackend, raw: Raw) -> None:
    backend.create_group(group(), CALLBACK)
    raw.set_group("ChordTriggered", {"BOOL": True})
    raw.put_record("u2", State={"S": "LOST"})

    assert not backend.claim_chord("group_1", "u1")


def test_a_go_worker_that_is_about_to_trigger_is_waited_for(
    backend: DynamodbBackend, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_groups, "GO_PATIENCE", 30.0)
    put_gos(raw, Lock={"BOOL": True})

    def trigger() -> None:
        raw.set_group("ChordTriggered", {"BOOL": True})
        raw.set_group("Lock", {"BOOL": False})

    go = threading.Timer(0.2, trigger)
    go.start()

    assert not backend.claim_chord("group_1", "u1")
    go.join()


def test_a_lock_that_a_dead_go_worker_left_hangs_nobody(
    backend: DynamodbBackend, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_groups, "GO_PATIENCE", 0.3)
    put_gos(raw, Lock={"BOOL": True})
    began = time.monotonic()

    assert backend.claim_chord("group_1", "u1")

    assert time.monotonic() - began < 10
    assert not backend.claim_chord("group_1", "u2")
    assert (raw.group() or {})["Lock"] == {"BOOL": True}  # it is Go's


def test_who_is_overtaken_between_look_and_claim_has_lost(
    backend: DynamodbBackend, make_backend: Callable[..., DynamodbBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    backend.create_group(group(), CALLBACK)
    other = make_backend()
    claim = backend._groups._claim

    def overtaken(*arguments: Any, **options: Any) -> None:
        assert other.claim_chord("group_1", "u2")
        claim(*arguments, **options)

    monkeypatch.setattr(backend._groups, "_claim", overtaken)

    assert not backend.claim_chord("group_1", "u1")
