"""Groups and chords: Go's metadata, counts that may be lost but are never too low, one claimant."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from machinery.abc import Config, GroupMeta, Signature, State, TaskState
from machinery.errors import DecodeError, GroupNotFound, GroupTooLarge
from machinery.testing._expectations import eventually
from machinery.wire import encode_group, encode_signature
from machinery_backend_memcache import MemcacheBackend, _groups
from machinery_backend_memcache._keys import group_keys
from tests.plugins.backend_memcache.test_records import metadata_of
from tests.services.memcached import MemcachedServer

CREATED = datetime(2024, 3, 1, 12, 30, 45, tzinfo=UTC)
CALLBACK = Signature("sum", [1], uuid="chord_1", headers={"a": "b"})
DAY = 86_400


@pytest.fixture
def group(new_id: Callable[[], str]) -> GroupMeta:
    return GroupMeta(f"group_{new_id()}", tuple(new_id() for _ in range(3)), created_at=CREATED)


def go_made(raw: Any, group: GroupMeta, *, triggered: bool = False, lock: bool = False) -> None:
    """What a Go sender, or a Go worker, has written."""
    written = GroupMeta(group.group_uuid, group.task_uuids, triggered, lock, group.created_at)
    raw.set(group.group_uuid, encode_group(written))


def test_the_metadata_is_gos_and_the_callback_lies_beside_it(
    backend: MemcacheBackend, raw: Any, group: GroupMeta
) -> None:
    backend.create_group(group, CALLBACK)

    assert raw.get(group.group_uuid) == encode_group(group)
    assert raw.get(f"{group.group_uuid}:machinery:group") == encode_signature(CALLBACK)
    found = backend.load_group(group.group_uuid)
    assert (found.meta, found.callback, found.made_by_go) == (group, CALLBACK, False)


def test_a_group_without_a_callback_is_still_ours(backend: MemcacheBackend, group: GroupMeta) -> None:
    backend.create_group(group)

    found = backend.load_group(group.group_uuid)
    assert found.callback is None
    assert not found.made_by_go


def test_gos_groups_are_known_for_gos_and_nothing_is_left_beside_them(
    backend: MemcacheBackend, raw: Any, group: GroupMeta
) -> None:
    go_made(raw, group)
    first, second, _ = group.task_uuids

    assert backend.load_group(group.group_uuid).made_by_go
    assert backend.finish_members([(group.group_uuid, first), (group.group_uuid, second)]) == [0, 0]
    keys = group_keys(group.group_uuid)
    assert raw.get_many([keys.count, keys.kept, keys.finished(first), keys.finished(second)]) == {}
    assert backend.claim_chord(group.group_uuid, first)
    assert not backend.claim_chord(group.group_uuid, second)
    assert backend.load_group(group.group_uuid).made_by_go


def test_a_group_that_is_not_there_is_an_error_that_says_why(backend: MemcacheBackend, group: GroupMeta) -> None:
    for call in (backend.load_group, lambda uuid: backend.claim_chord(uuid, "u1")):
        with pytest.raises(GroupNotFound, match="thrown it out"):
            call(group.group_uuid)
    assert backend.finish_members([(group.group_uuid, "u1")]) == [0]
    backend.close_group(group.group_uuid)


def test_creating_a_group_again_starts_it_afresh(backend: MemcacheBackend, group: GroupMeta) -> None:
    uuid, (first, second, _) = group.group_uuid, group.task_uuids
    backend.create_group(group, CALLBACK)
    backend.finish_members([(uuid, first)])
    backend.claim_chord(uuid, first)
    backend.close_group(uuid)

    backend.create_group(group)

    assert backend.load_group(uuid).callback is None
    assert backend.finish_members([(uuid, first), (uuid, second)]) == [1, 2]
    assert backend.claim_chord(uuid, second)


def test_ten_thousand_members_cost_no_more_each(backend: MemcacheBackend, raw: Any, group: GroupMeta) -> None:
    members = tuple(f"{group.group_uuid}-{number}" for number in range(10_000))
    backend.create_group(GroupMeta(group.group_uuid, members), CALLBACK)
    size = metadata_of(raw, group.group_uuid)["s"]

    counts: list[int] = []
    for start in range(0, 10_000, 100):
        counts = backend.finish_members([(group.group_uuid, uuid) for uuid in members[start : start + 100]])

    assert counts[-1] == 10_000
    assert metadata_of(raw, group.group_uuid)["s"] == size
    backend.close_group(group.group_uuid)


def test_the_largest_group_with_gos_ids_can_be_stored_and_claimed(backend: MemcacheBackend, new_id: Any) -> None:
    largest = backend.capabilities.largest_group
    assert largest is not None
    uuid = f"group_{new_id()}"
    members = tuple(new_id() for _ in range(largest))
    backend.create_group(GroupMeta(uuid, members, created_at=CREATED), CALLBACK)

    assert backend.claim_chord(uuid, members[-1])
    assert backend.load_group(uuid).meta.task_uuids == members
    with pytest.raises(GroupTooLarge, match="item_size_max"):
        backend.create_group(GroupMeta(uuid, (*members, new_id())))


def test_long_ids_make_a_group_too_large_sooner(backend: MemcacheBackend, uuid: str) -> None:
    members = tuple(f"{number}-" + "x" * 200 for number in range(10_000))

    with pytest.raises(GroupTooLarge, match="10000"):
        backend.create_group(GroupMeta(uuid, members))


def test_a_callback_may_be_too_large(backend: MemcacheBackend, group: GroupMeta) -> None:
    with pytest.raises(GroupTooLarge, match="callback"):
        backend.create_group(group, Signature("sum", ["x" * 2**20]))


def test_a_server_that_takes_less_than_was_said_refuses_the_group(
    memcached_server: MemcachedServer, new_id: Any
) -> None:
    backend = MemcacheBackend.from_url(f"{memcached_server.url}?item_size_max={2**22}", Config())
    members = tuple(new_id() for _ in range(30_000))

    with pytest.raises(GroupTooLarge, match="-I"):
        backend.create_group(GroupMeta("group_1", members))
    backend.close()


# -- counts that may be lost -------------------------------------------------------------------------------------------------


def test_a_count_that_was_thrown_out_is_not_known(backend: MemcacheBackend, raw: Any, group: GroupMeta) -> None:
    backend.create_group(group, CALLBACK)
    first, second, _ = group.task_uuids
    assert backend.finish_members([(group.group_uuid, first)]) == [1]
    raw.delete(group_keys(group.group_uuid).count)

    assert backend.finish_members([(group.group_uuid, second)]) == [0]
    assert backend.load_group(group.group_uuid).meta == group


def test_a_mark_that_was_thrown_out_makes_the_count_too_high_and_never_too_low(
    backend: MemcacheBackend, raw: Any, group: GroupMeta
) -> None:
    backend.create_group(group, CALLBACK)
    first, second, third = group.task_uuids
    backend.finish_members([(group.group_uuid, first)])
    raw.delete(group_keys(group.group_uuid).finished(first))

    assert backend.finish_members([(group.group_uuid, first)]) == [2]
    assert backend.finish_members([(group.group_uuid, second), (group.group_uuid, third)]) == [3, 4]


def test_a_crash_amid_counting_makes_the_count_too_high_and_never_too_low(
    backend: MemcacheBackend, raw: Any, group: GroupMeta
) -> None:
    """What was sent of the one round trip may end anywhere: the count comes first in it."""
    backend.create_group(group, CALLBACK)
    first, second, third = group.task_uuids
    raw.incr(group_keys(group.group_uuid).count, 1)

    counts = backend.finish_members([(group.group_uuid, uuid) for uuid in (first, second, third)])

    assert counts[-1] >= 3


def test_marks_that_an_earlier_group_left_do_not_count(backend: MemcacheBackend, raw: Any, group: GroupMeta) -> None:
    """The metadata may be thrown out before them."""
    backend.create_group(group, CALLBACK)
    backend.finish_members([(group.group_uuid, uuid) for uuid in group.task_uuids])
    raw.delete(group.group_uuid)

    backend.create_group(group, CALLBACK)

    assert backend.finish_members([(group.group_uuid, uuid) for uuid in group.task_uuids]) == [1, 2, 3]


def test_the_same_member_may_be_finished_by_many_at_once(backend: MemcacheBackend, group: GroupMeta) -> None:
    backend.create_group(group, CALLBACK)
    first, second, _ = group.task_uuids
    threads = [threading.Thread(target=backend.finish_members, args=[[(group.group_uuid, first)]]) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert backend.finish_members([(group.group_uuid, second)]) == [2]


# -- claiming ----------------------------------------------------------------------------------------------------------------


def test_who_claims_stands_in_the_metadata_which_go_still_reads(
    backend: MemcacheBackend, raw: Any, group: GroupMeta
) -> None:
    backend.create_group(group, CALLBACK)
    first, second, _ = group.task_uuids

    assert backend.claim_chord(group.group_uuid, second)
    assert not backend.claim_chord(group.group_uuid, first)
    assert backend.claim_chord(group.group_uuid, second)
    found = json.loads(raw.get(group.group_uuid))
    assert found.pop("Claimant") == second
    assert found == json.loads(encode_group(group)) | {"ChordTriggered": True}


def test_what_go_triggered_is_not_claimed(backend: MemcacheBackend, raw: Any, group: GroupMeta) -> None:
    go_made(raw, group, triggered=True)

    assert not backend.claim_chord(group.group_uuid, group.task_uuids[0])


def test_what_go_triggered_is_claimed_once_when_a_member_has_failed(
    backend: MemcacheBackend, raw: Any, group: GroupMeta
) -> None:
    """Go sends nothing then, and tells nobody."""
    go_made(raw, group, triggered=True)
    backend.save([TaskState(group.task_uuids[0], "add", State.FAILURE, error="it broke")])

    claims = [backend.claim_chord(group.group_uuid, uuid) for uuid in group.task_uuids]

    assert claims == [True, False, False]
    assert backend.claim_chord(group.group_uuid, group.task_uuids[0])


def test_a_members_record_that_nobody_can_read_leaves_the_chord_to_go(
    backend: MemcacheBackend, raw: Any, group: GroupMeta
) -> None:
    go_made(raw, group, triggered=True)
    raw.set(group.task_uuids[0], b"junk")

    assert not backend.claim_chord(group.group_uuid, group.task_uuids[0])


def test_a_group_that_go_has_locked_is_waited_for(
    backend: MemcacheBackend, raw: Any, group: GroupMeta, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_groups, "LOCK_PATIENCE", 60.0)
    go_made(raw, group, lock=True)
    answers: list[bool] = []
    claimant = threading.Thread(target=lambda: answers.append(backend.claim_chord(group.group_uuid, "u1")))
    claimant.start()
    claimant.join(0.2)
    assert claimant.is_alive()

    go_made(raw, group, triggered=True, lock=True)
    claimant.join(30)

    assert answers == [False]


def test_a_lock_that_a_dead_go_worker_left_holds_nobody_up_for_long(
    backend: MemcacheBackend, raw: Any, group: GroupMeta, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_groups, "LOCK_PATIENCE", 0.3)
    go_made(raw, group, lock=True)
    began = time.monotonic()

    assert backend.claim_chord(group.group_uuid, "u1")

    assert 0.3 <= time.monotonic() - began < 10
    found = json.loads(raw.get(group.group_uuid))
    assert (found["Lock"], found["ChordTriggered"]) == (False, True)


def test_metadata_that_nobody_can_read_cannot_be_claimed(backend: MemcacheBackend, raw: Any, group: GroupMeta) -> None:
    raw.set(group.group_uuid, b"junk")

    with pytest.raises(DecodeError):
        backend.claim_chord(group.group_uuid, "u1")
    backend.close_group(group.group_uuid)


# -- lives -------------------------------------------------------------------------------------------------------------------


def test_records_of_an_open_group_live_as_long_as_it_does_whatever_is_written(
    backend: MemcacheBackend, raw: Any, group: GroupMeta
) -> None:
    first, second, _ = group.task_uuids
    backend.submit([TaskState(first, "add")])
    backend.create_group(group, CALLBACK)
    assert backend.load([first, second]) == [TaskState(first, "add"), None]

    backend.save([TaskState(uuid, "add", State.STARTED) for uuid in (first, second)])
    backend.save([TaskState(uuid, "add", State.SUCCESS, ()) for uuid in (first, second)])

    keys = group_keys(group.group_uuid)
    for key in (first, second, group.group_uuid, keys.ours.decode(), keys.count.decode()):
        assert metadata_of(raw, key)["t"] > 8 * DAY


def test_closing_lets_all_of_it_expire(backend: MemcacheBackend, raw: Any, group: GroupMeta) -> None:
    backend.create_group(group, CALLBACK)
    pairs = [(group.group_uuid, uuid) for uuid in group.task_uuids]
    backend.save([TaskState(uuid, "add", State.SUCCESS, ()) for uuid in group.task_uuids])
    backend.finish_members(pairs)

    backend.close_group(group.group_uuid)

    keys = group_keys(group.group_uuid)
    ours = [keys.ours, keys.count, *[keys.finished(uuid) for uuid in group.task_uuids]]
    for key in (group.group_uuid, *group.task_uuids, *[key.decode() for key in ours]):
        assert metadata_of(raw, key)["t"] <= 3605
    assert backend.finish_members(pairs) == [3, 3, 3]
    assert metadata_of(raw, group.group_uuid)["t"] <= 3605


def test_a_member_that_finishes_lets_the_group_live_on(
    make_backend: Callable[..., MemcacheBackend], raw: Any, group: GroupMeta
) -> None:
    backend = make_backend(group_expire_in=timedelta(days=8), results_expire_in=1)
    backend.create_group(group, CALLBACK)
    first, second, third = group.task_uuids
    backend.finish_members([(group.group_uuid, first)])
    backend.save([TaskState(first, "add", State.SUCCESS, ())])
    keys = group_keys(group.group_uuid)
    all_of_it = (
        group.group_uuid,
        first,
        third,
        *[key.decode() for key in (keys.ours, keys.count, keys.finished(first))],
    )
    # A quarter of its time has passed, and all but an hour of the rest.
    assert DAY < metadata_of(raw, keys.kept.decode())["t"] <= 2 * DAY + 60
    assert raw.delete(keys.kept)
    for key in all_of_it:
        assert raw.touch(key, 3600)

    backend.finish_members([(group.group_uuid, second)])

    for key in all_of_it:
        assert metadata_of(raw, key)["t"] > 8 * DAY


def test_a_group_renewed_by_what_comes_late_does_not_outlive_its_closing(
    make_backend: Callable[..., MemcacheBackend], group: GroupMeta
) -> None:
    short = make_backend(results_expire_in=1)
    short.create_group(group, CALLBACK)
    short.close_group(group.group_uuid)
    short.finish_members([(group.group_uuid, group.task_uuids[0])])

    def is_gone() -> bool:
        try:
            short.load_group(group.group_uuid)
        except GroupNotFound:
            return True
        return False

    assert eventually(is_gone)
