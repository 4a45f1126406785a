"""What the themes of the lock's contract share: keys, times, and locks that must be free."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, ClassVar
from uuid import uuid4

from machinery.testing._expectations import eventually

if TYPE_CHECKING:
    from machinery.abc import Lock, LockToken
    from machinery.testing._expectations import Stopwatch

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
BRIEF = timedelta(seconds=1)
"""The ttl of what is to run out before the test's eyes."""
SOON = 8.0
"""Seconds that what happens at once may take on a busy machine."""
SLACK = 0.05
"""Seconds by which two clocks may disagree about a span of `BRIEF`."""


class LockSuite:
    """What a plug-in may set to suit its service."""

    odd_keys: ClassVar[tuple[str, ...]] = (
        "größe ✓ 队列 🔒",
        " two  spaces ",
        "line\nand\ttab",
        "{tag}and{another}",
        "a}b{c",
        "{}",
        "a:b/c\\d?e=f&g%20#h*[i]$'\"",
        "0",
        "long" * 100,
    )
    """Keys beyond letters, digits and ``-``."""

    def new_key(self) -> str:
        """A key that nobody else uses."""
        return f"contract:{uuid4()}"

    def held(self, lock: Lock, key: str, ttl: timedelta | float = MINUTE) -> LockToken:
        """The token of ``key``, which must be free to be held."""
        token = lock.try_hold(key, ttl)
        assert token is not None, f"{key!r} is held by somebody"
        return token

    def check_runs_out(self, lock: Lock, key: str, watch: Stopwatch) -> None:
        """``lock`` is refused ``key``, which another took for `BRIEF` right after ``watch`` was made, until that is over."""
        early = lock.try_hold(key, MINUTE)
        assert early is None or watch.seconds >= BRIEF.total_seconds() - SLACK
        assert early or eventually(lambda: lock.try_hold(key, MINUTE))
        assert BRIEF.total_seconds() - SLACK <= watch.seconds < BRIEF.total_seconds() + SOON

    def renewed_in_time(self, lock: Lock, token: LockToken, watch: Stopwatch) -> LockToken | None:
        """``token``, held for `BRIEF` right after ``watch`` was made, for a minute more; none if that came too late."""
        renewed = lock.renew(token, MINUTE)
        assert renewed or watch.seconds >= BRIEF.total_seconds() - SLACK, f"{token.key!r} was lost before its time"
        return renewed

    def acquired(self, lock: Lock, key: str, span: timedelta = MINUTE) -> LockToken:
        """The token of ``key``, which must be free to be acquired for that long."""
        token = lock.try_acquire(key, now() + span)
        assert token is not None, f"{key!r} is acquired by somebody"
        return token


def now() -> datetime:
    """The time by this machine's clock."""
    return datetime.now(UTC)
