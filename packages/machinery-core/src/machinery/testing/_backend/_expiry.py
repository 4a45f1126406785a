"""Records go away some time after their last write. This takes real seconds: no service lets its clock be turned."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import TYPE_CHECKING

from machinery.abc import State, TaskState
from machinery.errors import GroupNotFound
from machinery.testing._backend._suite import BackendSuite, failed, state_of, succeeded
from machinery.testing._expectations import Stopwatch, eventually, only_if

if TYPE_CHECKING:
    from collections.abc import Callable

    from machinery.abc import Backend

LIFE = timedelta(seconds=2)
"""Services count in whole seconds; one of them may be nearly over when it begins."""


class Expiry(BackendSuite):
    """`Config.results_expire_in` and `Config.group_expire_in`."""

    def test_a_record_goes_away_when_its_time_is_over(self, make_backend: Callable[..., Backend]) -> None:
        backend = _short_lived(make_backend)
        pending, done = self.new_ids(2)
        self.submit(backend, pending)
        backend.save([succeeded(done, 7)])
        assert state_of(backend, pending).state is State.PENDING
        eventually(lambda: backend.load([pending, done]) == [None, None])
        (stored,) = backend.save([failed(done)])  # what is gone is no obstacle
        assert stored.is_failure
        assert state_of(backend, done).is_failure

    def test_every_write_renews_a_records_time(self, make_backend: Callable[..., Backend]) -> None:
        backend = _short_lived(make_backend)
        uuid = self.new_id()
        self.submit(backend, uuid)
        watch = Stopwatch()
        while watch.seconds < LIFE.total_seconds() * 1.5:
            _let_pass(LIFE / 8)
            backend.save([TaskState(uuid, "", State.STARTED)])
        assert state_of(backend, uuid).state is State.STARTED

    def test_an_open_chord_keeps_what_its_finished_members_returned(self, make_backend: Callable[..., Backend]) -> None:
        self._check_that_members_are_kept(make_backend, chord=True)

    def test_an_open_group_keeps_what_its_finished_members_returned(self, make_backend: Callable[..., Backend]) -> None:
        self._check_that_members_are_kept(make_backend, chord=False)

    def _check_that_members_are_kept(self, make_backend: Callable[..., Backend], *, chord: bool) -> None:
        backend = _short_lived(make_backend)
        group = self.create_group(backend, 2, chord=chord)
        member = group.task_uuids[0]
        backend.save([succeeded(member, 7)])
        backend.finish_members([(group.group_uuid, member)])
        _let_pass(LIFE * 1.6)
        assert state_of(backend, member).is_success
        backend.close_group(group.group_uuid)
        assert state_of(backend, member).is_success
        eventually(lambda: backend.load([member]) == [None])
        eventually(lambda: not _exists(backend, group.group_uuid))

    def test_an_open_group_goes_away_when_nothing_happens_in_it(self, make_backend: Callable[..., Backend]) -> None:
        backend = _short_lived(make_backend, group_expire_in=LIFE)
        group = self.create_group(backend, 2)
        assert _exists(backend, group.group_uuid)
        eventually(lambda: not _exists(backend, group.group_uuid))
        assert backend.finish_members([(group.group_uuid, group.task_uuids[0])]) == [0]


def _short_lived(make_backend: Callable[..., Backend], **config: timedelta) -> Backend:
    backend = make_backend(results_expire_in=LIFE, **config)
    only_if(backend.capabilities.expires, "records do not expire")
    return backend


def _exists(backend: Backend, group_uuid: str) -> bool:
    try:
        backend.load_group(group_uuid)
    except GroupNotFound:
        return False
    return True


def _let_pass(span: timedelta) -> None:
    threading.Event().wait(span.total_seconds())
