"""What memory backends on one store share: records by task, groups, and who waits for which record."""

from __future__ import annotations

import threading
from collections import OrderedDict
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

from machinery._clock import SYSTEM_CLOCK, Clock
from machinery.abc import GroupMeta, Signature, TaskState
from machinery.errors import GroupNotFound

if TYPE_CHECKING:
    from collections.abc import Iterable

SWEEP = 4
"""How many of the longest unwritten entries each write looks at: more than it adds, so that the ended ones go away."""


@dataclass(slots=True)
class _Record:
    state: TaskState
    expires: float


@dataclass(slots=True, eq=False)
class Group:
    """A group while its store keeps it."""

    meta: GroupMeta
    callback: Signature | None
    expires: float
    last_finish: float
    finished: set[str] = field(default_factory=set)
    claimant: str = ""
    closed: bool = False


@dataclass(slots=True, eq=False)
class Waiter:
    """Somebody who waits until every one of `missing` is final."""

    condition: threading.Condition
    missing: set[str]


S = TypeVar("S", bound=TaskState | None)


def detached(state: S) -> S:
    """The record with results of its own: what a task or a client does to a list that it holds must not reach the store."""
    if state is None or not state.results or not any(isinstance(result.value, list | dict) for result in state.results):
        return state
    return replace(state, results=tuple([replace(result, value=deepcopy(result.value)) for result in state.results]))


class MemoryRecords:
    """The store. Every method but the constructor asks that the caller holds `lock`."""

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self.clock = clock
        self.lock = threading.Lock()
        self._records: OrderedDict[str, _Record] = OrderedDict()  # longest unwritten first
        self._groups: OrderedDict[str, Group] = OrderedDict()
        self._group_of: dict[str, str] = {}
        self._waiters: dict[str, list[Waiter]] = {}

    def now(self) -> float:
        """Unix seconds."""
        return self.clock.now().timestamp()

    # ------------------------------------------------------------------------------------------------ records

    def find(self, uuid: str) -> TaskState | None:
        """The record, unless it has expired."""
        record = self._records.get(uuid)
        if record is None:
            return None
        if record.expires <= self.now() and not self._kept_by_group(uuid):
            del self._records[uuid]
            return None
        return record.state

    def write(self, state: TaskState, expires: float) -> None:
        """Write a record whatever was there, and wake those who wait for it if it is final."""
        uuid = state.task_uuid
        self._records[uuid] = _Record(state, expires)
        self._records.move_to_end(uuid)
        if state.is_completed:
            for waiter in self._waiters.pop(uuid, ()):
                waiter.missing.discard(uuid)
                if not waiter.missing:
                    waiter.condition.notify()

    def sweep(self, expires: float) -> None:
        """Delete a few records and groups whose time is over; ``expires`` renews those that an open group keeps."""
        now = self.now()
        for _ in range(SWEEP):
            if not self._records:
                break
            uuid, record = next(iter(self._records.items()))
            if record.expires > now:
                break
            if self._kept_by_group(uuid):
                record.expires = expires
                self._records.move_to_end(uuid)
            else:
                del self._records[uuid]
        for _ in range(SWEEP):
            if not self._groups:
                break
            group = next(iter(self._groups.values()))
            if group.expires > now:
                break
            self.drop_group(group)

    def forget(self, uuid: str) -> None:
        """Delete a record."""
        self._records.pop(uuid, None)

    # ------------------------------------------------------------------------------------------------- groups

    def add_group(self, group: Group) -> None:
        """Keep a group, in place of an earlier one of that id."""
        if (earlier := self._groups.get(group.meta.group_uuid)) is not None:
            self.drop_group(earlier)
        self._groups[group.meta.group_uuid] = group
        self._group_of.update(dict.fromkeys(group.meta.task_uuids, group.meta.group_uuid))

    def find_group(self, group_uuid: str) -> Group:
        """The group. Raises `GroupNotFound`."""
        group = self._groups.get(group_uuid)
        if group is not None and group.expires <= self.now():
            self.drop_group(group)
            group = None
        if group is None:
            raise GroupNotFound(
                f"there is no group {group_uuid}: it was never sent through this backend, or it has expired"
            )
        return group

    def renew_group(self, group: Group, expires: float) -> None:
        """Let the group live until then."""
        group.expires = expires
        self._groups.move_to_end(group.meta.group_uuid)

    def close_group(self, group: Group, expires: float) -> None:
        """The group and its members' records live until then and no longer."""
        group.closed = True
        self.renew_group(group, expires)
        for uuid in group.meta.task_uuids:
            if (record := self._records.get(uuid)) is not None:
                record.expires = expires
                self._records.move_to_end(uuid)

    def open_groups(self) -> Iterable[Group]:
        """Those neither closed nor expired."""
        now = self.now()
        return (group for group in self._groups.values() if not group.closed and group.expires > now)

    def drop_group(self, group: Group) -> None:
        """Delete a group; its members' records then live by their own time."""
        del self._groups[group.meta.group_uuid]
        for uuid in group.meta.task_uuids:
            if self._group_of.get(uuid) == group.meta.group_uuid:
                del self._group_of[uuid]

    def mark_triggered(self, group: Group, claimant: str) -> None:
        """Record who sends the callback."""
        group.claimant = claimant
        group.meta = replace(group.meta, chord_triggered=True)

    def _kept_by_group(self, uuid: str) -> bool:
        group = self._groups.get(self._group_of.get(uuid, ""))
        return group is not None and not group.closed and group.expires > self.now()

    # ---------------------------------------------------------------------------------------------- waiting

    def add_waiter(self, ids: Iterable[str]) -> Waiter:
        """Somebody to be woken when all of ``ids`` are final."""
        waiter = Waiter(threading.Condition(self.lock), set(ids))
        for uuid in waiter.missing:
            self._waiters.setdefault(uuid, []).append(waiter)
        return waiter

    def remove_waiter(self, waiter: Waiter) -> None:
        """They wait no more."""
        for uuid in waiter.missing:
            waiters = self._waiters[uuid]
            waiters.remove(waiter)
            if not waiters:
                del self._waiters[uuid]

    def wake_all(self) -> None:
        """Let everybody who waits look whether it is still worth it."""
        for waiters in self._waiters.values():
            for waiter in waiters:
                waiter.condition.notify()
