"""Closing: what is stored stays, and a closed backend says that it is closed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from machinery.errors import Closed
from machinery.testing._backend._suite import BackendSuite, now, succeeded
from machinery.testing._expectations import raises

if TYPE_CHECKING:
    from collections.abc import Callable

    from machinery.abc import Backend


class Lifecycle(BackendSuite):
    """`Backend.close`."""

    def test_a_closed_backend_says_so(self, make_backend: Callable[..., Backend]) -> None:
        backend = make_backend()
        group = self.create_group(backend, 1)
        uuid = group.task_uuids[0]
        backend.close()
        backend.close()
        calls: list[Callable[[], object]] = [
            lambda: self.submit(backend, uuid),
            lambda: backend.save([succeeded(uuid)]),
            lambda: backend.load([uuid]),
            lambda: backend.wait([uuid], 0),
            lambda: backend.forget([uuid]),
            lambda: backend.create_group(group),
            lambda: backend.load_group(group.group_uuid),
            lambda: backend.finish_members([(group.group_uuid, uuid)]),
            lambda: backend.claim_chord(group.group_uuid, uuid),
            lambda: backend.close_group(group.group_uuid),
        ]
        if backend.capabilities.lists_open_groups:
            calls.append(lambda: backend.open_groups(now(), 1))
        for call in calls:
            with raises(Closed):
                call()

    def test_what_was_stored_outlives_the_backend_that_stored_it(
        self, backend: Backend, make_backend: Callable[..., Backend]
    ) -> None:
        uuid = self.new_id()
        writer = make_backend()
        stored = writer.save([succeeded(uuid, 7)])
        writer.close()
        assert backend.load([uuid]) == stored

    def test_capabilities_do_not_change(self, backend: Backend) -> None:
        before = backend.capabilities
        self.submit(backend, self.new_id())
        assert backend.capabilities == before
