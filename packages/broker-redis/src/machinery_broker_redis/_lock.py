"""The lock: Go's keys and values (protocol §8.6), taken over without Go's races; and beside them the public ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from machinery.abc import Config, Lock, LockToken, Section
from machinery.errors import LockUnavailable
from machinery_broker_redis._driver import client_for, client_of
from machinery_broker_redis._examination import examine
from machinery_broker_redis._keys import hold_key
from machinery_broker_redis._options import REDIS_SECTION, to_options, to_service
from machinery_broker_redis._publishing import to_nanoseconds
from machinery_broker_redis._scripts import script

if TYPE_CHECKING:
    from machinery.abc import Finding
    from machinery_broker_redis._client import Client

FENCE_KEPT = timedelta(days=3)
"""How long the last fence of a key is kept after its hold has run out. Fences follow the server's time, so it is needed only
when that is set back, or when another server with a slower clock takes over."""

_MILLISECOND = timedelta(milliseconds=1)


def _system_time() -> datetime:
    return datetime.now(UTC)


class RedisLock(Lock):
    """Locks in Redis, shared with Go Machinery's servers. Made like `RedisBroker`; a URL's database counts here too.

    A public lock is one hash, so that it lies in one cluster slot whatever its name, and the last fence outlives the hold in it.
    """

    section: ClassVar[Section | None] = REDIS_SECTION

    def __init__(
        self, client: Any, config: Config | None = None, *, now: Callable[[], datetime] = _system_time, **options: Any
    ) -> None:
        """Raises `ConfigError` for options that are wrong. ``now``: what time it is here; for tests of what skew does."""
        self._client: Client = client_of(client, to_options(config or Config(), options), LockUnavailable)
        self._now = now

    @classmethod
    def from_url(cls, url: str, config: Config) -> RedisLock:
        """A lock on the Redis that ``url`` names."""
        lock = cls.__new__(cls)
        lock._client = client_for(to_service(url, config), LockUnavailable)  # noqa: SLF001 - it is ours
        lock._now = _system_time  # noqa: SLF001 - likewise
        return lock

    def try_acquire(self, key: str, until: datetime) -> LockToken | None:
        """Take ``key``, or take it over from one whose time has passed by this machine's clock."""
        self._client.check_open()
        now = to_nanoseconds(self._now())
        end = to_nanoseconds(until)
        value = str(end - 1)
        milliseconds = max(1, (end - now) // 1_000_000)
        taken = self._client.run(script("acquire"), (key,), value, milliseconds, now)
        return LockToken(key, value, until) if taken else None

    def try_hold(self, key: str, ttl: timedelta | float) -> LockToken | None:
        """Hold ``key`` for ``ttl`` by the server's clock, unless somebody holds it."""
        self._client.check_open()
        token, span = LockToken.to_hold(key, ttl, self._now())
        fence = self._client.run(script("hold"), (hold_key(key),), token.value, *_to_milliseconds(span, FENCE_KEPT))
        return replace(token, fence=fence) if fence else None

    def renew(self, token: LockToken, ttl: timedelta | float) -> LockToken | None:
        """Hold on from now, while the key has our value."""
        self._client.check_open()
        renewed, span = token.to_renew(ttl, self._now())
        key = hold_key(token.key)
        still_ours = self._client.run(script("renew"), (key,), token.value, *_to_milliseconds(span, FENCE_KEPT))
        return renewed if still_ours else None

    def release(self, token: LockToken) -> bool:
        """Let go while the key has our value."""
        self._client.check_open()
        if token.fence:
            return bool(self._client.run(script("let_go"), (hold_key(token.key),), token.value))
        return bool(self._client.run(script("release"), (token.key,), token.value))

    def examine(self) -> list[Finding]:
        """What is dangerous about the server's settings."""
        return examine(self._client)

    def close(self) -> None:
        """Let go of every connection."""
        self._client.close()


def _to_milliseconds(*spans: timedelta) -> list[int]:
    """Whole milliseconds, rounded up: nothing ends early."""
    return [-(-span // _MILLISECOND) for span in spans]
