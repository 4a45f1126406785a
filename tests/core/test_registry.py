"""The functions that a server knows by name."""

from __future__ import annotations

from typing import Any

import pytest

from machinery import Task
from machinery._registry import Registry
from machinery.errors import TaskAlreadyRegistered


def one() -> None: ...


def two() -> None: ...


def test_a_task_is_found_by_its_name() -> None:
    registry = Registry()
    task: Task[..., Any, Any] = Task(one, "one")
    registry.add(task)
    assert registry.find("one") is task
    assert registry.find("two") is None


def test_names_are_sorted() -> None:
    registry = Registry()
    for name in ("b", "a"):
        registry.add(Task(one, name))
    assert registry.names() == ["a", "b"]


def test_another_function_of_a_known_name_is_refused_and_both_are_named() -> None:
    registry = Registry()
    registry.add(Task(one, "same"))
    with pytest.raises(TaskAlreadyRegistered, match=r"'same'.*test_registry\.one.*test_registry\.two"):
        registry.add(Task(two, "same"))


def test_the_same_function_may_be_registered_again() -> None:
    registry = Registry()
    registry.add(Task(one, "same"))
    again: Task[..., Any, Any] = Task(one, "same").options(retry_count=1)
    registry.add(again)
    assert registry.find("same") is again
