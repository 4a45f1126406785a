"""Groups: kept with their callback, counted by member, claimed by exactly one."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING

from machinery._signatures import Signature
from machinery.abc import GroupMeta
from machinery.errors import GroupNotFound, GroupTooLarge
from machinery.testing._backend._suite import BackendSuite, a_moment_later, now
from machinery.testing._expectations import in_threads, only_if, raises
from machinery.wire import encode_signature

if TYPE_CHECKING:
    from collections.abc import Callable

    from machinery.abc import Backend

CLAIMANTS = 64
LARGEST_TRIED = 100_000
MINUTE = timedelta(minutes=1)


class Groups(BackendSuite):
    """`Backend.create_group` and what is done with a group."""

    def test_a_group_is_kept_whole(self, backend: Backend) -> None:
        group = GroupMeta("group_" + self.new_id(), tuple(self.new_ids(5)), created_at=now())
        callback = Signature("callback", ["é", 7, [1.5]], uuid=self.new_id(), headers={"trace": "1"}, immutable=True)
        backend.create_group(group, callback)
        found = backend.load_group(group.group_uuid)
        assert found.meta.group_uuid == group.group_uuid
        assert found.meta.task_uuids == group.task_uuids
        assert found.meta.created_at == group.created_at
        assert not found.meta.chord_triggered
        assert not found.made_by_go
        assert found.callback is not None
        assert encode_signature(found.callback) == encode_signature(callback)

    def test_a_group_may_have_no_callback(self, backend: Backend) -> None:
        group = self.create_group(backend, 2, chord=False)
        assert backend.load_group(group.group_uuid).callback is None

    def test_a_group_that_is_not_there_is_not_found(self, backend: Backend) -> None:
        missing = "group_" + self.new_id()
        with raises(GroupNotFound, missing):
            backend.load_group(missing)
        with raises(GroupNotFound, missing):
            backend.claim_chord(missing, self.new_id())
        assert backend.finish_members([(missing, self.new_id())]) == [0]

    def test_finished_members_are_counted(self, backend: Backend) -> None:
        group = self.create_group(backend, 4)
        first, *others = group.task_uuids
        assert backend.finish_members([(group.group_uuid, first)]) == [1]
        counts = backend.finish_members([(group.group_uuid, uuid) for uuid in others])
        assert counts[-1] == 4
        assert sorted(counts) == counts

    def test_a_member_counts_once(self, backend: Backend) -> None:
        group = self.create_group(backend, 3)
        first, second, _ = group.task_uuids
        for _ in range(3):
            assert backend.finish_members([(group.group_uuid, first)]) == [1]
        assert backend.finish_members([(group.group_uuid, second)] * 2)[-1] == 2
        assert backend.finish_members([]) == []

    def test_a_batch_may_finish_members_of_several_groups(self, backend: Backend) -> None:
        one, other = self.create_group(backend, 2), self.create_group(backend, 3)
        pairs = [(group.group_uuid, uuid) for group in (one, other) for uuid in group.task_uuids]
        pairs.insert(2, ("group_missing_" + self.new_id(), self.new_id()))
        counts = backend.finish_members(pairs)
        assert len(counts) == 6
        assert (counts[1], counts[2], counts[5]) == (2, 0, 3)

    def test_members_that_finish_at_the_same_moment_are_all_counted(self, backend: Backend) -> None:
        group = self.create_group(backend, 32)
        counts = in_threads(32, lambda number: backend.finish_members([(group.group_uuid, group.task_uuids[number])]))
        assert sorted(counts) == [[number] for number in range(1, 33)]

    def test_exactly_one_claims_a_chord(self, backend: Backend, make_backend: Callable[..., Backend]) -> None:
        group = self.create_group(backend, CLAIMANTS)
        backends = [backend, make_backend()]
        claims = in_threads(
            CLAIMANTS, lambda number: backends[number % 2].claim_chord(group.group_uuid, group.task_uuids[number])
        )
        assert Counter(claims) == {True: 1, False: CLAIMANTS - 1}
        winner = group.task_uuids[claims.index(True)]
        for uuid in group.task_uuids:
            assert backend.claim_chord(group.group_uuid, uuid) is (uuid == winner)

    def test_a_claimed_chord_is_marked(self, backend: Backend) -> None:
        group = self.create_group(backend, 2)
        assert backend.claim_chord(group.group_uuid, group.task_uuids[1])
        found = backend.load_group(group.group_uuid)
        assert found.meta.chord_triggered
        assert found.meta.task_uuids == group.task_uuids
        assert found.callback is not None

    def test_a_group_that_is_created_again_starts_afresh(self, backend: Backend) -> None:
        group = self.create_group(backend, 2)
        first, second = group.task_uuids
        backend.finish_members([(group.group_uuid, first)])
        assert backend.claim_chord(group.group_uuid, first)
        backend.create_group(group, Signature("another", uuid=self.new_id()))
        found = backend.load_group(group.group_uuid)
        assert not found.meta.chord_triggered
        assert found.callback is not None
        assert found.callback.name == "another"
        assert backend.finish_members([(group.group_uuid, second)]) == [1]
        assert backend.claim_chord(group.group_uuid, second)

    def test_open_chords_are_listed_longest_idle_first(self, backend: Backend) -> None:
        _only_if_listed(backend)
        first = self.create_group(backend, 2)
        a_moment_later()
        second = self.create_group(backend, 2)
        plain = self.create_group(backend, 2, chord=False)
        assert _listed(backend, first, second, plain) == [first.group_uuid, second.group_uuid]
        a_moment_later()
        backend.finish_members([(first.group_uuid, first.task_uuids[0])])
        assert _listed(backend, first, second, plain) == [second.group_uuid, first.group_uuid]
        assert len(backend.open_groups(now() + MINUTE, 1)) == 1

    def test_a_chord_in_which_something_happened_is_not_idle(self, backend: Backend) -> None:
        _only_if_listed(backend)
        group = self.create_group(backend, 2)
        assert group.group_uuid not in backend.open_groups(now() - MINUTE, LARGEST_TRIED)

    def test_a_closed_group_is_listed_no_more_and_can_be_read(self, backend: Backend) -> None:
        group = self.create_group(backend, 2)
        backend.close_group(group.group_uuid)
        backend.close_group(group.group_uuid)
        assert _listed(backend, group) == []
        assert backend.load_group(group.group_uuid).meta.task_uuids == group.task_uuids

    def test_a_large_group_is_kept_whole(self, backend: Backend) -> None:
        count = min(2000, backend.capabilities.largest_group or 2000)
        group = self.create_group(backend, count)
        assert backend.load_group(group.group_uuid).meta.task_uuids == group.task_uuids
        counts = backend.finish_members([(group.group_uuid, uuid) for uuid in group.task_uuids])
        assert counts[-1] == count

    def test_a_group_that_is_too_large_is_refused(self, backend: Backend) -> None:
        limit = backend.capabilities.largest_group
        only_if(limit is not None and limit <= LARGEST_TRIED, "no limit, or none that a test should reach for")
        with raises(GroupTooLarge):
            self.create_group(backend, (limit or 0) + 1)

    def test_a_backend_that_cannot_list_chords_lists_none(self, backend: Backend) -> None:
        only_if(not backend.capabilities.lists_open_groups, "the backend lists chords")
        self.create_group(backend, 2)
        assert backend.open_groups(now() + MINUTE, 10) == []


def _only_if_listed(backend: Backend) -> None:
    only_if(backend.capabilities.lists_open_groups, "the backend cannot list chords")


def _listed(backend: Backend, *groups: GroupMeta) -> list[str]:
    """Which of these groups are listed as open, in that order."""
    ours = {group.group_uuid for group in groups}
    return [group_uuid for group_uuid in backend.open_groups(now() + MINUTE, LARGEST_TRIED) if group_uuid in ours]
