"""Results of groups and chords: many records that are waited for together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar, overload

from machinery._offloading import Steps, finish, in_thread, turns
from machinery._results import AsyncResult, Waiting, not_found, value_of

if TYPE_CHECKING:
    from machinery._signatures import Signature
    from machinery._states import TaskState
    from machinery.abc import Backend

R_co = TypeVar("R_co", covariant=True)

FIRST_LOOK = 1.0
"""Seconds after which those who wait for a group first look whether a member has failed; each further wait is twice as long."""


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
        return self._values(self._backend.load([member.uuid for member in self._members]), is_last=True)

    def get(self, timeout: float | None = None, *, interval: float | None = None) -> list[Any]:
        """Wait for all; the values in group order. Raises as `AsyncResult.get`; a member's failure as soon as it is seen."""
        return finish(self._steps(Waiting(timeout, interval, FIRST_LOOK)))

    def _steps(self, waiting: Waiting) -> Steps[list[Any]]:
        ids = [member.uuid for member in self._members]
        while True:
            states = waiting.once(self._backend, ids)
            is_over = waiting.is_over
            if (values := self._values(states, is_last=is_over or waiting.timeout is None)) is not None:
                return values
            if is_over:
                raise waiting.timed_out(ids)
            yield

    def _values(self, states: Sequence[TaskState | None], *, is_last: bool) -> list[Any] | None:
        for state in states:
            if state is not None and state.is_failure:
                value_of(state)  # raises
        for member, state in zip(self._members, states, strict=True):
            if state is None and is_last:  # every record was stored before the first member was published
                raise not_found(member.uuid)
        if all(state is not None and state.is_completed for state in states):
            return [value_of(state) for state in states if state is not None]
        return None

    async def aget(self, timeout: float | None = None, *, interval: float | None = None) -> list[Any]:  # noqa: ASYNC109 - as get
        """`get`, without blocking the event loop."""
        waiters = turns()
        return await waiters.wait(self._steps(Waiting(timeout, interval, FIRST_LOOK, waiters.longest_step)))

    async def atouch(self) -> list[Any] | None:
        """`touch`, without blocking the event loop."""
        return await in_thread(self.touch)


class ChordResult(AsyncResult[R_co]):
    """The result of a chord: of its callback, once every member of its group has succeeded."""

    _first_step = FIRST_LOOK

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
        return super().get(timeout, interval=interval)

    def _steps(self, waiting: Waiting) -> Steps[R_co]:
        unfinished = self._ids()
        while True:
            (state,) = waiting.once(self._backend, [self.uuid])
            if state is not None and state.is_completed:
                return self._value(state)
            if state is None:  # workers say so when a member fails, but those of Go do not
                # When all have ended, all are looked at again: their records may go while nobody ends the chord.
                unfinished = self._unfinished(unfinished) or self._ids()
            if waiting.is_over:
                raise waiting.timed_out([self.uuid])
            yield

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
