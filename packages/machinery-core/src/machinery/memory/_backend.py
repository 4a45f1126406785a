"""The result backend of ``memory://``: records inside this process."""

from __future__ import annotations

from datetime import timedelta
from heapq import nsmallest
from typing import TYPE_CHECKING, Any

from machinery.abc import Backend, BackendCapabilities, GroupMeta, StoredGroup
from machinery.errors import Closed, GroupNotFound
from machinery.memory._named import store_for
from machinery.memory._records import Group, MemoryRecords, detached

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from machinery._config import Config
    from machinery.abc import Signature, TaskState

CAPABILITIES = BackendCapabilities(several_processes=False)
"""No limits; waiting is pushed; open groups are listed."""

ONE_HOUR = timedelta(hours=1)
"""What ``results_expire_in`` 0 means, as in Go."""


class MemoryBackend(Backend):
    """Records inside this process. Backends given the same `MemoryRecords` share them."""

    def __init__(
        self,
        records: MemoryRecords | None = None,
        *,
        results_expire_in: timedelta = ONE_HOUR,
        group_expire_in: timedelta = timedelta(days=7),
    ) -> None:
        self._store = records or MemoryRecords()
        self._results_live = (results_expire_in or ONE_HOUR).total_seconds()
        self._groups_live = group_expire_in.total_seconds()
        self._closed = False

    @classmethod
    def from_url(cls, url: str, config: Config) -> Any:
        """A backend on the store that ``url`` names (``memory://name``), or on one of its own (``memory://``)."""
        return cls(
            store_for(url, MemoryRecords),
            results_expire_in=config.results_expire_in,
            group_expire_in=config.group_expire_in,
        )

    @property
    def capabilities(self) -> BackendCapabilities:
        """Constant."""
        return CAPABILITIES

    def submit(self, states: Sequence[TaskState]) -> None:
        """Write PENDING records over whatever was there."""
        self._check_open()
        with self._store.lock:
            for state in states:
                self._write(state)

    def save(self, states: Sequence[TaskState]) -> list[TaskState]:
        """Write records; a final one stays as it is."""
        self._check_open()
        with self._store.lock:
            return [detached(self._save(state)) for state in states]

    def load(self, ids: Sequence[str]) -> list[TaskState | None]:
        """The records, ``None`` where there is none."""
        self._check_open()
        with self._store.lock:
            return [detached(self._store.find(uuid)) for uuid in ids]

    def wait(self, ids: Sequence[str], timeout: float, interval: float = 0.5) -> list[TaskState | None]:  # noqa: ARG002
        """Woken by the save that makes the last of them final; nobody else writes here, so ``interval`` has no use."""
        self._check_open()
        clock = self._store.clock
        deadline = clock.monotonic() + timeout
        with self._store.lock:
            found = [self._store.find(uuid) for uuid in ids]
            waiter = self._store.add_waiter(
                uuid for uuid, state in zip(ids, found, strict=True) if state is None or not state.is_completed
            )
            while waiter.missing and not self._closed and (left := deadline - clock.monotonic()) > 0:
                clock.wait(waiter.condition, left)
            self._store.remove_waiter(waiter)
            self._check_open()
            return [detached(self._store.find(uuid)) for uuid in ids]

    def forget(self, ids: Sequence[str]) -> None:
        """Delete records."""
        self._check_open()
        with self._store.lock:
            for uuid in ids:
                self._store.forget(uuid)

    def create_group(self, group: GroupMeta, callback: Signature | None = None) -> None:
        """Keep a group, in place of an earlier one of that id."""
        self._check_open()
        with self._store.lock:
            now = self._store.now()
            self._store.add_group(Group(group, callback, now + self._groups_live, now))
            self._store.sweep(now + self._results_live)

    def load_group(self, group_uuid: str) -> StoredGroup:
        """The group."""
        self._check_open()
        with self._store.lock:
            group = self._store.find_group(group_uuid)
            return StoredGroup(group.meta, group.callback)

    def finish_members(self, pairs: Sequence[tuple[str, str]]) -> list[int]:
        """Note finished members; the group lives on from now."""
        self._check_open()
        with self._store.lock:
            return list(self._finish(pairs))

    def claim_chord(self, group_uuid: str, claimant: str) -> bool:
        """True to the first who asks, and to that one each time."""
        self._check_open()
        with self._store.lock:
            group = self._store.find_group(group_uuid)
            if not group.meta.chord_triggered:
                self._store.mark_triggered(group, claimant)
            return group.claimant == claimant

    def open_groups(self, idle_since: datetime, limit: int) -> list[str]:
        """Chords in which nothing has happened since then."""
        self._check_open()
        before = idle_since.timestamp()
        with self._store.lock:
            idle = [
                (group.last_finish, group.meta.group_uuid)
                for group in self._store.open_groups()
                if group.callback is not None and group.last_finish < before
            ]
        return [group_uuid for _, group_uuid in nsmallest(limit, idle)]

    def close_group(self, group_uuid: str) -> None:
        """The group has ended. One that is not there has ended already."""
        self._check_open()
        with self._store.lock:
            try:
                group = self._store.find_group(group_uuid)
            except GroupNotFound:
                return
            self._store.close_group(group, self._store.now() + self._results_live)

    def close(self) -> None:
        """Records stay for others on the same store; those who wait through this backend are woken."""
        self._closed = True
        with self._store.lock:
            self._store.wake_all()

    def _save(self, state: TaskState) -> TaskState:
        earlier = self._store.find(state.task_uuid)
        if earlier is None:
            return self._write(state)
        if earlier.is_completed:
            return earlier.as_found()
        return self._write(state.with_origin_of(earlier))

    def _write(self, state: TaskState) -> TaskState:
        expires = self._store.now() + self._results_live
        self._store.write(detached(state), expires)
        self._store.sweep(expires)
        return state

    def _finish(self, pairs: Sequence[tuple[str, str]]) -> Iterator[int]:
        now = self._store.now()
        for group_uuid, uuid in pairs:
            try:
                group = self._store.find_group(group_uuid)
            except GroupNotFound:
                yield 0
                continue
            group.finished.add(uuid)
            group.last_finish = now
            if not group.closed:
                self._store.renew_group(group, now + self._groups_live)
            yield len(group.finished)

    def _check_open(self) -> None:
        if self._closed:
            raise Closed("this result backend was closed")
