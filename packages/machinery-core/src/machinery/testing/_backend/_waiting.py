"""Waiting for records to become final: woken by the save, or by the end of the time."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from machinery.abc import State, TaskState
from machinery.testing._backend._suite import BackendSuite, failed, state_of, succeeded
from machinery.testing._expectations import PATIENCE, QUIET, Stopwatch, in_background, in_threads, only_if

if TYPE_CHECKING:
    from collections.abc import Callable

    from machinery.abc import Backend

SOON = PATIENCE
"""Seconds within which what need not be waited for comes, on a busy machine; they all would wait for twice as long."""
NEVER = 60.0
"""An interval between looks that no test lives to see."""


class Waiting(BackendSuite):
    """`Backend.wait`."""

    def test_what_is_final_is_not_waited_for(self, backend: Backend) -> None:
        one, other = self.new_ids(2)
        backend.save([succeeded(one, 1), failed(other)])
        watch = Stopwatch()
        found = backend.wait([other, one, other], 30)
        assert watch.seconds < SOON
        assert found == [state_of(backend, other), state_of(backend, one), state_of(backend, other)]

    def test_there_may_be_nothing_to_wait_for(self, backend: Backend) -> None:
        assert backend.wait([], 30) == []

    def test_waiting_ends_with_its_time(self, backend: Backend) -> None:
        pending, done, missing = self.new_ids(3)
        self.submit(backend, pending)
        backend.save([succeeded(done)])
        watch = Stopwatch()
        found = backend.wait([pending, done, missing], QUIET)
        assert QUIET * 0.9 <= watch.seconds < QUIET + SOON
        assert [state.state if state else None for state in found] == [State.PENDING, State.SUCCESS, None]

    def test_waiting_with_no_time_looks_once(self, backend: Backend) -> None:
        pending = self.new_id()
        self.submit(backend, pending)
        watch = Stopwatch()
        assert backend.wait([pending], 0) == [state_of(backend, pending)]
        assert watch.seconds < SOON

    def test_a_save_ends_the_waiting(self, backend: Backend) -> None:
        uuid = self.new_id()
        self.submit(backend, uuid)
        with in_background(lambda: backend.wait([uuid], 30)) as waited:
            backend.save([TaskState(uuid, "", State.STARTED)])
            watch = Stopwatch()
            stored = backend.save([succeeded(uuid, 7)])
            assert waited() == stored
            assert watch.seconds < SOON

    def test_a_record_may_come_while_it_is_waited_for(self, backend: Backend) -> None:
        uuid = self.new_id()
        with in_background(lambda: backend.wait([uuid], 30)) as waited:
            stored = backend.save([failed(uuid)])
            assert waited() == stored

    def test_all_records_are_waited_for(self, backend: Backend) -> None:
        ids = self.new_ids(20)
        self.submit(backend, *ids)
        with in_background(lambda: backend.wait(ids, 30)) as waited:
            for uuid in reversed(ids):
                backend.save([succeeded(uuid)])
            assert [state.is_success for state in waited() if state is not None] == [True] * 20

    def test_a_save_through_another_backend_wakes_without_a_look(
        self, backend: Backend, make_backend: Callable[..., Backend]
    ) -> None:
        only_if(backend.capabilities.pushes, "the backend does not push")
        other = make_backend()
        for _ in range(5):
            uuid = self.new_id()
            self.submit(backend, uuid)
            with in_background(partial(backend.wait, [uuid], 30, NEVER)) as waited:
                watch = Stopwatch()
                stored = other.save([succeeded(uuid, 7)])
                assert waited() == stored
                assert watch.seconds < SOON

    def test_many_may_wait_for_different_records(self, backend: Backend) -> None:
        ids = self.new_ids(16)
        self.submit(backend, *ids)

        def wait_and_save(number: int) -> bool:
            # Each waits for the record that the next one saves; the last begins.
            if number < 15:
                (state,) = backend.wait([ids[number + 1]], 30)
                assert state is not None
                assert state.is_success
            (stored,) = backend.save([succeeded(ids[number])])
            return stored.is_success

        assert in_threads(16, wait_and_save) == [True] * 16

    def test_many_may_wait_for_the_same_record(self, backend: Backend) -> None:
        uuid = self.new_id()
        self.submit(backend, uuid)

        def wait_or_save(number: int) -> list[TaskState | None] | list[TaskState]:
            return backend.wait([uuid], 30) if number else backend.save([succeeded(uuid, 7)])

        answers = in_threads(8, wait_or_save)
        assert answers == [answers[0]] * 8
