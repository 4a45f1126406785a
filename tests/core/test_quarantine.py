"""Tasks that keep being there when workers crash: told apart one by one, the innocent from the guilty."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from machinery import Server, Signature, State, TaskState
from machinery._worker._run import Run
from machinery.wire import encode_signature
from tests.core.observed import Journal, ObservedBackend
from tests.core.worker_parts import Parts, delivery_of


@pytest.fixture
def parts(server: Server) -> Iterator[Parts]:
    @server.task
    def noop() -> None:
        pass

    made = Parts(server, slots=4)
    yield made
    made.stop()


def redelivered(parts: Parts, backend: ObservedBackend, crashes: int, *numbers: int) -> list[Run]:
    """What is started of tasks that were there at so many crashes."""
    signatures = [Signature("noop", uuid=f"task_{number}") for number in numbers]
    backend.submit([TaskState(signature.uuid) for signature in signatures])
    backend.save([TaskState(signature.uuid, state=State.STARTED, crashes=crashes - 1) for signature in signatures])
    deliveries = [delivery_of(encode_signature(signature), redelivered=True) for signature in signatures]
    return parts.fetcher._sorter.sort_out(deliveries, 0)


def test_after_a_first_crash_all_of_them_run_together(parts: Parts, backend: ObservedBackend) -> None:
    assert len(redelivered(parts, backend, 1, 1, 2, 3)) == 3


def test_after_a_second_crash_they_run_one_at_a_time(parts: Parts, backend: ObservedBackend, journal: Journal) -> None:
    # Given three tasks that were there at two crashes
    (first,) = redelivered(parts, backend, 2, 1, 2, 3)
    assert first.crashes == 2
    assert [entry.split()[0] for entry in journal.of("postpone")] == ["postpone"] * 2

    # When one of the others comes back too early, it has to wait
    assert redelivered(parts, backend, 2, 2) == []

    # Then its turn comes when the first is settled
    parts.executor.run_here(first)
    parts.settler.settle([first])
    (second,) = redelivered(parts, backend, 2, 2)
    assert second.signature.uuid == "task_2"


def test_waiting_for_its_turn_does_not_count_as_a_crash(parts: Parts, backend: ObservedBackend) -> None:
    redelivered(parts, backend, 2, 1)
    assert redelivered(parts, backend, 2, 2) == []
    (state,) = backend.load(["task_2"])
    assert state is not None
    assert state.crashes == 1


def test_what_is_handed_back_leaves_the_place_to_others(parts: Parts, backend: ObservedBackend) -> None:
    parts.fetcher.hand_back(redelivered(parts, backend, 2, 1))
    assert len(redelivered(parts, backend, 2, 2)) == 1
