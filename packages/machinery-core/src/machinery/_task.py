"""Tasks: what ``@server.task`` returns, and how a function's parameters meet a message's arguments."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Protocol, TypeVar, Unpack

from machinery._offloading import in_thread
from machinery._signatures import Signature, raw_signature, values_after_args
from machinery._task_options import RunOptions, SendOptions, TaskOptions, eta_of, headers_of, task_options
from machinery._values import Arg, decode_value, result_types, to_arg, typed_arg, wire_type
from machinery.errors import ArgumentError, EncodeError

if TYPE_CHECKING:
    from machinery._results import AsyncResult

P = ParamSpec("P")
R = TypeVar("R")
C_co = TypeVar("C_co", covariant=True)

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_CHECKED: dict[type, tuple[type, ...]] = {
    int: (int,),
    float: (float, int),
    str: (str,),
    bool: (bool,),
    bytes: (bytes,),
}
"""Annotations that a decoded argument is held against, as Go's call does (protocol §1.3)."""


@dataclass(frozen=True, slots=True)
class TaskContext:
    """What a task may ask about its own run: annotate the first parameter with it."""

    uuid: str = ""
    name: str = ""
    attempt: int = 1
    """Which run this is: 1 for the first."""
    headers: Mapping[str, Any] = field(default_factory=dict)
    signature: Signature | None = None
    """The signature as received; ``None`` when the function was called directly."""


class Sender(Protocol):
    """What a task needs of its server."""

    def send_task(self, signature: Signature) -> AsyncResult[Any]:
        """Send one signature."""


class Parameters:
    """A function's parameters: turns a call into arguments for the wire, and arguments from the wire into a call."""

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        self._name = name
        hints = _type_hints(function)
        parameters = list(inspect.signature(function).parameters.values())
        self.wants_context = bool(parameters) and hints.get(parameters[0].name) is TaskContext
        if self.wants_context:
            parameters = parameters[1:]
        self._signature = inspect.Signature(parameters)
        positional = [p for p in parameters if p.kind in _POSITIONAL]
        self._least = sum(p.default is p.empty for p in positional)
        self._most = len(positional)
        self._variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        self._by_keyword_only = any(p.kind is p.KEYWORD_ONLY and p.default is p.empty for p in parameters)
        self._takes_any_keyword = any(p.kind is p.VAR_KEYWORD for p in parameters)
        self._keywords = {p.name for p in parameters if p.kind in {p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY}}
        self._types = [_advice(hints.get(p.name)) for p in positional]
        self._names = [p.name for p in positional]
        tail = next((p for p in parameters if p.kind is p.VAR_POSITIONAL), None)
        self._tail_type = _advice(hints.get(tail.name)) if tail else None
        self._keyword_types = {p.name: _advice(hints.get(p.name)) for p in parameters}
        self._checks = [_CHECKED.get(hints.get(p.name, object)) for p in positional]
        self._tail_check = _CHECKED.get(hints.get(tail.name, object)) if tail else None
        self._checks_anything = any(self._checks) or self._tail_check is not None
        self.returns = result_types(hints.get("return"))

    def to_args(self, args: tuple[Any, ...], keywords: Mapping[str, Any], *, in_part: bool = False) -> tuple[Arg, ...]:
        """The call's arguments for the wire. Raises `EncodeError` for a call that the function could not take.

        ``in_part``: it may lack arguments, which come from the task before it: results behind these, an error in front.
        """
        name = self._name
        fits = self._least <= len(args) and (len(args) <= self._most or self._variadic) and not self._by_keyword_only
        if keywords or not fits:
            fits = self._require_call(args, keywords, in_part=in_part)
        if fits and self._checks_anything:
            self._check(args, EncodeError)
        types = self._types
        most = self._most
        made: list[Arg] = []
        for position, value in enumerate(args):
            advice = types[position] if position < most else self._tail_type
            if advice is None:
                made.append(to_arg(value, position, name))
            else:
                made.append(typed_arg(advice, value, position, name))
        for key, value in keywords.items():
            made.append(typed_arg(self._keyword_types.get(key), value, key, name))
        return tuple(made)

    def _require_call(self, args: Sequence[Any], keywords: Mapping[str, Any], *, in_part: bool) -> bool:
        """Whether the call is whole. Raises `EncodeError` when the function could not take it."""
        try:
            self._signature.bind(*args, **keywords)
        except TypeError as error:
            if in_part and self._could_become_whole(args, keywords):
                return False
            raise EncodeError(f"{self._name} cannot be called like this: {error}") from None
        return True

    def _could_become_whole(self, args: Sequence[Any], keywords: Mapping[str, Any]) -> bool:
        try:
            self._signature.bind_partial(*args, **keywords)
        except TypeError:
            return False
        return True

    def to_call(self, args: Iterable[Arg]) -> tuple[list[Any], dict[str, Any]]:
        """Positional and keyword arguments for the function. Raises `ArgumentError` (protocol §1.3, Go's texts).

        An argument's name makes it a keyword only where the function has such a parameter: Go's names are mere labels.
        """
        positional: list[Any] = []
        keywords: dict[str, Any] = {}
        for arg in args:
            value = decode_value(arg.type, arg.value)
            label = arg.name
            if label and (label in self._keywords or self._takes_any_keyword) and label not in keywords:
                keywords[label] = value
            else:
                positional.append(value)
        fits = self._least <= len(positional) and (len(positional) <= self._most or self._variadic)
        if keywords or not fits or self._by_keyword_only:
            self._require_fit(positional, keywords)
        if self._checks_anything:
            self._check(positional, ArgumentError)
        return positional, keywords

    def _require_fit(self, positional: Sequence[Any], keywords: Mapping[str, Any]) -> None:
        try:
            self._signature.bind(*positional, **keywords)
        except TypeError as error:
            raise ArgumentError(f"{self._name} cannot be called with these arguments: {error}") from None

    def _check(self, values: Sequence[Any], refusal: type[ArgumentError | EncodeError]) -> None:
        checks = self._checks
        most = self._most
        for position, value in enumerate(values):
            expected = checks[position] if position < most else self._tail_check
            if expected is None or type(value) is expected[0] or isinstance(value, Arg):
                continue
            if not isinstance(value, expected) or (isinstance(value, bool) and bool not in expected):
                label = repr(self._names[position]) if position < most else str(position + 1)
                raise refusal(
                    f"argument {label} of {self._name} is {type(value).__name__}, the function wants {expected[0].__name__}"
                )


def _type_hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function)
    except Exception:  # noqa: BLE001 - a name that only a type checker sees: go on with the hints that are objects already
        raw = getattr(function, "__annotations__", {})
        return {name: hint for name, hint in raw.items() if not isinstance(hint, str)}


def _advice(annotation: object) -> str | None:
    """The wire type where an annotation decides what a value leaves open (see `typed_arg`); ``None`` where it does not."""
    found = wire_type(annotation)
    return found if found == "float64" or (found or "").startswith("[]") else None


class Task(Generic[P, R, C_co]):
    """A registered task: callable as the function itself, and the maker of its signatures.

    ``R`` is what the task results in, ``C_co`` what calling it here and now returns (a coroutine for an ``async def``).
    """

    def __init__(
        self,
        function: Callable[..., Any],
        name: str,
        *,
        server: Sender | None = None,
        options: TaskOptions | None = None,
        run_options: RunOptions | None = None,
        parameters: Parameters | None = None,
    ) -> None:
        self.function = function
        self.name = name
        self.is_async = inspect.iscoroutinefunction(function)
        self.parameters = parameters or Parameters(function, name)
        self.task_options = options or TaskOptions()
        self.run_options = run_options or RunOptions()
        self._server = server
        self._after_args: tuple[Any, ...] | None = None
        """What all signatures of this task have in common, checked once; ``None``: nothing is known, or each has its own."""
        self.__doc__ = function.__doc__
        self.__name__ = getattr(function, "__name__", name)
        self.__module__ = function.__module__
        self.__wrapped__ = function

    def __repr__(self) -> str:
        return f"<Task {self.name}>"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> C_co:
        """The function itself, here and now; a `TaskContext` that it wants is supplied."""
        if self.parameters.wants_context and not (args and isinstance(args[0], TaskContext)):
            return self.function(TaskContext(name=self.name), *args, **kwargs)  # type: ignore[no-any-return]
        return self.function(*args, **kwargs)  # type: ignore[no-any-return]

    def signature(self, *args: P.args, **kwargs: P.kwargs) -> Signature:
        """A signature that calls this task. Raises `EncodeError`, naming the argument, for what cannot travel.

        Arguments that come from the task before it may be missing; type checkers accept that of `partial`.
        """
        return self._signature(self.parameters.to_args(args, kwargs, in_part=True))

    def partial(self, *args: Any, **kwargs: Any) -> Signature:
        """`signature` with arguments left out: those that the task before it supplies.

        A task in a chain, an ``on_success`` and a chord's callback get the results behind their own arguments, an ``on_error``
        gets the error's text in front of them.
        """
        return self._signature(self.parameters.to_args(args, kwargs, in_part=True))

    def _signature(self, args: tuple[Arg, ...]) -> Signature:
        rest = self._after_args
        if rest is not None:
            return raw_signature(self.name, args, *rest)
        options = self.task_options
        made = Signature(
            self.name,
            args,
            routing_key=options.queue,
            eta=eta_of(options),
            headers=headers_of(options),
            priority=options.priority,
            immutable=options.immutable,
            retry_count=options.retry_count,
            retry_timeout=options.retry_timeout,
            on_success=options.on_success,
            on_error=options.on_error,
            ignore_when_task_not_registered=options.ignore_when_task_not_registered,
            stop_task_deletion_on_error=options.stop_task_deletion_on_error,
        )
        if made.eta is None and made.headers is None:  # times are those of each call, headers may be changed in place
            self._after_args = values_after_args(made)
        return made

    def send(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult[R]:
        """Send one call of this task. Once this returns it runs at least once. Raises as `Server.send_task`."""
        if self._server is None:
            raise EncodeError(
                f"the task {self.name} belongs to no server; register it with server.task or server.register_task"
            )
        return self._server.send_task(self._signature(self.parameters.to_args(args, kwargs)))

    async def asend(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult[R]:
        """`send`, without blocking the event loop."""
        return await in_thread(self.send, *args, **kwargs)

    def options(self, **changes: Unpack[SendOptions]) -> Task[P, R, C_co]:
        """A copy whose signatures carry other options; see `TaskOptions` for the names.

        Spans (``countdown``, ``expires``) are a `timedelta` or a number of seconds. ``eta`` excludes ``countdown``. The worker's
        part (``retry``, ``soft_time_limit`` …) is set where the task is registered. Raises `TypeError` for a name there is not,
        `EncodeError` for a value out of range.
        """
        return Task(
            self.function,
            self.name,
            server=self._server,
            options=task_options(self.task_options, changes),
            run_options=self.run_options,
            parameters=self.parameters,
        )
