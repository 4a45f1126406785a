"""Results of groups and chords: many records that are waited for together."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar, overload

from machinery._offloading import in_thread
from machinery._results import LONGEST_WAIT, AsyncResult, check_seconds, not_found, some_of, value_of, wait_once
from machinery.errors import ResultTimeout

if TYPE_CHECKING:
    from machinery._signatures import Signature
    from machinery._states import TaskState
    from machinery.abc import Backend

R_co = TypeVar("R_co", covariant=True)

FIRST_LOOK = 1.0
"""Seconds after which those who wait for a group first look whether a member has failed; then ever more, to `LONGEST_WAIT`."""


class GroupResult(Sequence[AsyncResult[Any]]):
    """The results of a group: a sequence of `AsyncResult`, in the order of the group."""

    def __init__(self, backend: Backend, members: Sequence[Signature]) -> None:
        self._backend = backend
        self._members = tuple([AsyncResult[Any](backend, signature.uuid, signature) for signature in members])
        self.group_uuid = members[0].group_uuid

    def __repr__(self) -> str:
        return f"<GroupResult {self.group_uuid} of {len(self._members)}>"

    def __len__(self) -> int:
        return len(self._members)

    @overload
    def __getitem__(self, index: int) -> AsyncResult[Any]: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[AsyncResult[Any], ...]: ...
    def __getitem__(self, index: int | slice) -> AsyncResult[Any] | tuple[AsyncResult[Any], ...]:
        """One member's result, or several."""
        return self._members[index]

    def touch(self) -> list[Any] | None:
        """Look once: all values in group order, the first failure raised, or ``None`` while one runs. Raises `StateNotFound`."""
        return self._values(self._backend.load([member.uuid for member in self._members]), 0.0)

    def get(self, timeout: float | None = None, *, interval: float | None = None) -> list[Any]:
        """Wait for all; the values in group order. Raises as `AsyncResult.get`; a member's failure as soon as it is seen."""
        check_seconds(timeout=timeout, interval=interval)
        watch = _Watch(timeout)
        ids = [member.uuid for member in self._members]
        while True:
            states = wait_once(self._backend, ids, watch.step(), interval)
            if (values := self._values(states, watch.left())) is not None:
                return values
            watch.raise_when_over(ids)

    def _values(self, states: Sequence[TaskState | None], left: float | None) -> list[Any] | None:
        for state in states:
            if state is not None and state.is_failure:
                value_of(state)  # raises
        for member, state in zip(self._members, states, strict=True):
            if state is None and not left:  # every record was stored before the first member was published
                raise not_found(member.uuid)
        if all(state is not None and state.is_completed for state in states):
            return [value_of(state) for state in states if state is not None]
        return None

    async def aget(self, timeout: float | None = None, *, interval: float | None = None) -> list[Any]:  # noqa: ASYNC109 - as get
        """`get`, without blocking the event loop."""
        return await in_thread(self.get, timeout, interval=interval)

    async def atouch(self) -> list[Any] | None:
        """`touch`, without blocking the event loop."""
        return await in_thread(self.touch)


class ChordResult(AsyncResult[R_co]):
    """The result of a chord: of its callback, once every member of its group has succeeded."""

    def __init__(self, backend: Backend, callback: Signature, members: GroupResult) -> None:
        super().__init__(backend, callback.uuid, callback)
        self.members = members
        """The results of the group's tasks, in group order."""

    def __repr__(self) -> str:
        return f"<ChordResult {self.uuid} of {len(self.members)}>"

    def touch(self) -> R_co | None:
        """Look once: the callback's value, a failure raised (a member's by preference), or ``None`` while it runs."""
        (state,) = self._backend.load([self.uuid])
        if state is None or not state.is_completed:
            self._unfinished(self._ids())
            return None
        return self._value(state)

    def get(self, timeout: float | None = None, *, interval: float | None = None) -> R_co:
        """Wait for the callback's value. A member that fails ends the chord: its `TaskFailed` is raised, naming it.

        The callback's failure is raised likewise. Raises else as `AsyncResult.get`; `StateNotFound` when the records of the
        callback and of a member are gone.
        """
        check_seconds(timeout=timeout, interval=interval)
        watch = _Watch(timeout)
        unfinished = self._ids()
        while True:
            (state,) = wait_once(self._backend, [self.uuid], watch.step(), interval)
            if state is not None and state.is_completed:
                return self._value(state)
            if state is None:  # workers say so when a member fails, but those of Go do not
                # When all have ended, all are looked at again: their records may go while nobody ends the chord.
                unfinished = self._unfinished(unfinished) or self._ids()
            watch.raise_when_over([self.uuid])

    def _ids(self) -> list[str]:
        return [member.uuid for member in self.members]

    def _unfinished(self, ids: list[str]) -> list[str]:
        """Which of these members have not ended yet. Raises `TaskFailed` for one that failed, `StateNotFound` for a lost one."""
        left: list[str] = []
        for uuid, state in zip(ids, self._backend.load(ids), strict=True):
            if state is None:
                # The callback's record may have come since, and the members' have gone.
                if self._backend.load([self.uuid])[0] is None:
                    raise not_found(uuid)
            elif state.is_failure:
                value_of(state)  # raises
            elif not state.is_completed:
                left.append(uuid)
        return left

    def _value(self, state: TaskState) -> R_co:
        if state.is_failure:
            for member in self._backend.load(self._ids()):
                if member is not None and member.is_failure:
                    value_of(member)  # raises
        return value_of(state)  # type: ignore[no-any-return]


class _Watch:
    """How long to wait before the next look: longer each time, until the timeout is over."""

    def __init__(self, timeout: float | None) -> None:
        self._timeout = timeout
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._step = FIRST_LOOK

    def left(self) -> float | None:
        """Seconds until the timeout; ``None``: there is none."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def step(self) -> float:
        """Seconds to wait now."""
        step, left = self._step, self.left()
        self._step = min(LONGEST_WAIT, 2 * step)
        return step if left is None else min(step, left)

    def raise_when_over(self, ids: Sequence[str]) -> None:
        """Raise `ResultTimeout` after the timeout."""
        if self.left() == 0.0:
            raise ResultTimeout(f"no result of {some_of(ids)} within {self._timeout} s; it goes on, ask again later")
