"""How a group stands: read from its members' records, which are the truth; counts are hints."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from machinery.errors import DecodeError, GroupNotFound

if TYPE_CHECKING:
    from machinery._states import TaskState
    from machinery._worker._patience import Patience
    from machinery.abc import Backend, StoredGroup

REMEMBERED = 200_000
"""Members, in all, of the groups of which it is kept how far they have come."""
LARGEST_LOOK = 1000
"""Records read at once while looking how far a group has come."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Every member has ended, or one of them has failed."""

    members: tuple[TaskState, ...] = ()
    """All records in group order, when all have succeeded."""
    failure: str = ""
    """Not empty: why the chord has failed; a member's error."""
    culprit: str = ""
    """What to say of who failed, for the callback's record."""


def failed(uuid: str, name: str, error: str) -> Verdict:
    """The verdict on the group of a member that has failed."""
    return Verdict(
        failure=error, culprit=f"the member {name or '(no name stored)'} {uuid} of its group failed: {error}"
    )


def _gone(uuid: str) -> Verdict:
    reason = f"the record of the member {uuid} of its group is gone: it has expired, or was evicted, deleted or spoilt"
    return Verdict(failure=reason, culprit=reason)


class Verdicts:
    """Reads groups. Remembers of each the first member that had not ended, so that looking again costs one record.

    Safe from any thread.
    """

    def __init__(self, backend: Backend, patience: Patience) -> None:
        self._backend = backend
        self._patience = patience
        self._come: OrderedDict[str, tuple[StoredGroup, int]] = OrderedDict()
        self._held = 0
        self._guard = threading.Lock()

    def witness(self, group_uuid: str) -> str | None:
        """The member that had not ended when the group was last looked at; ``None``: it was not looked at."""
        come = self._come.get(group_uuid)
        return None if come is None else come[0].meta.task_uuids[come[1]]

    def forget(self, group_uuid: str) -> None:
        """The group has ended."""
        with self._guard:
            self._drop(group_uuid)

    def group(self, group_uuid: str) -> StoredGroup:
        """The group. Raises `GroupNotFound`, also for one whose metadata cannot be read."""
        try:
            return self._patience.call(partial(self._backend.load_group, group_uuid), "cannot read a group")
        except DecodeError as error:
            raise GroupNotFound(f"the group {group_uuid} cannot be read: {error}") from error

    def look(self, group_uuid: str, *, likely: bool) -> Verdict | None:
        """The verdict; ``None`` while members run. ``likely``: all have probably ended. Raises `GroupNotFound`."""
        group, position = self._come.get(group_uuid) or (self.group(group_uuid), 0)
        ids = group.meta.task_uuids
        if not likely:
            verdict, position = self._advance(ids, position)
            if verdict is not None:
                return verdict
            if position < len(ids):
                self._remember(group_uuid, group, position)
                return None
        states = self.records(ids)
        members: list[TaskState] = []
        for at, (uuid, state) in enumerate(zip(ids, states, strict=True)):
            if state is None:
                return _gone(uuid)
            if state.is_failure:
                return failed(uuid, state.task_name, state.error)
            if not state.is_completed:
                self._remember(group_uuid, group, at)
                return None
            members.append(state)
        return Verdict(tuple(members))

    def first_running(self, ids: Sequence[str], position: int) -> int:
        """The position of the first member from ``position`` on that runs, whatever became of the others; their count: none."""
        for _, state in self._records_from(ids, position):
            if state is not None and not state.is_completed:
                return position
            position += 1
        return position

    def records(self, ids: Sequence[str]) -> Sequence[TaskState | None]:
        """The records; one that cannot be read counts as none."""
        try:
            return self._patience.call(partial(self._backend.load, ids), "cannot read records")
        except DecodeError:
            if len(ids) > 1:
                return [state for uuid in ids for state in self.records([uuid])]
            return [None]

    def _advance(self, ids: Sequence[str], position: int) -> tuple[Verdict | None, int]:
        """The position of the first member from ``position`` on that has not ended."""
        for uuid, state in self._records_from(ids, position):
            if state is None:
                return _gone(uuid), position
            if state.is_failure:
                return failed(uuid, state.task_name, state.error), position
            if not state.is_completed:
                return None, position
            position += 1
        return None, position

    def _records_from(self, ids: Sequence[str], position: int) -> Iterator[tuple[str, TaskState | None]]:
        """The members from ``position`` on with their records, ever more read at once."""
        step = 1
        while position < len(ids):
            some = ids[position : position + step]
            yield from zip(some, self.records(some), strict=True)
            position += step
            step = min(LARGEST_LOOK, 4 * step)

    def _remember(self, group_uuid: str, group: StoredGroup, position: int) -> None:
        with self._guard:
            if group_uuid not in self._come:
                self._held += len(group.meta.task_uuids)
            self._come[group_uuid] = (group, position)
            self._come.move_to_end(group_uuid)
            while self._held > REMEMBERED and len(self._come) > 1:
                self._drop(next(iter(self._come)))

    def _drop(self, group_uuid: str) -> None:
        dropped = self._come.pop(group_uuid, None)
        if dropped is not None:
            self._held -= len(dropped[0].meta.task_uuids)
