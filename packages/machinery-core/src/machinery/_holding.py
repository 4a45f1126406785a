"""Holding a public lock for a block of code: trying until it is ours, letting go at the end, saying so when it was lost."""

from __future__ import annotations

import math
import time
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING

from machinery._offloading import in_thread
from machinery._settings import LONGEST_SPAN
from machinery._signatures import require_text
from machinery.errors import EncodeError, LockLost, LockNotAcquired, MachineryError, Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from machinery.abc import Lock, LockToken

SHORTEST_TTL = timedelta(milliseconds=1)
"""What every service can keep; less is made this."""
LONGEST_PAUSE = 3600.0
"""Seconds between two tries at most: an interval may be any number, and not every number can be slept."""


@contextmanager
def holding(
    lock: Lock, key: str, ttl: timedelta | float, timeout: float | None, interval: float
) -> Iterator[LockToken]:
    """`Lock.hold`, of what `check_hold` has let through."""
    tries = _Tries(key, timeout, interval)
    while (token := lock.try_hold(key, ttl)) is None:
        time.sleep(tries.pause())
    try:
        yield token
    except BaseException as error:
        _note(error, _trouble_of(lock, token))
        raise
    _let_go(lock, token)


@asynccontextmanager
async def aholding(
    lock: Lock,
    key: str,
    ttl: timedelta | float,
    timeout: float | None,  # noqa: ASYNC109 - as hold
    interval: float,
) -> AsyncIterator[LockToken]:
    """`Lock.ahold`, of what `check_hold` has let through.

    A thread is used for each try and not for the whole wait: waiters would otherwise take up all of the event loop's threads,
    and the holder would have none to let go in.
    """
    import asyncio  # noqa: PLC0415 - see _offloading

    tries = _Tries(key, timeout, interval)
    while (token := await _try_in_thread(lock, key, ttl)) is None:  # noqa: ASYNC110 - who lets go may be on another machine
        await asyncio.sleep(tries.pause())
    try:
        yield token
    except BaseException as error:
        _note(error, await in_thread(_trouble_of, lock, token))
        raise
    await in_thread(_let_go, lock, token)


def check_hold(key: str, ttl: timedelta | float, timeout: float | None, interval: float) -> None:
    """Raise `EncodeError` for a wrong ``key``, and `ValueError` for a span that is none, before anything is tried."""
    to_ttl(key, ttl)
    for name, seconds in (("timeout", 0 if timeout is None else timeout), ("interval", interval)):
        if not _to_number(seconds) >= 0:
            raise ValueError(f"{name} is {seconds!r}; it must be a number of seconds from 0 on")


def to_ttl(key: str, ttl: timedelta | float) -> timedelta:
    """``ttl`` as a span of at least a millisecond. Raises `EncodeError` for a wrong ``key``, `ValueError` for a wrong ``ttl``."""
    require_text("the key of a lock", key)
    if not key:
        raise EncodeError("the key of a lock is empty; name what is to be locked")
    seconds = ttl.total_seconds() if isinstance(ttl, timedelta) else _to_number(ttl)
    if not 0 < seconds <= LONGEST_SPAN.total_seconds():
        raise ValueError(
            f"the ttl of the lock {key!r} is {ttl!r}; it must be a span above 0 and up to a hundred years: a timedelta or a "
            "number of seconds, such as 30"
        )
    return max(SHORTEST_TTL, ttl if isinstance(ttl, timedelta) else timedelta(seconds=seconds))


class _Tries:
    """How long to wait before the next try, until the timeout is over."""

    def __init__(self, key: str, timeout: float | None, interval: float) -> None:
        self._key = key
        self._timeout = timeout
        self._interval = min(interval, LONGEST_PAUSE)
        self._deadline = math.inf if timeout is None else time.monotonic() + min(timeout, LONGEST_SPAN.total_seconds())

    def pause(self) -> float:
        """Seconds to wait now. Raises `LockNotAcquired` when there is no time left."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            waited = f" and was not let go within {self._timeout} s" if self._timeout else ""
            raise LockNotAcquired(
                f"the lock {self._key!r} is held by somebody else{waited}; try again later, or wait longer for it with timeout"
            )
        return min(self._interval, left)


async def _try_in_thread(lock: Lock, key: str, ttl: timedelta | float) -> LockToken | None:
    """`Lock.try_hold`. A thread cannot be called back, so whoever is cancelled meanwhile lets go of what it took."""
    import asyncio  # noqa: PLC0415 - see _offloading

    trying = asyncio.ensure_future(in_thread(lock.try_hold, key, ttl))
    try:
        return await asyncio.shield(trying)
    except asyncio.CancelledError:
        with suppress(MachineryError):
            if (token := await trying) is not None:
                await in_thread(lock.release, token)
        raise


def _let_go(lock: Lock, token: LockToken) -> None:
    try:
        still_ours = lock.release(token)
    except Unavailable as error:
        error.add_note(
            f"The block under the lock {token.key!r} has run to its end; only letting go failed. The lock runs out by itself."
        )
        raise
    if not still_ours:
        raise _lost(token)


def _trouble_of(lock: Lock, token: LockToken) -> MachineryError | None:
    """Let go; what was wrong with that, where something was."""
    try:
        return None if lock.release(token) else _lost(token)
    except MachineryError as error:
        return error


def _note(error: BaseException, trouble: MachineryError | None) -> None:
    if trouble is not None:
        error.add_note(f"Besides, letting go of the lock: {type(trouble).__name__}: {trouble}")


def _lost(token: LockToken) -> LockLost:
    return LockLost(
        f"the lock {token.key!r} (fence {token.fence}) was no longer ours at the end of its block, so somebody else may have "
        "held it meanwhile: give it a longer ttl, or renew it on the way"
    )


def _to_number(value: object) -> float:
    """``value``, or a number that lies in no range when it is none."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
