"""The server: what an application holds. It registers tasks, sends signatures and makes workers."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar, Unpack, overload

from machinery._config import Config, log_changes, require_known_keys
from machinery._given import listed, queue_names
from machinery._group_results import ChordResult, GroupResult
from machinery._offloading import in_thread
from machinery._periodic import MissedTicks, register, to_chain, to_chord, to_group, to_task
from machinery._plugins import has_backend, has_lock, load_backend, load_broker, load_lock
from machinery._registering import TaskDecorator, to_task_of
from machinery._registry import Registry
from machinery._results import AsyncResult, ChainResult
from machinery._scheduler import Scheduler
from machinery._sending import PrePublishHandler, Sender
from machinery._signatures import Signature, require_text
from machinery._states import State, TaskState
from machinery._task import Task, TaskContext
from machinery._task_options import RegisterOptions
from machinery._urls import scheme_of
from machinery._workflows import Chain, Chord, Group
from machinery.errors import ConfigError, DecodeError, EncodeError, WorkflowError
from machinery.wire import decode_signature

if TYPE_CHECKING:
    from types import TracebackType

    from machinery._worker import Worker
    from machinery.abc import Backend, Broker, DeadLetter, Lock, Message

P = ParamSpec("P")
R = TypeVar("R")
F = Callable[..., Any]

_EVERY = 1_000_000
"""More dead letters than that are put back a million at a time."""


class Server:
    """Holds the tasks and the three services, injected: a broker, a result backend and a lock.

    ``Server(config, broker, backend, lock)`` takes objects; `from_url` and `from_config` only build them. Safe from any
    thread. Closing closes what it built itself, not what was injected.
    """

    def __init__(
        self,
        config: Config | None = None,
        broker: Broker | None = None,
        backend: Backend | None = None,
        lock: Lock | None = None,
        *,
        logger: logging.Logger | None = None,
    ) -> None:
        if any(isinstance(given, str) for given in (config, broker, backend, lock)):
            raise ConfigError(
                "Server(config, broker, backend, lock) takes objects; for URLs there is Server.from_url('redis://…')"
            )
        if broker is None:
            raise ConfigError(
                "a server needs a broker: Server(config, broker, backend, lock), or Server.from_url('redis://…')"
            )
        self._config = config if config is not None else Config()
        self.broker = broker
        self.backend = backend if backend is not None else load_backend("null://", self._config)
        self.lock = lock if lock is not None else load_lock("memory://", self._config)
        self.logger = logger if logger is not None else logging.getLogger("machinery")
        self.registry = Registry()
        self.sender = Sender(self._config, self.broker, self.backend)
        self._owned: list[Broker | Backend | Lock] = []
        self._warned_of: set[str] = set()
        self._starts_scheduler = False
        self._has_private_lock = broker.capabilities.several_processes and not self.lock.several_processes
        program = self._config.program_name or Path(sys.argv[0] or "python").name
        self.scheduler = Scheduler(
            self.lock,
            self.logger,
            program=lambda: program,
            queue=lambda: self._config.default_queue,
        )
        assign = getattr(broker, "assign", None)  # a broker that runs what it is given (eager)
        if assign is not None:
            from machinery._inline import InlineRunner  # noqa: PLC0415 - as new_worker

            assign(InlineRunner(self))
        source = self._config.source
        if source is not None:
            if logger is not None:
                source.logger = logger
            source.subscribe(self._replace_config)

    # -- building -----------------------------------------------------------------------------------------------------------

    @classmethod
    def from_url(
        cls, url: str, *, result_backend: str | None = None, lock: str | None = None, logger: logging.Logger | None = None,
        **config: Any,
    ) -> Self:  # fmt: skip
        """A server on the service at ``url``, which serves as broker, backend and lock where its plug-in can.

        ``config``: the fields of `Config`. Does not connect. Raises `ConfigError` (`UnknownScheme` …).
        """
        require_known_keys(config, "Server.from_url", but="broker")
        made = Config(broker=url, result_backend=result_backend or "", lock=lock or "", **config)
        return cls.from_config(made, logger=logger)

    @classmethod
    def from_config(cls, config: Config, *, logger: logging.Logger | None = None) -> Self:
        """A server on the services that ``config`` names. Does not connect. Raises `ConfigError`."""
        if not config.broker:
            raise ConfigError("the configuration names no broker; set broker, such as 'redis://localhost:6379'")
        broker = load_broker(config.broker, config)
        backend_url = config.result_backend or (config.broker if has_backend(scheme_of(config.broker)) else "null://")
        backend = load_backend(backend_url, config)
        lock_url = config.lock or next(
            (url for url in (config.broker, backend_url) if has_lock(scheme_of(url))), "memory://"
        )
        server = cls(config, broker, backend, load_lock(lock_url, config), logger=logger)
        server._owned = [server.broker, server.backend, server.lock]
        return server

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self._config

    def _replace_config(self, config: Config) -> None:
        log_changes(self._config, config, self.logger)
        self._config = config
        self.sender.config = config

    def close(self) -> None:
        """Let go of the services that this server built itself. May be called twice."""
        source = self._config.source
        if source is not None:
            source.unsubscribe(self._replace_config)
        if self._starts_scheduler:
            self._starts_scheduler = False
            self.scheduler.release()
        for service in self._owned:
            service.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- tasks --------------------------------------------------------------------------------------------------------------

    @overload
    def task(
        self, function: Callable[Concatenate[TaskContext, P], Coroutine[Any, Any, R]], /
    ) -> Task[P, R, Coroutine[Any, Any, R]]: ...
    @overload
    def task(self, function: Callable[Concatenate[TaskContext, P], R], /) -> Task[P, R, R]: ...
    @overload
    def task(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Task[P, R, Coroutine[Any, Any, R]]: ...
    @overload
    def task(self, function: Callable[P, R], /) -> Task[P, R, R]: ...
    @overload
    def task(self, /, *, name: str = "", **options: Unpack[RegisterOptions]) -> TaskDecorator: ...
    def task(self, function: F | None = None, /, *, name: str = "", **options: Unpack[RegisterOptions]) -> Any:
        """Register a function as a task: ``@server.task`` or ``@server.task(name=…, retry_count=…, …)``.

        Options: those of `Task.options` (what its signatures carry), and the worker's: ``retry`` (`Fibonacci`, the default, or
        `Exponential`), ``retry_for`` and ``no_retry_for`` (exception types), ``soft_time_limit`` (span). The name is the
        function's unless given. Raises `TaskAlreadyRegistered`.
        """
        if function is None:
            return TaskDecorator(self, name, options)
        return self._register(name or getattr(function, "__name__", ""), function, options)

    def register_task(self, name: str, function: F, **options: Unpack[RegisterOptions]) -> Task[..., Any, Any]:
        """Register ``function`` under ``name``; options as `task`. Raises `TaskAlreadyRegistered`."""
        return self._register(name, function, options)

    def register_tasks(self, functions: Mapping[str, F]) -> None:
        """Register each function under its name."""
        for name, function in functions.items():
            self._register(name, function, {})

    def is_task_registered(self, name: str) -> bool:
        """Whether this server has a task of that name."""
        return self.registry.find(name) is not None

    def _register(self, name: str, function: F, options: Mapping[str, Any]) -> Task[..., Any, Any]:
        task = to_task_of(self, name, function, options)
        self.registry.add(task)
        return task

    # -- sending ------------------------------------------------------------------------------------------------------------

    def send_task(self, signature: Signature) -> AsyncResult[Any]:
        """Send one signature. Once this returns, the task runs at least once.

        Raises `EncodeError` and `PriorityNotSupported` before anything is stored; `PublishError` when the broker refuses it;
        the `Unavailable` family when a service cannot be reached (it may have been sent or not).
        """
        (sent,) = self.sender.send((signature,))
        return AsyncResult(self.backend, sent.uuid, sent)

    def send_tasks(self, signatures: Iterable[Signature]) -> list[AsyncResult[Any]]:
        """Send many signatures as one batch; results in the same order. Raises as `send_task`, naming the positions."""
        return [
            AsyncResult(self.backend, sent.uuid, sent)
            for sent in self.sender.send(listed("the signatures", signatures, EncodeError))
        ]

    def send_chain(self, chain: Chain) -> ChainResult[Any]:
        """Send a chain: its first task now, each further one by the worker that finished the one before.

        Raises as `send_task`, and `WorkflowError` for what is no chain.
        """
        _require_workflow("send_chain", chain, Chain)
        linked = chain.linked()
        self._start_afresh(*chain.signatures[1:])
        (first,) = self.sender.send(linked[:1])
        return ChainResult(self.backend, (first, *linked[1:]))

    def send_group(self, group: Group, send_concurrency: int = 0) -> GroupResult:
        """Send all tasks of a group; its result has theirs in the order of the group.

        They are published as one batch, or in up to ``send_concurrency`` batches side by side. Task names that this server does
        not know are warned of once. Raises as `send_tasks`, and `GroupTooLarge`, `WorkflowError` for what is no group.
        """
        _require_workflow("send_group", group, Group)
        return self._send_members(group.joined(), send_concurrency)

    def send_chord(self, chord: Chord, send_concurrency: int = 0) -> ChordResult[Any]:
        """Send the group of a chord. Whoever finishes its last task sends the callback, with all results in group order.

        When a member fails, the callback does not run; its ``on_error`` do, once, with the error's text first. Raises as
        `send_group`, and `ResultsNotStored` without a result backend, as nobody would know when the members are done.
        """
        _require_workflow("send_chord", chord, Chord)
        members = chord.joined()
        callback = members[0].chord_callback
        assert callback is not None  # noqa: S101 - a chord has one
        self._warn_of_unknown([callback])
        self._start_afresh(chord.callback, *chord.callback.on_error)
        return ChordResult(self.backend, callback, self._send_members(members, send_concurrency))

    def _send_members(self, members: Sequence[Signature], send_concurrency: Any) -> GroupResult:
        if not isinstance(send_concurrency, int) or send_concurrency < 0:
            raise WorkflowError(f"send_concurrency is {send_concurrency!r}; it must be a whole number, 0 for one batch")
        self._warn_of_unknown(members)
        return GroupResult(self.backend, self.sender.send_group(members, send_concurrency))

    def _start_afresh(self, *following: Signature) -> None:
        """What was sent before under the same id, and runs only later this time, must not be taken for this time's result."""
        named = [signature.uuid for signature in following if signature.uuid]
        if named:
            self.backend.forget(named)

    def _warn_of_unknown(self, signatures: Iterable[Signature]) -> None:
        names = {signature.name for signature in signatures if not signature.ignore_when_task_not_registered}
        for name in names - self._warned_of:
            if not self.is_task_registered(name):
                self._warned_of.add(name)
                self.logger.warning("this server has no task %r; its group waits until a worker runs it", name)

    async def asend_task(self, signature: Signature) -> AsyncResult[Any]:
        """`send_task`, without blocking the event loop."""
        return await in_thread(self.send_task, signature)

    async def asend_tasks(self, signatures: Iterable[Signature]) -> list[AsyncResult[Any]]:
        """`send_tasks`, without blocking the event loop."""
        return await in_thread(self.send_tasks, listed("the signatures", signatures, EncodeError))

    async def asend_chain(self, chain: Chain) -> ChainResult[Any]:
        """`send_chain`, without blocking the event loop."""
        return await in_thread(self.send_chain, chain)

    async def asend_group(self, group: Group, send_concurrency: int = 0) -> GroupResult:
        """`send_group`, without blocking the event loop."""
        return await in_thread(self.send_group, group, send_concurrency)

    async def asend_chord(self, chord: Chord, send_concurrency: int = 0) -> ChordResult[Any]:
        """`send_chord`, without blocking the event loop."""
        return await in_thread(self.send_chord, chord, send_concurrency)

    def result(self, uuid: str) -> AsyncResult[Any]:
        """The result of a task by its id. Does not look yet. Raises `EncodeError` for what no id can be."""
        require_text("the id of a task", uuid)
        return AsyncResult(self.backend, uuid)

    def set_pre_task_handler(self, handler: PrePublishHandler | None) -> None:
        """``handler(signature)`` just before each publish (Go's name for it); it may return a changed copy to send instead."""
        self.sender.pre_publish = handler

    # -- sending again and again --------------------------------------------------------------------------------------------

    def register_periodic_task(
        self, spec: str, name: str, signature: Signature, *, missed: MissedTicks = "skip"
    ) -> None:
        """Send ``signature`` at each tick of ``spec``, under a fresh id; one of all servers that register it does so.

        ``spec``: five fields of cron, ``@hourly`` …, ``@every 1h30m``, with ``TZ=Europe/Berlin`` before it where local time is
        not meant. ``name`` is a label of its own: it goes into the key of the lock. Ticks are fired by the workers of this
        server, and after `start_scheduler`. ``missed``: what happens to ticks that came while no server was there. ``"once"``
        fires the latest one, if it came in the last 24 hours, as soon as there is one. Raises `ConfigError`, `WorkflowError`.
        """
        made = to_task(signature)
        self._register_periodic(spec, name, lambda: self.send_task(made), missed)

    def register_periodic_chain(
        self, spec: str, name: str, *signatures: Signature | Chain, missed: MissedTicks = "skip"
    ) -> None:
        """Send a chain of these signatures, or the one `Chain`, at each tick. As `register_periodic_task`."""
        made = to_chain(signatures)
        self._register_periodic(spec, name, lambda: self.send_chain(made), missed)

    def register_periodic_group(
        self, spec: str, name: str, *signatures: Signature | Group | int, missed: MissedTicks = "skip"
    ) -> None:
        """Send a group of these signatures, or the one `Group`, at each tick. As `register_periodic_task`.

        A whole number before them is the send concurrency, as in Go.
        """
        made, concurrency = to_group(signatures)
        self._register_periodic(spec, name, lambda: self.send_group(made, concurrency), missed)

    def register_periodic_chord(
        self, spec: str, name: str, *signatures: Signature | Chord | Group | int, missed: MissedTicks = "skip"
    ) -> None:
        """Send a chord at each tick: the callback and then its group's signatures, or the one `Chord`.

        As `register_periodic_group`.
        """
        made, concurrency = to_chord(signatures)
        self._register_periodic(spec, name, lambda: self.send_chord(made, concurrency), missed)

    def remove_periodic(self, name: str) -> bool:
        """Fire nothing of that name any more, in this process. Whether there was something."""
        return self.scheduler.remove(name)

    def start_scheduler(self) -> None:
        """Fire ticks in this process too, until `close`; workers do so by themselves. May be called twice."""
        if not self._starts_scheduler:
            self._starts_scheduler = True
            self.scheduler.hold()

    def _register_periodic(self, spec: str, name: str, send: Callable[[], object], missed: MissedTicks) -> None:
        register(self.scheduler, spec, name, send, missed)
        if self._has_private_lock:
            self._has_private_lock = False
            self.logger.warning(
                "periodic tasks are fired by each process on its own, as this server's lock is in-process; give it one that "
                "all share, such as lock='redis://localhost:6379'"
            )

    # -- working ------------------------------------------------------------------------------------------------------------

    def new_worker(self, tag: str, concurrency: int = 0, queues: Iterable[str] | None = None) -> Worker:
        """A worker of ``queues`` (the default queue); at most ``concurrency`` tasks at once, 0: unlimited, as in Go.

        Raises `ConfigError` for queues that are none.
        """
        from machinery._worker import Worker  # noqa: PLC0415 - most of core, which those who only send do without

        return Worker(self, tag, concurrency, None if queues is None else queue_names(queues))

    def new_custom_queue_worker(self, tag: str, concurrency: int, queue: str) -> Worker:
        """A worker of one other queue. Raises `ConfigError` for one that has no name."""
        return self.new_worker(tag, concurrency, [queue])

    # -- looking ------------------------------------------------------------------------------------------------------------

    def pending_tasks(self, queue: str = "", limit: int = 1000) -> list[Signature]:
        """Up to ``limit`` signatures that wait in ``queue`` (the default one). What cannot be decoded is left out."""
        return _signatures(self.broker.pending(self._queue(queue), limit))

    def delayed_tasks(self, limit: int = 1000) -> list[Signature]:
        """Up to ``limit`` signatures that wait for their time, in any queue."""
        return _signatures(self.broker.delayed(limit))

    def dead_tasks(self, queue: str = "", limit: int = 1000) -> list[DeadLetter]:
        """Up to ``limit`` dead letters of ``queue`` (the default one), with their reasons."""
        return self.broker.dead(self._queue(queue), limit)

    def requeue_dead_tasks(self, queue: str = "", ids: Iterable[str] | None = None) -> int:
        """Put dead letters (all, or those named) back on their queue, to run afresh; returns how many there were.

        Their records, which say FAILURE, are PENDING again first: a final record is replaced by nothing else. Raises
        `Unsupported`, and `EncodeError` for ``ids`` that are no list.
        """
        queue = self._queue(queue)
        wanted = None if ids is None else set(listed("the ids", ids, EncodeError))
        letters = [each for each in self.broker.dead(queue, _EVERY) if wanted is None or each.id in wanted]
        now = datetime.now(UTC)
        self.backend.submit(
            [
                TaskState(each.uuid, each.name, State.PENDING, created_at=now)
                for each in _signatures(letters)
                if each.uuid
            ]
        )
        return self.broker.requeue_dead(queue, [each.id for each in letters])

    def _queue(self, name: str) -> str:
        """The queue of that name, the default one without. Raises `EncodeError` for what no service can look up."""
        require_text("the queue", name)
        return name or self.config.default_queue


def _require_workflow(call: str, given: object, kind: type[Chain | Group | Chord]) -> None:
    if not isinstance(given, kind):
        name = kind.__name__
        raise WorkflowError(f"{call} takes a {name}, not {given!r}; make one with {name.lower()}(…)")


def _signatures(messages: Iterable[Message | DeadLetter]) -> list[Signature]:
    found: list[Signature] = []
    for message in messages:
        try:
            found.append(decode_signature(message.body))
        except DecodeError:
            continue
    return found
