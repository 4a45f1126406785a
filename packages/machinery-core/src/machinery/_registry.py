"""The functions that a server knows by name."""

from __future__ import annotations

from typing import Any

from machinery._task import Task
from machinery.errors import TaskAlreadyRegistered


class Registry:
    """Task name → `Task`. Read from many threads; written while the application is set up."""

    def __init__(self) -> None:
        self._tasks: dict[str, Task[..., Any, Any]] = {}

    def add(self, task: Task[..., Any, Any]) -> None:
        """Register ``task``. Registering the same function again is fine; another one is `TaskAlreadyRegistered`."""
        known = self._tasks.get(task.name)
        if known is not None and known.function is not task.function:
            raise TaskAlreadyRegistered(
                f"a task named {task.name!r} is registered already ({_where(known)}); give {_where(task)} another name"
            )
        self._tasks[task.name] = task

    def find(self, name: str) -> Task[..., Any, Any] | None:
        """The task of that name, if there is one."""
        return self._tasks.get(name)

    def names(self) -> list[str]:
        """Every registered name, sorted."""
        return sorted(self._tasks)


def _where(task: Task[..., Any, Any]) -> str:
    return f"{task.function.__module__}.{getattr(task.function, '__qualname__', task.name)}"
