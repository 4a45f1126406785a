"""The lock of ``sqlite://``: rows in a file, by the machine's time of day."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from machinery._times import to_unix_nanoseconds
from machinery.abc import Lock, LockToken
from machinery.errors import LockUnavailable
from machinery.sqlite._database import Database
from machinery.sqlite._messages import now_us, to_us
from machinery.sqlite._options import SqliteOptions

if TYPE_CHECKING:
    from datetime import datetime

    from machinery._config import Config


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
        now = now_us()
        with self._database.write() as connection:
            # Keys of periodic locks carry a tick in their name: without this they would pile up.
            connection.execute("DELETE FROM machinery_locks WHERE until <= ?", (now,))
            taken = connection.execute(
                "INSERT OR IGNORE INTO machinery_locks (key, until, value) VALUES (?, ?, ?)",
                (key, to_us(until), token.value),
            ).rowcount
        return token if taken else None

    def release(self, token: LockToken) -> bool:
        """Let go, if it is still this token that holds the key."""
        with self._database.write() as connection:
            return bool(
                connection.execute(
                    "DELETE FROM machinery_locks WHERE key = ? AND value = ? AND until > ?",
                    (token.key, token.value, now_us()),
                ).rowcount
            )

    def close(self) -> None:
        """Close the connection. Held keys stay held until their time is over."""
        self._database.close()
