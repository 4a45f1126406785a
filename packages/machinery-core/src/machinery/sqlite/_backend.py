"""The result backend of ``sqlite://``: records in a file."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from machinery.abc import Backend, BackendCapabilities, GroupMeta, StoredGroup
from machinery.errors import BackendUnavailable
from machinery.sqlite import _groups, _records
from machinery.sqlite._database import Database, look_out, wait_for_change
from machinery.sqlite._messages import now_us, to_us
from machinery.sqlite._options import SqliteOptions

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence
    from datetime import datetime

    from machinery._config import Config
    from machinery.abc import Signature, TaskState

CAPABILITIES = BackendCapabilities(largest_record=_records.LARGEST_RECORD)

ONE_HOUR = timedelta(hours=1)
"""What ``results_expire_in`` 0 means, as in Go."""

BETWEEN_SWEEPS = 1.0
"""Seconds between two writes that also delete what has expired …"""
WRITES_BETWEEN_SWEEPS = 500
"""… or records written meanwhile, whichever comes first."""


class SqliteBackend(Backend):
    """Records in a file, for all processes of one machine."""

    def __init__(
        self,
        options: SqliteOptions,
        *,
        results_expire_in: timedelta = ONE_HOUR,
        group_expire_in: timedelta = timedelta(days=7),
    ) -> None:
        self._database = Database(options, BackendUnavailable)
        self._results_live = _to_microseconds(results_expire_in or ONE_HOUR)
        self._groups_live = _to_microseconds(group_expire_in)
        self._swept = 0.0
        self._written = 0

    @classmethod
    def from_url(cls, url: str, config: Config) -> Any:
        """A backend on the file that ``url`` names (`SqliteOptions`)."""
        return cls(
            SqliteOptions.from_url(url, config),
            results_expire_in=config.results_expire_in,
            group_expire_in=config.group_expire_in,
        )

    @property
    def capabilities(self) -> BackendCapabilities:
        """Constant. Other processes are seen within 20 ms, this one's threads at once."""
        return CAPABILITIES

    @property
    def path(self) -> str:
        """The file's real path: the same for every way to name it."""
        return self._database.path

    def submit(self, states: Sequence[TaskState]) -> None:
        """Write PENDING records over whatever was there, in one transaction."""
        with self._database.write() as connection:
            self.submit_in(connection, states)

    def submit_in(self, connection: sqlite3.Connection, states: Sequence[TaskState]) -> None:
        """`submit` as a part of the caller's transaction on the same file."""
        _records.submit(connection, states, now_us() + self._results_live)
        self._sweep(connection, len(states))

    def save(self, states: Sequence[TaskState]) -> list[TaskState]:
        """Write records, in one transaction; a final one stays as it is."""
        with self._database.write() as connection:
            stored, too_large = _records.save(connection, states, now_us() + self._results_live)
            self._sweep(connection, len(states))
        if any(state.is_completed for state in stored):
            self._database.neighbours.finished.give()
        if too_large is not None:
            raise too_large
        return stored

    def load(self, ids: Sequence[str]) -> list[TaskState | None]:
        """The records, ``None`` where there is none."""
        with self._database.read() as connection:
            return _records.load(connection, ids)

    def wait(self, ids: Sequence[str], timeout: float, interval: float = 0.5) -> list[TaskState | None]:
        """Woken by this process's saves; another process's change of the file is noticed within 20 ms or ``interval``."""
        deadline = time.monotonic() + timeout
        signal = self._database.neighbours.finished
        missing = list(ids)
        while True:
            seen = look_out(self._database, signal)
            with self._database.read() as connection:
                _records.drop_final(connection, missing)
            now = time.monotonic()
            if not missing or now >= deadline:
                return self.load(ids)
            wait_for_change(self._database, signal, seen, min(deadline, now + interval))

    def forget(self, ids: Sequence[str]) -> None:
        """Delete records."""
        with self._database.write() as connection:
            _records.forget(connection, ids)

    def create_group(self, group: GroupMeta, callback: Signature | None = None) -> None:
        """Keep a group, in place of an earlier one of that id."""
        with self._database.write() as connection:
            _groups.create(connection, group, callback, now_us() + self._groups_live)

    def load_group(self, group_uuid: str) -> StoredGroup:
        """The group."""
        with self._database.read() as connection:
            return _groups.load(connection, group_uuid)

    def finish_members(self, pairs: Sequence[tuple[str, str]]) -> list[int]:
        """Note finished members, in one transaction; their groups live on from now."""
        with self._database.write() as connection:
            expires = now_us() + self._groups_live
            return [_groups.finish(connection, group_uuid, uuid, expires) for group_uuid, uuid in pairs]

    def claim_chord(self, group_uuid: str, claimant: str) -> bool:
        """True to the first who asks, and to that one each time."""
        with self._database.write() as connection:
            return _groups.claim(connection, group_uuid, claimant)

    def open_groups(self, idle_since: datetime, limit: int) -> list[str]:
        """Chords in which nothing has happened since then."""
        with self._database.read() as connection:
            return _groups.idle_chords(connection, to_us(idle_since), limit)

    def close_group(self, group_uuid: str) -> None:
        """The group has ended. One that is not there has ended already."""
        with self._database.write() as connection:
            _groups.close(connection, group_uuid, now_us() + self._results_live)

    def close(self) -> None:
        """Close the connection; those who wait are woken."""
        self._database.close()

    def _sweep(self, connection: sqlite3.Connection, written: int) -> None:
        # Inside the transaction, and so never by two threads at once.
        now = time.monotonic()
        self._written += written
        if now - self._swept < BETWEEN_SWEEPS and self._written < WRITES_BETWEEN_SWEEPS:
            return
        self._swept, self._written = now, 0
        _records.sweep(connection, now_us() + self._results_live)
        _groups.sweep(connection)


def _to_microseconds(span: timedelta) -> int:
    return span // timedelta(microseconds=1)
