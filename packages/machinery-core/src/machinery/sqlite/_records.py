"""The statements for records of tasks, each for a connection inside a transaction."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from machinery._times import ZERO_TIME, decode_time, encode_time
from machinery.errors import ResultTooLarge
from machinery.sqlite._messages import now_us
from machinery.wire import decode_state, encode_state

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from machinery.abc import TaskState

LARGEST_RECORD = 256 * 1024 * 1024
"""SQLite itself ends at 1 GB; long before that a file is the wrong place."""

SWEPT_AT_ONCE = 1000
"""Expired records deleted in one transaction, so that none is long. More than are written between two sweeps."""

# A record that an open group needs outlives its own time.
_KEPT = """EXISTS (
    SELECT 1 FROM machinery_members JOIN machinery_groups USING (group_uuid)
    WHERE machinery_members.task_uuid = machinery_records.task_uuid
      AND machinery_groups.closed = 0 AND machinery_groups.expires > :now
)"""
_LOAD = f"""
    SELECT record FROM machinery_records WHERE task_uuid = :uuid AND (expires > :now OR {_KEPT})
"""  # noqa: S608 - made of constants
_EARLIER = f"""
    SELECT final, task_name, created_at, record FROM machinery_records
    WHERE task_uuid = :uuid AND (expires > :now OR {_KEPT})
"""  # noqa: S608 - made of constants
_WRITE = """
    INSERT INTO machinery_records (task_uuid, final, expires, task_name, created_at, record) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (task_uuid) DO UPDATE SET
        final = excluded.final, expires = excluded.expires, task_name = excluded.task_name,
        created_at = excluded.created_at, record = excluded.record
"""
_EXPIRED = f"""
    SELECT task_uuid, {_KEPT} FROM machinery_records WHERE expires <= :now ORDER BY expires LIMIT :limit
"""  # noqa: S608 - made of constants
_ZERO_TIME = encode_time(ZERO_TIME)


def submit(connection: sqlite3.Connection, states: Sequence[TaskState], expires: int) -> None:
    """Write records over whatever was there."""
    connection.executemany(_WRITE, [_to_row(state, expires, encode_state(state)) for state in states])


def save(
    connection: sqlite3.Connection, states: Sequence[TaskState], expires: int
) -> tuple[list[TaskState], ResultTooLarge | None]:
    """Write records but over final ones; returns those now stored, and the error to raise for those that were refused."""
    now = now_us()
    stored: list[TaskState] = []
    too_large: list[str] = []
    for state in states:
        earlier = connection.execute(_EARLIER, {"uuid": state.task_uuid, "now": now}).fetchone()
        if earlier is None:
            kept = state
        elif earlier[0]:
            stored.append(decode_state(earlier[3]).as_found())
            continue
        else:
            kept = _with_origin(state, earlier[1], earlier[2])
        record = encode_state(kept)
        if len(record) > LARGEST_RECORD:
            too_large.append(state.task_uuid)
            continue
        connection.execute(_WRITE, _to_row(kept, expires, record))
        stored.append(kept)
    if not too_large:
        return stored, None
    text = f"{len(too_large)} records are larger than {LARGEST_RECORD} bytes, the most that sqlite:// takes"
    return stored, ResultTooLarge(text, too_large)


def load(connection: sqlite3.Connection, ids: Sequence[str]) -> list[TaskState | None]:
    """The records that have not expired."""
    now = now_us()
    rows = [connection.execute(_LOAD, {"uuid": uuid, "now": now}).fetchone() for uuid in ids]
    return [None if row is None else decode_state(row[0]) for row in rows]


def drop_final(connection: sqlite3.Connection, ids: list[str]) -> None:
    """Remove ids from the end of the list as long as they are final: what is left shows whether all are."""
    while ids:
        row = connection.execute("SELECT final FROM machinery_records WHERE task_uuid = ?", (ids[-1],)).fetchone()
        if row is None or not row[0]:
            return
        ids.pop()


def forget(connection: sqlite3.Connection, ids: Sequence[str]) -> None:
    """Delete records."""
    connection.executemany("DELETE FROM machinery_records WHERE task_uuid = ?", [(uuid,) for uuid in ids])


def sweep(connection: sqlite3.Connection, expires: int) -> None:
    """Delete some records whose time is over; those that open groups keep live until ``expires``."""
    found = connection.execute(_EXPIRED, {"now": now_us(), "limit": SWEPT_AT_ONCE}).fetchall()
    connection.executemany(
        "UPDATE machinery_records SET expires = ? WHERE task_uuid = ?",
        [(expires, uuid) for uuid, is_kept in found if is_kept],
    )
    forget(connection, [uuid for uuid, is_kept in found if not is_kept])


def _to_row(state: TaskState, expires: int, record: bytes) -> tuple[object, ...]:
    return (state.task_uuid, state.is_completed, expires, state.task_name, encode_time(state.created_at), record)


def _with_origin(state: TaskState, task_name: str, created_at: str) -> TaskState:
    # What TaskState.with_origin_of does, without decoding the earlier record.
    return replace(
        state,
        task_name=task_name or state.task_name,
        created_at=decode_time(created_at) if created_at != _ZERO_TIME else state.created_at,
    )
