"""From a function to a task of a server."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, overload

from machinery._task import Parameters, Task, TaskContext
from machinery._task_options import RegisterOptions, RunOptions, TaskOptions, run_options, task_options
from machinery.errors import ConfigError

if TYPE_CHECKING:
    from machinery._server import Server

P = ParamSpec("P")
R = TypeVar("R")
F = Callable[..., Any]


class TaskDecorator:
    """What ``@server.task(…)`` with options returns: registers the function below it."""

    def __init__(self, server: Server, name: str, options: RegisterOptions) -> None:
        self._server = server
        self._name = name
        self._options = options

    @overload
    def __call__(
        self, function: Callable[Concatenate[TaskContext, P], Coroutine[Any, Any, R]], /
    ) -> Task[P, R, Coroutine[Any, Any, R]]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[TaskContext, P], R], /) -> Task[P, R, R]: ...
    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Task[P, R, Coroutine[Any, Any, R]]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Task[P, R, R]: ...
    def __call__(self, function: F, /) -> Any:
        """Register ``function``."""
        return self._server.register_task(self._name or getattr(function, "__name__", ""), function, **self._options)


def to_task_of(server: Server, name: str, function: F, options: Mapping[str, Any]) -> Task[..., Any, Any]:
    """``function`` as a task of ``server``, not yet in its registry. Raises `TypeError`, and `ConfigError` without a name."""
    if isinstance(function, Task):
        function = function.function
    if not callable(function):
        raise TypeError(f"a task is a function, not {type(function).__name__}")
    if not name:
        raise ConfigError("a task needs a name: its function has none, so say server.task(name=…)")
    theirs = {key: value for key, value in options.items() if key not in RunOptions.__dataclass_fields__}
    return Task[..., Any, Any](
        function,
        name,
        server=server,
        options=task_options(TaskOptions(), theirs),
        run_options=run_options(name, options),
        parameters=Parameters(function, name),
    )
