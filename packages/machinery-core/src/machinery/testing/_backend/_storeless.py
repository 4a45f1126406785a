"""A backend that says it stores nothing must say so to whoever asks, and at once: no wrong answer, no endless wait."""

from __future__ import annotations

from typing import TYPE_CHECKING

from machinery._signatures import Signature
from machinery.abc import GroupMeta
from machinery.errors import Closed, ResultsNotStored
from machinery.testing._backend._suite import BackendSuite, now, succeeded
from machinery.testing._expectations import Stopwatch, raises

if TYPE_CHECKING:
    from machinery.abc import Backend


class StorelessBackendContract(BackendSuite):
    """The contract of a `machinery.abc.Backend` whose `BackendCapabilities.stores` is false, as tests. Fixture: ``backend``."""

    def test_it_says_that_it_stores_nothing(self, backend: Backend) -> None:
        assert not backend.capabilities.stores
        assert not backend.capabilities.pushes
        assert not backend.capabilities.lists_open_groups

    def test_records_are_taken_and_the_answer_is_what_was_given(self, backend: Backend) -> None:
        uuid = self.new_id()
        self.submit(backend, uuid)
        record = succeeded(uuid, 7)
        assert backend.save([record]) == [record]
        backend.forget([uuid])

    def test_whoever_reads_is_told_what_to_configure(self, backend: Backend) -> None:
        with raises(ResultsNotStored, "result_backend"):
            backend.load([self.new_id()])
        with raises(ResultsNotStored, "result_backend"):
            backend.load_group("group_1")

    def test_whoever_waits_is_told_at_once(self, backend: Backend) -> None:
        watch = Stopwatch()
        with raises(ResultsNotStored, "result_backend"):
            backend.wait([self.new_id()], 30)
        assert watch.seconds < 10

    def test_a_chord_is_refused_when_it_is_sent(self, backend: Backend) -> None:
        group = GroupMeta("group_1", tuple(self.new_ids(2)))
        with raises(ResultsNotStored, "result_backend"):
            backend.create_group(group, Signature("callback"))
        with raises(ResultsNotStored, "result_backend"):
            backend.claim_chord("group_1", group.task_uuids[0])

    def test_a_plain_group_passes_and_is_never_said_to_be_complete(self, backend: Backend) -> None:
        group = GroupMeta("group_1", tuple(self.new_ids(2)))
        backend.create_group(group)
        assert backend.finish_members([("group_1", uuid) for uuid in group.task_uuids]) == [0, 0]
        backend.close_group("group_1")
        assert backend.open_groups(now(), 10) == []

    def test_a_closed_backend_says_so(self, backend: Backend) -> None:
        backend.close()
        backend.close()
        with raises(Closed):
            backend.load([self.new_id()])
        with raises(Closed):
            self.submit(backend, self.new_id())
