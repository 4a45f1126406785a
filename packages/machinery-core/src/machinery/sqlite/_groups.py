"""The statements for groups, each for a connection inside a transaction."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from machinery.abc import GroupMeta, Signature, StoredGroup
from machinery.errors import GroupNotFound
from machinery.sqlite._messages import now_us
from machinery.wire import decode_group, decode_signature, encode_group, encode_signature

if TYPE_CHECKING:
    import sqlite3

SWEPT_AT_ONCE = 1000
"""Members of expired groups deleted in one transaction, or somewhat more: a group goes as a whole."""

_FINISH = """
    UPDATE machinery_members SET finished = 1 WHERE group_uuid = ? AND task_uuid = ? AND finished = 0
"""
_COUNT = """
    UPDATE machinery_groups
    SET finished = finished + :more, last_finish = :now, expires = CASE closed WHEN 0 THEN :expires ELSE expires END
    WHERE group_uuid = :group AND expires > :now RETURNING finished
"""


def create(connection: sqlite3.Connection, group: GroupMeta, callback: Signature | None, expires: int) -> None:
    """Keep a group, in place of an earlier one of that id."""
    _drop(connection, group.group_uuid)
    connection.execute(
        "INSERT INTO machinery_groups (group_uuid, expires, last_finish, callback) VALUES (?, ?, ?, ?)",
        (
            group.group_uuid,
            expires,
            now_us(),
            None if callback is None else encode_signature(callback),
        ),
    )
    connection.execute(
        "INSERT INTO machinery_group_metas (group_uuid, meta) VALUES (?, ?)", (group.group_uuid, encode_group(group))
    )
    connection.executemany(
        "INSERT OR IGNORE INTO machinery_members (group_uuid, task_uuid) VALUES (?, ?)",
        [(group.group_uuid, uuid) for uuid in group.task_uuids],
    )


def load(connection: sqlite3.Connection, group_uuid: str) -> StoredGroup:
    """The group. Raises `GroupNotFound`."""
    _, callback, meta = _find(connection, group_uuid)
    return StoredGroup(decode_group(meta), None if callback is None else decode_signature(callback))


def finish(connection: sqlite3.Connection, group_uuid: str, task_uuid: str, expires: int) -> int:
    """Note one finished member; returns how many are noted, 0 when there is no such group."""
    more = connection.execute(_FINISH, (group_uuid, task_uuid)).rowcount
    values = {"group": group_uuid, "more": more, "now": now_us(), "expires": expires}
    row = connection.execute(_COUNT, values).fetchone()
    return 0 if row is None else int(row[0])


def claim(connection: sqlite3.Connection, group_uuid: str, claimant: str) -> bool:
    """True to the first who asks, and to that one each time. Raises `GroupNotFound`."""
    recorded, _, meta = _find(connection, group_uuid)
    group = decode_group(meta)
    if group.chord_triggered:
        return bool(recorded == claimant)
    triggered = encode_group(replace(group, chord_triggered=True))
    connection.execute("UPDATE machinery_groups SET claimant = ? WHERE group_uuid = ?", (claimant, group_uuid))
    connection.execute("UPDATE machinery_group_metas SET meta = ? WHERE group_uuid = ?", (triggered, group_uuid))
    return True


def idle_chords(connection: sqlite3.Connection, before: int, limit: int) -> list[str]:
    """Open groups with a callback in which nothing happened since the microsecond ``before``, longest idle first."""
    return [
        group_uuid
        for (group_uuid,) in connection.execute(
            "SELECT group_uuid FROM machinery_groups WHERE closed = 0 AND callback IS NOT NULL AND last_finish < ? "
            "AND expires > ? ORDER BY last_finish LIMIT ?",
            (before, now_us(), limit),
        )
    ]


def close(connection: sqlite3.Connection, group_uuid: str, expires: int) -> None:
    """The group and its members' records live until then and no longer."""
    connection.execute(
        "UPDATE machinery_groups SET closed = 1, expires = ? WHERE group_uuid = ?", (expires, group_uuid)
    )
    connection.execute(
        "UPDATE machinery_records SET expires = ? "
        "WHERE task_uuid IN (SELECT task_uuid FROM machinery_members WHERE group_uuid = ?)",
        (expires, group_uuid),
    )


def sweep(connection: sqlite3.Connection) -> None:
    """Delete groups whose time is over, until that were enough members for one transaction."""
    expired = connection.execute(
        "SELECT group_uuid FROM machinery_groups WHERE expires <= ? ORDER BY expires LIMIT ?", (now_us(), SWEPT_AT_ONCE)
    ).fetchall()
    members = 0
    for (group_uuid,) in expired:
        members += _drop(connection, group_uuid)
        if members >= SWEPT_AT_ONCE:
            break


def _find(connection: sqlite3.Connection, group_uuid: str) -> tuple[str, bytes | None, bytes]:
    row = connection.execute(
        "SELECT claimant, callback, meta FROM machinery_groups JOIN machinery_group_metas USING (group_uuid) "
        "WHERE group_uuid = ? AND expires > ?",
        (group_uuid, now_us()),
    ).fetchone()
    if row is None:
        raise GroupNotFound(
            f"there is no group {group_uuid}: it was never sent through this backend, or it has expired"
        )
    claimant, callback, meta = row
    return claimant, callback, meta


def _drop(connection: sqlite3.Connection, group_uuid: str) -> int:
    connection.execute("DELETE FROM machinery_groups WHERE group_uuid = ?", (group_uuid,))
    connection.execute("DELETE FROM machinery_group_metas WHERE group_uuid = ?", (group_uuid,))
    return connection.execute("DELETE FROM machinery_members WHERE group_uuid = ?", (group_uuid,)).rowcount
