"""The lock of ``memory://``, and of every server that has no other."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from machinery._clock import SYSTEM_CLOCK, Clock
from machinery._times import to_unix_nanoseconds
from machinery.abc import Lock, LockToken
from machinery.errors import Closed
from machinery.memory._named import store_for

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from machinery._config import Config


SWEEP_AT = 64
"""Fewer keys than that are not worth a look."""


@dataclass(frozen=True, slots=True)
class Held:
    """Who has a key, and until when by the store's clock."""

    value: str
    until: datetime


class MemoryLocks:
    """What locks on one store share. Safe from any thread."""

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self.clock = clock
        """The store's, by which every lock ends."""
        self.held: dict[str, Held] = {}
        """By whom a key was acquired."""
        self.holds: dict[str, Held] = {}
        """By whom a public one is held; the same key may be in both."""
        self.fence = 0
        """The last one given, for whichever key."""
        self.sweep_at = SWEEP_AT
        """How many keys there may be before those that have ended are looked for: seldom, however many there are."""
        self.guard = threading.Lock()


class MemoryLock(Lock):
    """Named locks inside this process. Those given the same `MemoryLocks` exclude each other."""

    several_processes = False

    def __init__(self, locks: MemoryLocks | None = None, clock: Clock | None = None) -> None:
        """``clock``: what time it is here, where that is not what the store's clock says: to test what skew does."""
        self._locks = locks or MemoryLocks()
        self._clock = clock or self._locks.clock
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
            taken = self._take(self._locks.held, key, Held(token.value, until))
        return token if taken else None

    def try_hold(self, key: str, ttl: timedelta | float) -> LockToken | None:
        """Hold ``key`` for ``ttl`` by the store's clock, unless somebody holds it."""
        self._check_open()
        token, span = LockToken.to_hold(key, ttl, self._clock.now())
        with self._locks.guard:
            if not self._take(self._locks.holds, key, Held(token.value, self._locks.clock.now() + span)):
                return None
            return replace(token, fence=self._next_fence())

    def renew(self, token: LockToken, ttl: timedelta | float) -> LockToken | None:
        """Hold on from now, if it is still this token that holds the key."""
        self._check_open()
        renewed, span = token.to_renew(ttl, self._clock.now())
        with self._locks.guard:
            if not self._is_ours(self._locks.holds, token):
                return None
            self._locks.holds[token.key] = Held(token.value, self._locks.clock.now() + span)
            return renewed

    def release(self, token: LockToken) -> bool:
        """Let go, if it is still this token that holds the key."""
        self._check_open()
        kept = self._locks.holds if token.fence else self._locks.held
        with self._locks.guard:
            if not self._is_ours(kept, token):
                return False
            del kept[token.key]
            return True

    def close(self) -> None:
        """Held keys stay held until their time is over, as on any service."""
        self._closed = True

    def _take(self, kept: dict[str, Held], key: str, wanted: Held) -> bool:
        now = self._locks.clock.now()
        if key in kept and kept[key].until > now:
            return False
        # Keys of periodic locks carry a tick in their name, others an order's number: without this they would pile up.
        if len(kept) >= self._locks.sweep_at:
            for ended in [key for key, held in kept.items() if held.until <= now]:
                del kept[ended]
            self._locks.sweep_at = max(SWEEP_AT, 2 * len(kept))
        kept[key] = wanted
        return True

    def _is_ours(self, kept: dict[str, Held], token: LockToken) -> bool:
        held = kept.get(token.key)
        return held is not None and held.value == token.value and held.until > self._locks.clock.now()

    def _next_fence(self) -> int:
        """The time in microseconds, so that fences grow from one life of the process to the next, or the last one and one."""
        self._locks.fence = max(to_unix_nanoseconds(self._locks.clock.now()) // 1000, self._locks.fence + 1)
        return self._locks.fence

    def _check_open(self) -> None:
        if self._closed:
            raise Closed("this lock was closed")
