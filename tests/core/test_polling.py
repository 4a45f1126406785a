"""Waiting by looking, for stores that tell nobody."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest

from machinery import State, TaskState
from machinery._polling import SHORTEST_PAUSE
from machinery.abc import poll
from machinery.errors import BackendUnavailable

RUNNING = TaskState("u1", "", State.STARTED)
DONE = TaskState("u1", "", State.SUCCESS, ())


class Store:
    """Answers each look with the next of ``answers`` for every id, and notes what was asked for."""

    def __init__(self, *answers: TaskState | None) -> None:
        self._answers = list(answers)
        self.asked: list[list[str]] = []

    def load(self, ids: Sequence[str]) -> list[TaskState | None]:
        self.asked.append([*ids])
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return [answer] * len(ids)


def test_what_is_final_ends_the_waiting() -> None:
    store = Store(None, RUNNING, DONE)
    assert poll(store.load, ["u1"], 30, 0.5) == [DONE]
    assert store.asked == [["u1"]] * 3


def test_what_was_final_is_not_asked_for_again_nor_what_is_named_twice() -> None:
    answers: dict[str, list[TaskState | None]] = {"a": [DONE], "b": [None, RUNNING, DONE]}
    asked: list[list[str]] = []

    def load(ids: Sequence[str]) -> list[TaskState | None]:
        asked.append([*ids])
        return [answers[uuid].pop(0) for uuid in ids]

    assert poll(load, ["b", "a", "b"], 30, 0.5) == [DONE, DONE, DONE]
    assert asked == [["b", "a"], ["b"], ["b"]]


def test_without_time_there_is_one_look() -> None:
    store = Store(RUNNING)
    assert poll(store.load, ["u1", "u2"], 0, 0.5) == [RUNNING, RUNNING]
    assert len(store.asked) == 1


def test_nothing_to_wait_for_is_no_wait() -> None:
    assert poll(Store(None).load, [], 30, 0.5) == []


@pytest.mark.parametrize("interval", [0.0, 0.001, 0.02])
def test_looks_are_no_closer_than_the_shortest_pause_and_no_farther_apart_than_asked_for(interval: float) -> None:
    pauses: list[float] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "sleep", pauses.append)
        poll(Store(*[None] * 30, DONE).load, ["u1"], 30, interval)
    assert pauses[0] == SHORTEST_PAUSE
    assert pauses[-1] == max(interval, SHORTEST_PAUSE)
    assert sorted(pauses) == pauses


def test_an_error_ends_the_waiting() -> None:
    def load(ids: Sequence[str]) -> list[TaskState | None]:
        raise BackendUnavailable("away")

    with pytest.raises(BackendUnavailable):
        poll(load, ["u1"], 30, 0.5)
