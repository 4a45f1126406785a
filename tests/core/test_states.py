"""What a result backend remembers."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import FrozenInstanceError, replace
from datetime import UTC, datetime
from pickle import dumps, loads

import pytest

from machinery._states import GroupMeta, State, TaskResult, TaskState
from machinery._times import ZERO_TIME

CREATED = datetime(2024, 3, 1, tzinfo=UTC)
DONE = TaskState("a", "add", State.SUCCESS, (TaskResult("int64", 3),), "", CREATED, 5, 1)


def test_success_and_failure_are_final_and_nothing_else_is() -> None:
    assert [state for state in State if state.is_final] == [State.SUCCESS, State.FAILURE]
    assert [state for state in State if TaskState("a", state=state).is_completed] == [State.SUCCESS, State.FAILURE]
    assert DONE.is_success
    assert not DONE.is_failure
    assert TaskState("a", state=State.FAILURE).is_failure


def test_a_record_is_pending_and_without_origin_unless_it_says_otherwise() -> None:
    state = TaskState("a")

    assert (state.state, state.results, state.created_at, state.crashes) == (State.PENDING, None, ZERO_TIME, 0)


def test_a_record_keeps_the_name_and_the_creation_time_of_the_one_before() -> None:
    later = TaskState("a", state=State.SUCCESS, results=())

    kept = later.with_origin_of(TaskState("a", "add", State.STARTED, created_at=CREATED))

    assert kept == TaskState("a", "add", State.SUCCESS, (), created_at=CREATED)
    assert DONE.with_origin_of(TaskState("a")) == DONE


def test_records_are_frozen_values() -> None:
    for value in (DONE, TaskResult("int64", 3), GroupMeta("g", ("a", "b"), created_at=CREATED)):
        assert deepcopy(value) == loads(dumps(value)) == value  # noqa: S301 - our own
        assert hash(value) == hash(deepcopy(value))
    assert replace(DONE, error="x") != DONE
    assert repr(TaskResult("int64", 3)) == "TaskResult(type='int64', value=3)"
    with pytest.raises(FrozenInstanceError):
        DONE.error = "x"  # type: ignore[misc]  # that is the point
