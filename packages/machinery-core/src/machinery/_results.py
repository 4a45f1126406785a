"""Results as a client sees them: wait for a task, read its state, or look once."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from machinery._offloading import Steps, finish, in_thread, turns
from machinery._values import decode_value
from machinery.errors import ResultTimeout, StateNotFound, TaskFailed

if TYPE_CHECKING:
    from machinery._signatures import Signature
    from machinery._states import State, TaskState
    from machinery.abc import Backend

R_co = TypeVar("R_co", covariant=True)

LONGEST_WAIT = 60.0
"""Seconds that one call to the backend waits at most; longer waits are made of several."""


class Waiting:
    """How a result is waited for: until when, how often it is looked for, and in steps of what length."""

    def __init__(
        self,
        timeout: float | None,
        interval: float | None,
        first_step: float = LONGEST_WAIT,
        longest_step: Callable[[], float] = lambda: LONGEST_WAIT,
    ) -> None:
        check_seconds(timeout=timeout, interval=interval)
        self.timeout = timeout
        self.interval = interval
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._longest_step = longest_step
        self._step = first_step

    def left(self) -> float | None:
        """Seconds until the timeout; ``None``: there is none."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def once(self, backend: Backend, ids: Sequence[str]) -> list[TaskState | None]:
        """The records as `Backend.wait` has them, after a step that is twice as long as the one before."""
        left = self.left()
        step = min(self._step, self._longest_step())
        self._step = min(LONGEST_WAIT, 2 * self._step)
        if left is not None:
            step = min(step, left)
        return backend.wait(ids, step) if self.interval is None else backend.wait(ids, step, self.interval)

    @property
    def is_over(self) -> bool:
        """Whether the timeout has passed."""
        return self.left() == 0.0

    def timed_out(self, ids: Sequence[str]) -> ResultTimeout:
        """What to raise then."""
        return ResultTimeout(f"no result of {some_of(ids)} within {self.timeout} s; it goes on, ask again later")


class AsyncResult(Generic[R_co]):
    """The result of one sent task."""

    _first_step = LONGEST_WAIT
    """Seconds until it is looked for anew, whether anything was heard of it or not."""

    def __init__(self, backend: Backend, uuid: str, signature: Signature | None = None) -> None:
        self._backend = backend
        self.uuid = uuid
        self.signature = signature
        """The signature as sent; ``None`` when the result was looked up by its id."""

    def __repr__(self) -> str:
        return f"<AsyncResult {self.uuid}>"

    @property
    def state(self) -> State:
        """The task's state now. Raises `StateNotFound`."""
        return self.task_state().state

    def task_state(self) -> TaskState:
        """The task's record now. Raises `StateNotFound`, `ResultsNotStored`, `BackendUnavailable`."""
        (found,) = self._backend.load([self.uuid])
        if found is None:
            raise not_found(self.uuid)
        return found

    def touch(self) -> R_co | None:
        """Look once: the value, the failure raised (`TaskFailed`), or ``None`` while it runs (or when the value is ``None``)."""
        state = self.task_state()
        return value_of(state) if state.is_completed else None

    def get(self, timeout: float | None = None, *, interval: float | None = None) -> R_co:
        """Wait for the value: ``None`` for a task that returns nothing, a tuple for one that returns several.

        ``timeout``: seconds to wait; ``None`` waits for ever. The result is pushed where the backend can; ``interval`` bounds
        how often it is looked for besides (for records that Go workers wrote). Raises `TaskFailed`, `ResultTimeout`,
        `StateNotFound` (no record: with a timeout, when none has come by its end; without, at once), `BackendUnavailable`;
        `ValueError` for a ``timeout`` or an ``interval`` that is no number from 0 on.
        """
        return finish(self._steps(Waiting(timeout, interval, self._first_step)))

    async def aget(self, timeout: float | None = None, *, interval: float | None = None) -> R_co:  # noqa: ASYNC109 - as get
        """`get`, without blocking the event loop."""
        waiters = turns()
        return await waiters.wait(self._steps(Waiting(timeout, interval, self._first_step, waiters.longest_step)))

    def _steps(self, waiting: Waiting) -> Steps[R_co]:
        (state,) = yield from wait_for(self._backend, [self.uuid], waiting)
        return value_of(state)  # type: ignore[no-any-return]

    async def atouch(self) -> R_co | None:
        """`touch`, without blocking the event loop."""
        return await in_thread(self.touch)


class ChainResult(AsyncResult[R_co]):
    """The result of a chain: of its last task, once every task before it has succeeded."""

    def __init__(self, backend: Backend, signatures: Sequence[Signature]) -> None:
        super().__init__(backend, signatures[-1].uuid, signatures[-1])
        self.members = tuple(AsyncResult[Any](backend, signature.uuid, signature) for signature in signatures)
        """The results of the chain's tasks, in order."""

    def __repr__(self) -> str:
        return f"<ChainResult {self.uuid} of {len(self.members)}>"

    def touch(self) -> R_co | None:
        """Look once: the last value, the first failure raised, or ``None`` while it runs."""
        value: Any = None
        for member in self.members:
            (state,) = self._backend.load([member.uuid])
            if state is None or not state.is_completed:
                return None
            value = value_of(state)
        return value  # type: ignore[no-any-return]

    def get(self, timeout: float | None = None, *, interval: float | None = None) -> R_co:
        """Wait for the last task's value. A task that fails ends the chain: its `TaskFailed` is raised."""
        return super().get(timeout, interval=interval)

    def _steps(self, waiting: Waiting) -> Steps[R_co]:
        value: Any = None
        for at, member in enumerate(self.members):
            (state,) = yield from wait_for(self._backend, [member.uuid], waiting, partial(self._is_lost, at))
            value = value_of(state)
        return value  # type: ignore[no-any-return]

    def _is_lost(self, at: int) -> bool:
        """Whether the record of that member, which is missing, has gone: the one before it too, or a later one is there.

        Else it may still come: a later member has none until the one before has succeeded and its worker has sent it.
        """
        if at == 0:
            return True
        before, here, *later = self._backend.load([member.uuid for member in self.members[at - 1 :]])
        return here is None and (before is None or any(later))


def wait_for(
    backend: Backend, ids: Sequence[str], waiting: Waiting, is_lost: Callable[[], bool] = lambda: True
) -> Steps[list[TaskState]]:
    """The final records of ``ids``. Raises `ResultTimeout`, and `StateNotFound` where there is none (see `AsyncResult.get`).

    ``is_lost``: whether a missing record will not come any more.
    """
    while True:
        if waiting.timeout is None:
            for uuid, state in zip(ids, backend.load(ids), strict=True):
                if state is None and is_lost():
                    raise not_found(uuid)
        states = waiting.once(backend, ids)
        done = [state for state in states if state is not None and state.is_completed]
        if len(done) == len(ids):
            return done
        if waiting.is_over:
            missing = [uuid for uuid, state in zip(ids, states, strict=True) if state is None]
            raise not_found(missing[0]) if missing and is_lost() else waiting.timed_out(ids)
        yield


def check_seconds(**given: object) -> None:
    """Raise `ValueError`, naming it, for a span that is neither ``None`` nor a number of seconds from 0 on."""
    for name, seconds in given.items():
        if seconds is not None and not (isinstance(seconds, int | float) and seconds >= 0):
            raise ValueError(f"{name} is {seconds!r}; it must be a number of seconds from 0 on, or None")


def value_of(state: TaskState) -> Any:
    """The value that a final record holds. Raises `TaskFailed`, and `ArgumentError` for a result that cannot be read."""
    if state.is_failure:
        raise TaskFailed(state.error, uuid=state.task_uuid, name=state.task_name)
    values = [decode_value(result.type, result.value) for result in state.results or ()]
    if not values:
        return None
    return values[0] if len(values) == 1 else tuple(values)


def not_found(uuid: str) -> StateNotFound:
    """The error for a task without a record."""
    return StateNotFound(
        f"there is no record of task {uuid}: it was never sent through this backend, or its record has expired "
        "(results_expire_in) or was evicted"
    )


def some_of(ids: Sequence[str]) -> str:
    """What to call these tasks in an error."""
    return ids[0] if len(ids) == 1 else f"{len(ids)} tasks ({ids[0]}, …)"
