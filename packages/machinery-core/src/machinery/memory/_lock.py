"""The lock of ``memory://``, and of every server that has no other."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from machinery._clock import SYSTEM_CLOCK, Clock
from machinery._times import to_unix_nanoseconds
from machinery.abc import Lock, LockToken
from machinery.errors import Closed
from machinery.memory._named import store_for

if TYPE_CHECKING:
    from datetime import datetime

    from machinery._config import Config


class MemoryLocks:
    """What locks on one store share. Safe from any thread."""

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self.clock = clock
        self.held: dict[str, LockToken] = {}
        self.guard = threading.Lock()


class MemoryLock(Lock):
    """Named locks inside this process. Those given the same `MemoryLocks` exclude each other."""

    def __init__(self, locks: MemoryLocks | None = None) -> None:
        self._locks = locks or MemoryLocks()
        self._closed = False

    @classmethod
    def from_url(cls, url: str, config: Config) -> Any:  # noqa: ARG003 - nothing to configure
        """A lock on the store that ``url`` names (``memory://name``), or on one of its own (``memory://``)."""
        return cls(store_for(url, MemoryLocks))

    def try_acquire(self, key: str, until: datetime) -> LockToken | None:
        """Take ``key`` unless somebody holds it."""
        self._check_open()
        token = LockToken(key, str(to_unix_nanoseconds(until) - 1), until)
        with self._locks.guard:
            now = self._locks.clock.now()
            held = self._locks.held.get(key)
            if held is not None and held.until > now:
                return None
            self._forget_ended(now)
            self._locks.held[key] = token
            return token

    def release(self, token: LockToken) -> bool:
        """Let go, if it is still this token that holds the key."""
        self._check_open()
        with self._locks.guard:
            held = self._locks.held.get(token.key)
            if held is None or held.value != token.value or held.until <= self._locks.clock.now():
                return False
            del self._locks.held[token.key]
            return True

    def close(self) -> None:
        """Held keys stay held until their time is over, as on any service."""
        self._closed = True

    def _forget_ended(self, now: datetime) -> None:
        # Keys of periodic locks carry a tick in their name: without this they would pile up.
        for key in [key for key, token in self._locks.held.items() if token.until <= now]:
            del self._locks.held[key]

    def _check_open(self) -> None:
        if self._closed:
            raise Closed("this lock was closed")
