"""Records go away some time after their last write. This takes real seconds: no service lets its clock be turned."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import TYPE_CHECKING

from machinery.abc import State, TaskState
from machinery.errors import GroupNotFound
from machinery.testing._backend._suite import NAME, BackendSuite, failed, succeeded
from machinery.testing._expectations import Stopwatch, eventually, only_if

if TYPE_CHECKING:
    from collections.abc import Callable

    from machinery.abc import Backend, GroupMeta

LIFE = timedelta(seconds=2)
"""Services count in whole seconds; one of them may be nearly over when it begins."""
SURE = LIFE.total_seconds() - 1
"""Seconds that it lasts in any case. Where a busy machine took longer from a write to a look, what is gone says nothing."""


class Expiry(BackendSuite):
    """`Config.results_expire_in` and `Config.group_expire_in`."""

    def test_a_record_goes_away_when_its_time_is_over(self, make_backend: Callable[..., Backend]) -> None:
        backend = _short_lived(make_backend)
        pending, done = self.new_ids(2)
        backend.save([succeeded(done, 7)])
        assert _seen(backend, pending, lambda: self.submit(backend, pending)).state is State.PENDING
        eventually(lambda: backend.load([pending, done]) == [None, None])

        def save_again() -> None:
            (stored,) = backend.save([failed(done)])  # what is gone is no obstacle
            assert stored.is_failure

        assert _seen(backend, done, save_again).is_failure

    def test_every_write_renews_a_records_time(self, make_backend: Callable[..., Backend]) -> None:
        backend = _short_lived(make_backend)

        def write_for_longer_than_it_lasts() -> TaskState | None:
            uuid = self.new_id()
            watch = since_write = Stopwatch()
            self.submit(backend, uuid)
            longest = 0.0
            while watch.seconds < LIFE.total_seconds() * 1.5:
                _let_pass(LIFE / 8)
                before, since_write = since_write, Stopwatch()
                backend.save([TaskState(uuid, "", State.STARTED)])
                longest = max(longest, before.seconds)
            (state,) = backend.load([uuid])
            is_first = state is not None and state.task_name == NAME  # a record that was made anew has no name
            assert is_first or max(longest, since_write.seconds) >= SURE, f"{state} is not what was submitted"
            return state if is_first else None

        state = eventually(write_for_longer_than_it_lasts)
        assert state is not None
        assert state.state is State.STARTED

    def test_an_open_chord_keeps_what_its_finished_members_returned(self, make_backend: Callable[..., Backend]) -> None:
        self._check_that_members_are_kept(make_backend, chord=True)

    def test_an_open_group_keeps_what_its_finished_members_returned(self, make_backend: Callable[..., Backend]) -> None:
        self._check_that_members_are_kept(make_backend, chord=False)

    def _check_that_members_are_kept(self, make_backend: Callable[..., Backend], *, chord: bool) -> None:
        backend = _short_lived(make_backend)

        def keep_and_close() -> GroupMeta | None:
            group = self.create_group(backend, 2, chord=chord)
            member = group.task_uuids[0]
            watch = Stopwatch()
            backend.save([succeeded(member, 7)])
            backend.finish_members([(group.group_uuid, member)])
            is_late = watch.seconds >= SURE
            _let_pass(LIFE * 1.6)
            (kept,) = backend.load([member])
            watch = Stopwatch()
            backend.close_group(group.group_uuid)
            (left,) = backend.load([member])
            assert is_late or (kept and kept.is_success)
            is_late = is_late or watch.seconds >= SURE
            assert is_late or (left and left.is_success)
            return group if kept and left else None

        group = eventually(keep_and_close)
        assert group is not None
        member = group.task_uuids[0]
        eventually(lambda: backend.load([member]) == [None])
        eventually(lambda: not _exists(backend, group.group_uuid))

    def test_an_open_group_goes_away_when_nothing_happens_in_it(self, make_backend: Callable[..., Backend]) -> None:
        backend = _short_lived(make_backend, group_expire_in=LIFE)

        def create() -> GroupMeta | None:
            watch = Stopwatch()
            group = self.create_group(backend, 2)
            exists = _exists(backend, group.group_uuid)
            assert exists or watch.seconds >= SURE
            return group if exists else None

        group = eventually(create)
        assert group is not None
        eventually(lambda: not _exists(backend, group.group_uuid))
        assert backend.finish_members([(group.group_uuid, group.task_uuids[0])]) == [0]


def _short_lived(make_backend: Callable[..., Backend], **config: timedelta) -> Backend:
    backend = make_backend(results_expire_in=LIFE, **config)
    only_if(backend.capabilities.expires, "records do not expire")
    return backend


def _seen(backend: Backend, uuid: str, write: Callable[[], None]) -> TaskState:
    """The record right after it was written."""

    def look() -> TaskState | None:
        watch = Stopwatch()
        write()
        (state,) = backend.load([uuid])
        assert state or watch.seconds >= SURE, f"there is no record of {uuid}"
        return state

    state = eventually(look)
    assert state is not None
    return state


def _exists(backend: Backend, group_uuid: str) -> bool:
    try:
        backend.load_group(group_uuid)
    except GroupNotFound:
        return False
    return True


def _let_pass(span: timedelta) -> None:
    threading.Event().wait(span.total_seconds())
