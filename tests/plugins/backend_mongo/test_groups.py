"""Groups and chords: Go's metadata, counts that cost the same in any group and survive every crash, one claimant."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from machinery.abc import GroupMeta, Signature, State, TaskState
from machinery.errors import DecodeError, GroupNotFound, GroupTooLarge
from machinery.testing._expectations import eventually, in_threads
from machinery.wire import encode_signature
from machinery_backend_mongo import MongoBackend
from machinery_backend_mongo._progress import MANY, Progress

CREATED = datetime(2024, 3, 1, 12, 30, 45, tzinfo=UTC)
CALLBACK = Signature("sum", [1], uuid="chord_1", headers={"a": "b"})


def group(*members: str, uuid: str = "group_1") -> GroupMeta:
    return GroupMeta(uuid, members or ("u1", "u2", "u3"), created_at=CREATED)


def large(count: int) -> GroupMeta:
    return group(*[f"u{number}" for number in range(count)])


def now_and(**span: float) -> datetime:
    return datetime.now(UTC) + timedelta(**span)


def gos(**fields: Any) -> dict[str, Any]:
    """The group as Go writes it."""
    return {
        "_id": "group_1",
        "task_uuids": ["u1", "u2", "u3"],
        "chord_triggered": False,
        "lock": False,
        "created_at": CREATED,
        **fields,
    }


def test_the_metadata_is_gos_with_the_callback_beside_it(backend: MongoBackend, raw: Any) -> None:
    backend.create_group(group(), CALLBACK)

    found = raw.group_metas.find_one()
    assert found.pop("callback").encode() == encode_signature(CALLBACK)
    assert found.pop("delete_at") > now_and(days=8)
    assert found == gos()
    loaded = backend.load_group("group_1")
    assert (loaded.meta, loaded.callback, loaded.made_by_go) == (group(), CALLBACK, False)


def test_a_group_without_a_callback_is_still_ours(backend: MongoBackend) -> None:
    backend.create_group(group())

    found = backend.load_group("group_1")
    assert found.callback is None
    assert not found.made_by_go
    assert backend.open_groups(now_and(minutes=1), 9) == []


def test_gos_groups_are_known_for_gos(backend: MongoBackend, raw: Any) -> None:
    raw.group_metas.insert_one(gos())

    found = backend.load_group("group_1")
    assert (found.meta, found.callback, found.made_by_go) == (group(), None, True)
    assert backend.finish_members([("group_1", "u1")]) == [0]
    assert backend.claim_chord("group_1", "u1")
    assert not backend.claim_chord("group_1", "u2")
    assert backend.load_group("group_1").made_by_go
    backend.close_group("group_1")
    assert backend.load_group("group_1").made_by_go
    assert now_and(hours=0.9) < raw.group_metas.find_one()["delete_at"] < now_and(hours=1.1)


def test_a_group_of_go_that_says_little_is_read(backend: MongoBackend, raw: Any) -> None:
    raw.group_metas.insert_one({"_id": "group_1", "task_uuids": None, "another": 5})

    assert backend.load_group("group_1").meta == GroupMeta("group_1")
    assert backend.claim_chord("group_1", "u1")


@pytest.mark.parametrize(
    ("field", "value"), [("task_uuids", "u1"), ("task_uuids", [1]), ("chord_triggered", "no"), ("lock", 1)]
)
def test_a_field_of_another_type_is_named(backend: MongoBackend, raw: Any, field: str, value: Any) -> None:
    raw.group_metas.insert_one(gos(**{field: value}))

    with pytest.raises(DecodeError, match=field):
        backend.load_group("group_1")


def test_a_group_that_is_not_there_is_an_error(backend: MongoBackend) -> None:
    with pytest.raises(GroupNotFound):
        backend.load_group("never")
    with pytest.raises(GroupNotFound):
        backend.claim_chord("never", "u1")
    assert backend.finish_members([("never", "u1")]) == [0]
    assert backend.finish_members([("never", "u1"), ("neither", "u1")]) == [0, 0]
    backend.close_group("never")


@pytest.mark.parametrize("lost", ["machinery_groups", "group_metas"])
def test_half_a_group_is_none(backend: MongoBackend, raw: Any, lost: str) -> None:
    backend.create_group(group(), CALLBACK)

    raw[lost].delete_many({})

    with pytest.raises(GroupNotFound):
        backend.load_group("group_1")
    with pytest.raises(GroupNotFound):
        backend.claim_chord("group_1", "u1")


# -- counting ----------------------------------------------------------------------------------------------------------


def test_members_are_counted_once_each(backend: MongoBackend) -> None:
    backend.create_group(group(), CALLBACK)
    backend.create_group(group("a", uuid="group_2"), CALLBACK)

    counts = backend.finish_members(
        [("group_1", "u1"), ("group_2", "a"), ("group_1", "u2"), ("never", "x"), ("group_1", "u1")]
    )

    assert counts == [2, 1, 2, 0, 2]
    assert backend.finish_members([("group_1", "u3")]) == [3]
    assert backend.finish_members([]) == []


@pytest.mark.parametrize("at_once", [1, 7, 350])
def test_members_of_a_large_group_are_counted_once_each(backend: MongoBackend, raw: Any, at_once: int) -> None:
    made = large(350)
    backend.create_group(made, CALLBACK)
    pairs = [("group_1", uuid) for uuid in made.task_uuids]

    counts: list[int] = []
    for start in range(0, 350, at_once):
        counts += backend.finish_members(pairs[start : start + at_once])
        counts += backend.finish_members(pairs[max(0, start - at_once) : start + at_once])

    assert counts == sorted(counts)
    assert counts[-1] == 350
    assert backend.finish_members(pairs) == [350] * 350
    document = raw.machinery_groups.find_one()
    assert len(document["recent"]) <= MANY
    assert document["moved"] == raw.machinery_members.count_documents({})


def test_many_threads_that_finish_the_same_large_group_count_exactly(
    backend: MongoBackend, make_backend: Callable[..., MongoBackend]
) -> None:
    made = large(320)
    backend.create_group(made, CALLBACK)
    backends = [backend, make_backend()]

    def finish(number: int) -> list[int]:
        # Each member is finished by two threads.
        counts: list[int] = []
        for at in range(number // 2 * 20, number // 2 * 20 + 20):
            counts += backends[number % 2].finish_members([("group_1", made.task_uuids[at])])
        return counts

    answers = in_threads(32, finish)

    assert max(max(counts) for counts in answers) == 320
    assert all(counts == sorted(counts) for counts in answers)
    assert backend.finish_members([("group_1", "u0")]) == [320]


def test_groups_finished_side_by_side_count_exactly(backend: MongoBackend) -> None:
    names = [f"group_{number}" for number in range(20)]
    for name in names:
        backend.create_group(group(*[f"u{number}" for number in range(16)], uuid=name), CALLBACK)

    in_threads(16, lambda number: backend.finish_members([(name, f"u{number}") for name in names]))

    assert backend.finish_members([(name, "u0") for name in names]) == [16] * 20


@pytest.mark.parametrize("step", ["after the members were written", "after they were moved"])
def test_who_dies_while_members_are_moved_leaves_the_count_right(
    backend: MongoBackend, raw: Any, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    made = large(MANY + 20)
    backend.create_group(made, CALLBACK)
    pairs = [("group_1", uuid) for uuid in made.task_uuids]
    monkeypatch.setattr(Progress, "_relieve", lambda *_: None)
    assert backend.finish_members(pairs[:MANY]) == [MANY] * MANY
    document = raw.machinery_groups.find_one()
    assert len(document["recent"]) == MANY

    # When whoever moves them dies, before or after the last step
    raw.machinery_members.insert_many([{"_id": f"{document['run']}/{uuid}"} for uuid in document["recent"][:-5]])
    if step == "after they were moved":
        kept = document["recent"][-5:]
        raw.machinery_groups.update_one({}, {"$set": {"recent": kept, "moved": MANY - 5}})
    monkeypatch.undo()

    # Then whoever comes next counts on from there
    assert backend.finish_members(pairs[:MANY]) == [MANY] * MANY
    assert backend.finish_members(pairs[MANY:])[-1] == MANY + 20
    assert backend.finish_members(pairs) == [MANY + 20] * (MANY + 20)


def test_creating_a_group_again_starts_it_afresh(backend: MongoBackend) -> None:
    made = large(MANY + 5)
    backend.create_group(made, CALLBACK)
    backend.finish_members([("group_1", uuid) for uuid in made.task_uuids])
    backend.claim_chord("group_1", "u1")
    backend.close_group("group_1")

    backend.create_group(made, CALLBACK)

    assert backend.finish_members([("group_1", "u2")]) == [1]
    assert backend.claim_chord("group_1", "u2")
    assert backend.open_groups(now_and(minutes=1), 9) == ["group_1"]


def test_ten_thousand_members_cost_no_more_each(backend: MongoBackend, raw: Any) -> None:
    made = large(10_000)
    backend.create_group(made, CALLBACK)

    def took(start: int) -> float:
        began = time.monotonic()
        for at in range(start, start + 200, 10):
            backend.finish_members([("group_1", uuid) for uuid in made.task_uuids[at : at + 10]])
        return time.monotonic() - began

    took(0)
    early = min(took(200), took(400))
    backend.finish_members([("group_1", uuid) for uuid in made.task_uuids[:9_000]])
    # What holds up a call now and then does not do so in every round.
    assert any(took(at) < early * 3 + 0.1 for at in range(9_000, 10_000, 200))
    assert backend.finish_members([("group_1", uuid) for uuid in made.task_uuids])[-1] == 10_000
    backend.close_group("group_1")
    assert raw.tasks.count_documents({"kept_until": {"$exists": True}}) == 0


# -- claiming ----------------------------------------------------------------------------------------------------------


def test_one_member_claims_the_chord_and_may_ask_again(backend: MongoBackend, raw: Any) -> None:
    backend.create_group(group(), CALLBACK)

    assert backend.claim_chord("group_1", "u2")
    assert not backend.claim_chord("group_1", "u1")
    assert backend.claim_chord("group_1", "u2")
    found = raw.group_metas.find_one({}, {"callback": 0, "delete_at": 0})
    assert found == gos(chord_triggered=True, claimant="u2")


def test_one_of_many_claims_while_a_go_worker_triggers(backend: MongoBackend, raw: Any) -> None:
    for number in range(10):
        name = f"group_{number}"
        backend.create_group(group(uuid=name), CALLBACK)

        def claim(claimant: int, name: str = name) -> bool:
            if claimant == 7:  # Go's update; it looks at nothing and always goes on
                changed = raw.group_metas.update_one(
                    {"_id": name, "chord_triggered": False}, {"$set": {"chord_triggered": True}}
                )
                return bool(changed.modified_count)
            return backend.claim_chord(name, f"u{claimant}")

        assert in_threads(16, claim).count(True) == 1


def test_what_go_triggered_is_not_claimed(backend: MongoBackend, raw: Any) -> None:
    raw.group_metas.insert_one(gos(chord_triggered=True))

    assert not backend.claim_chord("group_1", "u1")
    assert backend.load_group("group_1").meta.chord_triggered


def test_what_go_triggered_and_dropped_for_a_failure_is_claimed_once(backend: MongoBackend, raw: Any) -> None:
    # Given a Go worker that marked the group, then found that a member has failed, and told nobody
    raw.group_metas.insert_one(gos(chord_triggered=True))
    backend.save([TaskState("u1", "add", State.FAILURE, None, "no")])

    # Then one of ours takes over
    assert backend.claim_chord("group_1", "u2")
    assert not backend.claim_chord("group_1", "u3")
    assert backend.claim_chord("group_1", "u2")


def test_what_go_triggered_and_cannot_read_is_not_claimed(backend: MongoBackend, raw: Any) -> None:
    raw.group_metas.insert_one(gos(chord_triggered=True))
    raw.tasks.insert_one({"_id": "u1", "state": 5})

    assert not backend.claim_chord("group_1", "u2")


def test_go_cannot_trigger_what_was_claimed_by_its_own_rule(backend: MongoBackend, raw: Any) -> None:
    backend.create_group(group(), CALLBACK)
    backend.claim_chord("group_1", "u1")

    found = raw.group_metas.update_one(
        {"_id": "group_1", "chord_triggered": False}, {"$set": {"chord_triggered": True}}
    )

    assert found.matched_count == 0


# -- size --------------------------------------------------------------------------------------------------------------


def test_more_members_than_a_document_holds_are_refused(backend: MongoBackend, raw: Any) -> None:
    limit = backend.capabilities.largest_group
    assert limit is not None

    with pytest.raises(GroupTooLarge, match=str(limit)):
        backend.create_group(group(*map(str, range(limit + 1))), CALLBACK)

    assert raw.list_collection_names() == []


def test_ids_or_a_callback_that_a_document_cannot_hold_are_refused(backend: MongoBackend, raw: Any) -> None:
    with pytest.raises(GroupTooLarge, match="smaller callback"):
        backend.create_group(group(), Signature("sum", ["x" * 17_000_000]))
    with pytest.raises(GroupTooLarge, match="several groups"):
        backend.create_group(group(*["x" * 100_000 + str(number) for number in range(200)]), CALLBACK)

    assert raw.list_collection_names() == []


# -- time --------------------------------------------------------------------------------------------------------------


def test_open_groups_are_those_idle_since_then_longest_first(backend: MongoBackend) -> None:
    for number in (1, 2, 3):
        backend.create_group(group(uuid=f"group_{number}"), CALLBACK)
        threading.Event().wait(0.02)
    before = datetime.now(UTC)
    threading.Event().wait(0.05)
    backend.finish_members([("group_1", "u1")])

    assert backend.open_groups(before, 9) == ["group_2", "group_3"]
    assert backend.open_groups(now_and(minutes=1), 9) == ["group_2", "group_3", "group_1"]
    assert backend.open_groups(now_and(minutes=1), 1) == ["group_2"]
    assert backend.open_groups(now_and(minutes=1), 0) == []
    assert backend.open_groups(now_and(minutes=-1), 9) == []
    backend.close_group("group_2")
    assert backend.open_groups(now_and(minutes=1), 9) == ["group_3", "group_1"]
    assert backend.finish_members([("group_2", "u1")]) == [1]
    assert backend.open_groups(now_and(minutes=1), 9) == ["group_3", "group_1"]


def test_records_of_an_open_group_outlive_their_own_time(make_backend: Callable[..., MongoBackend], raw: Any) -> None:
    backend = make_backend(results_expire_in=0.5, group_expire_in=60)
    backend.submit([TaskState("u1", "add", created_at=CREATED)])
    backend.create_group(group("u1", "u2", "u3"), CALLBACK)
    assert backend.load(["u2"]) == [None]
    backend.submit([TaskState("u2", "add", created_at=CREATED)])
    backend.save([TaskState("u1", "add", State.SUCCESS, ()), TaskState("u3", "add", State.STARTED)])
    backend.submit([TaskState("other", "add", created_at=CREATED)])
    eventually(lambda: raw.tasks.find_one({"_id": "other"}) is None)

    states = [state and state.state for state in backend.load(["u1", "u2", "u3"])]
    assert states == [State.SUCCESS, State.PENDING, State.STARTED]
    backend.close_group("group_1")
    eventually(lambda: backend.load(["u1", "u2", "u3"]) == [None] * 3)  # after the group
    with pytest.raises(GroupNotFound):
        backend.load_group("group_1")
    eventually(lambda: not any(raw[name].find_one() for name in raw.list_collection_names()))


def let_pass(raw: Any, span: timedelta) -> None:
    """Have all that is stored end sooner, as if that much time had passed."""
    for name in raw.list_collection_names():
        for field in ("delete_at", "kept_until"):
            sooner = {"$subtract": [f"${field}", span // timedelta(milliseconds=1)]}
            raw[name].update_many({field: {"$type": "date"}}, [{"$set": {field: sooner}}])


def test_a_finishing_member_prolongs_the_group_and_all_that_is_kept_for_it(
    make_backend: Callable[..., MongoBackend], raw: Any
) -> None:
    backend = make_backend(results_expire_in=0.1, group_expire_in=timedelta(hours=5))
    made = large(MANY + 3)
    backend.create_group(made, CALLBACK)
    backend.save([TaskState("u0", "add", State.SUCCESS, ())])
    backend.finish_members([("group_1", uuid) for uuid in made.task_uuids[:MANY]])
    for uuid in made.task_uuids[MANY:]:
        let_pass(raw, timedelta(hours=4))
        assert backend.finish_members([("group_1", uuid)])[0] > MANY

    (found,) = backend.load(["u0"])
    assert found is not None
    assert found.is_success
    assert backend.load_group("group_1").callback == CALLBACK
    assert raw.machinery_members.count_documents({"delete_at": {"$gt": now_and()}}) == MANY
    backend.close_group("group_1")
    assert backend.finish_members([("group_1", "u1")])[0] in {0, MANY + 3}
    eventually(lambda: not any(raw[name].find_one() for name in raw.list_collection_names()))


def test_a_group_that_ended_is_gone_before_it_is_deleted(backend: MongoBackend, raw: Any) -> None:
    backend.create_group(group(), CALLBACK)
    raw.machinery_groups.update_one({}, {"$set": {"delete_at": now_and(days=-1)}})

    with pytest.raises(GroupNotFound):
        backend.load_group("group_1")
    with pytest.raises(GroupNotFound):
        backend.claim_chord("group_1", "u1")
    assert backend.finish_members([("group_1", "u1")]) == [0]
    assert backend.open_groups(now_and(minutes=1), 9) == []


def test_a_place_kept_for_a_member_is_no_record(backend: MongoBackend, raw: Any) -> None:
    backend.create_group(group(), CALLBACK)

    assert set(raw.tasks.find_one()) == {"_id", "kept_until", "delete_at"}
    assert backend.load(["u1"]) == [None]
    (found,) = backend.wait(["u1"], 0)
    assert found is None
