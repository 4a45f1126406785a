"""The lock: Go's keys and values (protocol §8.6), taken over without Go's races."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

from machinery.abc import Config, Lock, LockToken, Section
from machinery.errors import LockUnavailable
from machinery_broker_redis._driver import client_for, client_of
from machinery_broker_redis._examination import examine
from machinery_broker_redis._options import REDIS_SECTION, to_options, to_service
from machinery_broker_redis._publishing import to_nanoseconds
from machinery_broker_redis._scripts import script

if TYPE_CHECKING:
    from machinery.abc import Finding
    from machinery_broker_redis._client import Client


class RedisLock(Lock):
    """Locks in Redis, shared with Go Machinery's servers. Made like `RedisBroker`; a URL's database counts here too."""

    section: ClassVar[Section | None] = REDIS_SECTION

    def __init__(self, client: Any, config: Config | None = None, **options: Any) -> None:
        """Raises `ConfigError` for options that are wrong."""
        self._client: Client = client_of(client, to_options(config or Config(), options), LockUnavailable)

    @classmethod
    def from_url(cls, url: str, config: Config) -> RedisLock:
        """A lock on the Redis that ``url`` names."""
        lock = cls.__new__(cls)
        lock._client = client_for(to_service(url, config), LockUnavailable)  # noqa: SLF001 - it is ours
        return lock

    def try_acquire(self, key: str, until: datetime) -> LockToken | None:
        """Take ``key``, or take it over from one whose time has passed by this machine's clock."""
        self._client.check_open()
        now = to_nanoseconds(datetime.now(UTC))
        end = to_nanoseconds(until)
        value = str(end - 1)
        milliseconds = max(1, (end - now) // 1_000_000)
        taken = self._client.run(script("acquire"), (key,), value, milliseconds, now)
        return LockToken(key, value, until) if taken else None

    def release(self, token: LockToken) -> bool:
        """Delete the key while it has our value."""
        self._client.check_open()
        return bool(self._client.run(script("release"), (token.key,), token.value))

    def examine(self) -> list[Finding]:
        """What is dangerous about the server's settings."""
        return examine(self._client)

    def close(self) -> None:
        """Let go of every connection."""
        self._client.close()
