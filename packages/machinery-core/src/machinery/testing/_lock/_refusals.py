"""What is no key, no ttl and no time to wait is refused before anything is held."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from machinery.errors import EncodeError
from machinery.testing._expectations import raises
from machinery.testing._lock._suite import MINUTE, LockSuite

if TYPE_CHECKING:
    from collections.abc import Callable

    from machinery.abc import Lock

NO_KEYS: tuple[Any, ...] = ("", None, 7, b"key", "lone \ud800 surrogate")
NO_TTLS: tuple[Any, ...] = (
    0, -1, 0.0, -0.5, math.nan, math.inf, True, "30", None, 10**400,
    timedelta(0), timedelta(seconds=-1), timedelta(days=36_501), timedelta.max,
)  # fmt: skip
NO_SECONDS: tuple[Any, ...] = (-1, -0.001, math.nan, True, "1", timedelta(seconds=1))


class Refusals(LockSuite):
    """What `Lock.try_hold`, `Lock.renew`, `Lock.hold` and `Lock.ahold` do not take."""

    def test_what_is_no_key_is_refused(self, lock: Lock) -> None:
        for key in NO_KEYS:
            for refuse in (lock.try_hold, lock.hold, lock.ahold):
                with raises(EncodeError, "the key of a lock"):
                    refuse(key, MINUTE)

    def test_what_is_no_ttl_is_refused(self, lock: Lock) -> None:
        key = self.new_key()
        for ttl in NO_TTLS:
            for refuse in (lock.try_hold, lock.hold, lock.ahold):
                with raises(ValueError, key):
                    refuse(key, ttl)
        self.held(lock, key)

    def test_what_is_no_ttl_renews_nothing(self, lock: Lock, make_lock: Callable[[], Lock]) -> None:
        key = self.new_key()
        token = self.held(lock, key)
        for ttl in NO_TTLS:
            with raises(ValueError, key):
                lock.renew(token, ttl)
        assert make_lock().try_hold(key, MINUTE) is None

    def test_what_is_no_time_to_wait_is_refused(self, lock: Lock) -> None:
        key = self.new_key()
        for seconds in NO_SECONDS:
            for refuse in (lock.hold, lock.ahold):
                with raises(ValueError, "timeout"):
                    refuse(key, MINUTE, timeout=seconds)
                with raises(ValueError, "interval"):
                    refuse(key, MINUTE, interval=seconds)
        self.held(lock, key)
