"""The statements of the broker, each for a connection inside a transaction."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from machinery._times import to_unix_nanoseconds
from machinery.sqlite._schema import DELAYED, READY

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence
    from datetime import datetime

    from machinery.abc import Message

Handle = tuple[int, int]
"""A message's id and the number of the loan: together they name one delivery."""

PROMOTED_AT_ONCE = 1000
"""Due messages made ready in one transaction, so that none is long."""

_INSERT = """
    INSERT INTO machinery_messages (queue, status, priority, position, body) VALUES (?, ?, ?, ?, ?)
"""
_LAST_POSITION = """
    SELECT max(position) FROM machinery_messages WHERE status = 0 AND queue = ? AND priority = ?
"""
_PROMOTE = """
    UPDATE machinery_messages SET status = 0 WHERE id IN
        (SELECT id FROM machinery_messages WHERE status = 1 AND position <= ? ORDER BY position LIMIT ?)
"""
_CLAIM = """
    UPDATE machinery_messages
    SET status = 2, holder = ?, loan = ?, lease = ?, beat = 0, attempt = attempt + 1, delivered = delivered + 1
    WHERE id IN (
        SELECT id FROM machinery_messages WHERE status = 0 AND queue = ? ORDER BY priority DESC, position, id LIMIT ?
    )
"""
_CLAIMED = """
    SELECT id, body, attempt, delivered FROM machinery_messages
    WHERE status = 2 AND holder = ? AND loan = ? ORDER BY priority DESC, position, id
"""
_NOTHING_DUE = """
    SELECT NOT EXISTS (SELECT 1 FROM machinery_messages WHERE status = 0 AND queue = ?),
           (SELECT min(position) FROM machinery_messages WHERE status = 1)
"""
_SETTLE = " WHERE id = ? AND loan = ? AND status = 2"
_RELEASE = "UPDATE machinery_messages SET holder = NULL, loan = NULL, status = "

ACK = f"DELETE FROM machinery_messages{_SETTLE}"  # noqa: S608 - here and below: made of constants
NACK = f"{_RELEASE} 0, attempt = attempt - 1{_SETTLE}"
POSTPONE = f"{_RELEASE} 1, attempt = attempt - 1, position = ?{_SETTLE}"
EXTEND = f"UPDATE machinery_messages SET beat = beat + 1{_SETTLE}"  # noqa: S608
BURY = f"""
    INSERT INTO machinery_dead_letters (queue, priority, reason, died_at, body)
    SELECT queue, priority, ?, ?, body FROM machinery_messages {_SETTLE}
"""  # noqa: S608
TAKE_BACK = f"{_RELEASE} 0{_SETTLE} AND beat = ?"
GIVE_BACK_ALL = f"{_RELEASE} 0 WHERE holder = ? AND status = 2"
LOANS = "SELECT id, loan, beat, lease FROM machinery_messages WHERE status = 2"


def now_us() -> int:
    """Unix microseconds."""
    return time.time_ns() // 1000


def to_us(moment: datetime) -> int:
    """Unix microseconds of an aware ``moment``, rounded up: nothing is due early."""
    return -(-to_unix_nanoseconds(moment) // 1000)


def insert(connection: sqlite3.Connection, messages: Sequence[Message]) -> None:
    """Put messages at the tails of their queues, or among the delayed."""
    now = now_us()
    tails: dict[tuple[str, int], int] = {}
    rows: list[tuple[str, int, int, int, bytes]] = []
    for message in messages:
        queue, priority = message.queue, message.priority
        if message.eta is not None and (due := to_us(message.eta)) > now:
            rows.append((queue, DELAYED, priority, due, message.body))
            continue
        tail = tails.get((queue, priority))
        if tail is None:
            last = connection.execute(_LAST_POSITION, (queue, priority)).fetchone()[0]
            tail = now if last is None else max(now, last + 1)  # in order even when the clock went back
        rows.append((queue, READY, priority, tail, message.body))
        tails[queue, priority] = tail + 1
    connection.executemany(_INSERT, rows)


def next_due(connection: sqlite3.Connection, queue: str) -> int | None:
    """0 when there is something to receive or to promote; else the Unix microsecond when there will be, ``None``: unknown."""
    nothing, due = connection.execute(_NOTHING_DUE, (queue,)).fetchone()
    if not nothing or (due is not None and due <= now_us()):
        return 0
    return None if due is None else int(due)


def promote(connection: sqlite3.Connection) -> int:
    """Make ready what is due, of all queues, oldest first; returns how many."""
    return connection.execute(_PROMOTE, (now_us(), PROMOTED_AT_ONCE)).rowcount


def claim(
    connection: sqlite3.Connection, queue: str, holder: str, loan: int, lease: float, limit: int
) -> list[tuple[int, bytes, int, int]]:
    """Lend up to ``limit`` messages. Each as id, body, attempt, times delivered (this one included), in order."""
    if not connection.execute(_CLAIM, (holder, loan, lease, queue, limit)).rowcount:
        return []
    return claimed(connection, holder, loan)


def claimed(connection: sqlite3.Connection, holder: str, loan: int) -> list[tuple[int, bytes, int, int]]:
    """What a claim of that number lent, if it was carried out."""
    return connection.execute(_CLAIMED, (holder, loan)).fetchall()
