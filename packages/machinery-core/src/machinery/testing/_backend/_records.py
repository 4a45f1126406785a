"""Records of tasks: written, read back whole, kept once they are final."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from machinery._values import decode_value
from machinery.abc import State, TaskResult, TaskState
from machinery.errors import ResultTooLarge
from machinery.testing._backend._suite import NAME, BackendSuite, failed, now, state_of, succeeded
from machinery.testing._expectations import in_threads, only_if, raises

if TYPE_CHECKING:
    from collections.abc import Callable

    from machinery.abc import Backend

WRITERS = 16
LARGEST_TRIED = 64 * 1024 * 1024

VALUES: list[tuple[str, Any]] = [
    ("int64", -(2**63)),
    ("int64", 2**63 - 1),
    ("uint64", 2**64 - 1),
    ("float64", 0.1),
    ("float64", 2.0),
    ("bool", False),
    ("string", 'naïve ✓ "quoted" \n\t\0 <&>'),
    ("[]uint8", bytes(range(256))),
    ("[]int64", [1, -2, 3]),
    ("[]int64", []),
    ("[]string", ["", "ü"]),
    ("[]float64", [1.5, 2.0]),
    ("[]bool", [True, False]),
    ("json", {"nested": [1, None, {"deep": "ok"}], "ключ": True}),
    ("json", None),
]


class Records(BackendSuite):
    """`Backend.submit`, `Backend.save`, `Backend.load` and `Backend.forget`."""

    def test_a_submitted_record_is_pending(self, backend: Backend) -> None:
        uuid = self.new_id()
        sent = now()
        backend.submit([TaskState(uuid, NAME, created_at=sent)])
        found = state_of(backend, uuid)
        assert found.task_uuid == uuid
        assert found.task_name == NAME
        assert found.state is State.PENDING
        assert found.results is None
        assert not found.error
        assert found.created_at == sent
        assert found.crashes == 0

    def test_records_are_loaded_in_the_order_asked_for(self, backend: Backend) -> None:
        first, second, missing = self.new_ids(3)
        self.submit(backend, first, second)
        found = backend.load([second, missing, first, second])
        assert [state.task_uuid if state else None for state in found] == [second, None, first, second]
        assert backend.load([]) == []

    def test_every_state_is_kept(self, backend: Backend) -> None:
        for state in State:
            uuid = self.new_id()
            self.submit(backend, uuid)
            backend.save([TaskState(uuid, "", state)])
            assert state_of(backend, uuid).state is state

    def test_results_are_kept_whole(self, backend: Backend) -> None:
        uuid = self.new_id()
        self.submit(backend, uuid)
        results = tuple(TaskResult(name, value) for name, value in VALUES)
        backend.save([TaskState(uuid, "", State.SUCCESS, results)])
        found = state_of(backend, uuid).results or ()
        assert [result.type for result in found] == [name for name, _ in VALUES]
        assert [decode_value(result.type, result.value) for result in found] == [value for _, value in VALUES]

    def test_a_result_stays_what_it_was_when_it_was_saved(self, backend: Backend) -> None:
        uuid = self.new_id()
        returned = [1, 2]
        backend.save([TaskState(uuid, "", State.SUCCESS, (TaskResult("[]int64", returned),))])
        returned.append(3)
        for _ in range(2):
            (result,) = state_of(backend, uuid).results or ()
            assert result.value == [1, 2]
            result.value.append(4)

    def test_a_task_that_returned_nothing_has_no_results_but_is_successful(self, backend: Backend) -> None:
        uuid = self.new_id()
        self.submit(backend, uuid)
        backend.save([succeeded(uuid)])
        found = state_of(backend, uuid)
        assert found.is_success
        assert found.results == ()

    def test_the_text_of_a_failure_is_kept(self, backend: Backend) -> None:
        uuid = self.new_id()
        text = "naïve ✓ failure\n" + "long " * 2000
        backend.save([failed(uuid, text)])
        found = state_of(backend, uuid)
        assert found.is_failure
        assert found.error == text
        assert not found.results

    def test_saving_keeps_the_name_and_the_time_of_sending(self, backend: Backend) -> None:
        uuid = self.new_id()
        self.submit(backend, uuid)
        sent = state_of(backend, uuid).created_at
        for state in (State.RECEIVED, State.STARTED, State.RETRY, State.SUCCESS):
            (stored,) = backend.save([TaskState(uuid, "", state, created_at=now())])
            assert (stored.state, stored.task_name, stored.created_at) == (state, NAME, sent)
            assert state_of(backend, uuid) == stored

    def test_a_record_needs_no_submission(self, backend: Backend) -> None:
        # A message that was put on the queue by hand.
        uuid = self.new_id()
        (stored,) = backend.save([TaskState(uuid, NAME, State.STARTED)])
        assert stored.task_name == NAME
        assert state_of(backend, uuid).state is State.STARTED

    def test_save_answers_in_the_order_given(self, backend: Backend) -> None:
        ids = self.new_ids(5)
        self.submit(backend, *ids)
        stored = backend.save([succeeded(uuid, number) for number, uuid in enumerate(ids)])
        assert [state.task_uuid for state in stored] == ids
        assert backend.load(ids) == stored

    def test_the_first_final_record_wins(self, backend: Backend) -> None:
        for first, second in ((succeeded, failed), (failed, succeeded), (succeeded, succeeded)):
            uuid = self.new_id()
            self.submit(backend, uuid)
            (winner,) = backend.save([first(uuid)])
            (answer,) = backend.save([second(uuid)])
            assert answer == winner
            assert (winner.was_final, answer.was_final) == (False, True)
            assert state_of(backend, uuid) == winner

    def test_a_final_record_that_was_there_is_told_from_one_that_says_the_same(self, backend: Backend) -> None:
        uuid = self.new_id()
        self.submit(backend, uuid)
        answers = [backend.save([succeeded(uuid, 7)])[0] for _ in range(3)]
        assert [answer.was_final for answer in answers] == [False, True, True]
        assert not state_of(backend, uuid).was_final

    def test_a_final_record_never_goes_back(self, backend: Backend) -> None:
        uuid = self.new_id()
        self.submit(backend, uuid)
        (final,) = backend.save([succeeded(uuid, 7)])
        for state in (State.RECEIVED, State.STARTED, State.RETRY):
            assert backend.save([TaskState(uuid, "", state)]) == [final]
        assert state_of(backend, uuid) == final

    def test_the_first_final_record_wins_within_a_batch_too(self, backend: Backend) -> None:
        uuid = self.new_id()
        self.submit(backend, uuid)
        stored = backend.save([TaskState(uuid, "", State.STARTED), succeeded(uuid, 7), failed(uuid)])
        assert [state.state for state in stored[1:]] == [State.SUCCESS, State.SUCCESS]
        assert state_of(backend, uuid) == stored[1]

    def test_exactly_one_of_many_writers_wins_and_all_are_told_who(self, backend: Backend) -> None:
        for _ in range(5):
            uuid = self.new_id()
            self.submit(backend, uuid)

            def save(number: int, uuid: str = uuid) -> list[TaskState]:
                return backend.save([succeeded(uuid, number)])

            answers = in_threads(WRITERS, save)
            winner = state_of(backend, uuid)
            assert answers == [[winner]] * WRITERS

    def test_submitting_again_starts_afresh(self, backend: Backend) -> None:
        uuid = self.new_id()
        for final in (succeeded(uuid, 7), failed(uuid)):
            self.submit(backend, uuid)
            backend.save([final])
            sent = now()
            backend.submit([TaskState(uuid, "renamed", created_at=sent)])
            found = state_of(backend, uuid)
            assert (found.state, found.task_name, found.created_at) == (State.PENDING, "renamed", sent)
            assert not found.results
            assert not found.error
            (stored,) = backend.save([succeeded(uuid, 8)])
            assert stored.is_success

    def test_the_count_of_crashes_is_kept(self, backend: Backend) -> None:
        uuid = self.new_id()
        self.submit(backend, uuid)
        backend.save([TaskState(uuid, "", State.STARTED, crashes=2)])
        assert state_of(backend, uuid).crashes == 2

    def test_forgotten_records_are_gone(self, backend: Backend) -> None:
        gone, kept, missing = self.new_ids(3)
        self.submit(backend, gone, kept)
        backend.forget([gone, missing])
        backend.forget([])
        assert backend.load([gone]) == [None]
        assert state_of(backend, kept).state is State.PENDING

    def test_a_batch_of_thousands_is_stored_whole(self, backend: Backend) -> None:
        ids = self.new_ids(2000)
        self.submit(backend, *ids)
        stored = backend.save([succeeded(uuid, number) for number, uuid in enumerate(ids)])
        assert backend.load(ids) == stored
        backend.forget(ids)
        assert backend.load(ids) == [None] * 2000

    def test_an_empty_batch_is_stored_without_effect(self, backend: Backend) -> None:
        backend.submit([])
        assert backend.save([]) == []

    def test_records_pass_between_backends_on_one_store(
        self, backend: Backend, make_backend: Callable[..., Backend]
    ) -> None:
        uuid = self.new_id()
        self.submit(backend, uuid)
        (stored,) = make_backend().save([succeeded(uuid, 7)])
        assert backend.load([uuid]) == [stored]

    def test_a_record_that_is_too_large_is_refused_by_id_and_the_others_are_stored(self, backend: Backend) -> None:
        limit = backend.capabilities.largest_record
        only_if(limit is not None and limit <= LARGEST_TRIED, "no limit, or none that a test should reach for")
        small, large, other = self.new_ids(3)
        self.submit(backend, small, large, other)
        text = TaskResult("string", "x" * ((limit or 0) + 1))
        with raises(ResultTooLarge) as caught:
            backend.save([succeeded(small), TaskState(large, "", State.SUCCESS, (text,)), succeeded(other)])
        assert caught.value.ids == (large,)
        assert state_of(backend, small).is_success
        assert state_of(backend, large).state is State.PENDING
        assert state_of(backend, other).is_success
