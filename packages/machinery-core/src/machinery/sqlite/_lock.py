"""The lock of ``sqlite://``: rows in a file, by the machine's time of day."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from machinery._times import to_unix_nanoseconds
from machinery.abc import Lock, LockToken
from machinery.errors import LockUnavailable
from machinery.sqlite._database import Database
from machinery.sqlite._messages import now_us, to_us
from machinery.sqlite._options import SqliteOptions

if TYPE_CHECKING:
    import sqlite3

    from machinery._config import Config

# The two kinds of locks are two tables of the same columns.
ACQUIRED, HELD = "machinery_locks", "machinery_holds"

_FENCE = """
    INSERT INTO machinery_fences (id, last) VALUES (1, ?)
    ON CONFLICT (id) DO UPDATE SET last = max(last + 1, excluded.last) RETURNING last
"""


class SqliteLock(Lock):
    """Named locks in a file, for all processes of one machine."""

    def __init__(self, options: SqliteOptions) -> None:
        self._database = Database(options, LockUnavailable)

    @classmethod
    def from_url(cls, url: str, config: Config) -> Any:
        """A lock on the file that ``url`` names (`SqliteOptions`)."""
        return cls(SqliteOptions.from_url(url, config))

    def try_acquire(self, key: str, until: datetime) -> LockToken | None:
        """Take ``key`` unless somebody holds it."""
        token = LockToken(key, str(to_unix_nanoseconds(until) - 1), until)
        with self._database.write() as connection:
            taken = _take(connection, ACQUIRED, token, now_us(), to_us(until))
        return token if taken else None

    def try_hold(self, key: str, ttl: timedelta | float) -> LockToken | None:
        """Hold ``key`` for ``ttl`` by the machine's time of day, unless somebody holds it."""
        token, span = LockToken.to_hold(key, ttl, datetime.now(UTC))
        with self._database.write() as connection:
            now = now_us()
            if not _take(connection, HELD, token, now, now + _microseconds(span)):
                return None
            # One count for the whole file, so that no key leaves anything behind; never behind the time, should a file be lost.
            (fence,) = connection.execute(_FENCE, (now,)).fetchone()
        return replace(token, fence=fence)

    def renew(self, token: LockToken, ttl: timedelta | float) -> LockToken | None:
        """Hold on from now, if it is still this token that holds the key."""
        renewed, span = token.to_renew(ttl, datetime.now(UTC))
        with self._database.write() as connection:
            now = now_us()
            still_ours = connection.execute(
                "UPDATE machinery_holds SET until = ? WHERE key = ? AND value = ? AND until > ?",
                (now + _microseconds(span), token.key, token.value, now),
            ).rowcount
        return renewed if still_ours else None

    def release(self, token: LockToken) -> bool:
        """Let go, if it is still this token that holds the key."""
        table = HELD if token.fence else ACQUIRED
        with self._database.write() as connection:
            return bool(
                connection.execute(
                    f"DELETE FROM {table} WHERE key = ? AND value = ? AND until > ?",  # noqa: S608 - a constant
                    (token.key, token.value, now_us()),
                ).rowcount
            )

    def close(self) -> None:
        """Close the connection. Held keys stay held until their time is over."""
        self._database.close()


def _take(connection: sqlite3.Connection, table: str, token: LockToken, now: int, until: int) -> bool:
    # Keys of periodic locks carry a tick in their name, others an order's number: without this they would pile up.
    connection.execute(f"DELETE FROM {table} WHERE until <= ?", (now,))  # noqa: S608 - a constant
    return bool(
        connection.execute(
            f"INSERT OR IGNORE INTO {table} (key, until, value) VALUES (?, ?, ?)",  # noqa: S608 - likewise
            (token.key, until, token.value),
        ).rowcount
    )


def _microseconds(span: timedelta) -> int:
    return span // timedelta(microseconds=1)
