"""Servers whose clocks disagree. What is held ends by the service's clock; what was acquired, Go's form, by the taker's too."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from machinery.testing._expectations import Stopwatch
from machinery.testing._lock._suite import BRIEF, HOUR, MINUTE, LockSuite, now

if TYPE_CHECKING:
    from collections.abc import Callable

    from machinery.abc import Lock

SECONDS = timedelta(seconds=5)
"""The skew of ordinary servers."""


class Skew(LockSuite):
    """What a clock that is fast or slow does, and what it does not do."""

    def test_a_hold_lasts_its_ttl_whatever_the_holders_clock_says(
        self, lock: Lock, skewed_lock: Callable[[timedelta], Lock]
    ) -> None:
        for ahead in (HOUR, -HOUR):
            self._check_exclusion(skewed_lock(ahead), lock)

    def test_a_hold_lasts_its_ttl_whatever_the_clock_of_those_who_wait_says(
        self, lock: Lock, skewed_lock: Callable[[timedelta], Lock]
    ) -> None:
        for ahead in (HOUR, -HOUR):
            self._check_exclusion(lock, skewed_lock(ahead))

    def test_a_renewal_lasts_its_ttl_whatever_the_holders_clock_says(
        self, lock: Lock, skewed_lock: Callable[[timedelta], Lock]
    ) -> None:
        for ahead in (HOUR, -HOUR):
            key, skewed = self.new_key(), skewed_lock(ahead)
            token = self.held(skewed, key)
            watch = Stopwatch()
            assert skewed.renew(token, BRIEF) is not None
            self.check_runs_out(lock, key, watch)

    def test_a_holder_whose_clock_is_wrong_lets_go_as_any_other(
        self, lock: Lock, skewed_lock: Callable[[timedelta], Lock]
    ) -> None:
        for ahead in (HOUR, -HOUR):
            key, skewed = self.new_key(), skewed_lock(ahead)
            with skewed.hold(key, MINUTE):
                assert lock.try_hold(key, MINUTE) is None
            self.held(lock, key)

    def test_fences_grow_whatever_the_holders_clocks_say(
        self, lock: Lock, skewed_lock: Callable[[timedelta], Lock]
    ) -> None:
        key, last = self.new_key(), 0
        for holder in (skewed_lock(HOUR), lock, skewed_lock(-HOUR), lock, skewed_lock(HOUR)):
            token = self.held(holder, key)
            assert token.fence > last
            last = token.fence
            assert holder.release(token)

    def test_a_slow_server_does_not_acquire_what_is_held(
        self, lock: Lock, skewed_lock: Callable[[timedelta], Lock]
    ) -> None:
        slow, key = skewed_lock(-SECONDS), self.new_key()
        token = self.acquired(lock, key)
        assert slow.try_acquire(key, now() - SECONDS + MINUTE) is None
        assert lock.release(token)
        assert slow.try_acquire(key, now() - SECONDS + MINUTE) is not None
        assert lock.try_acquire(key, now() + MINUTE) is None

    def test_a_fast_server_acquires_no_earlier_than_by_its_own_clock(
        self, lock: Lock, skewed_lock: Callable[[timedelta], Lock]
    ) -> None:
        key = self.new_key()
        self.acquired(lock, key, HOUR)
        for ahead in (SECONDS, HOUR - MINUTE):
            assert skewed_lock(ahead).try_acquire(key, now() + ahead + HOUR) is None

    def _check_exclusion(self, holder: Lock, other: Lock) -> None:
        key = self.new_key()
        watch = Stopwatch()
        self.held(holder, key, BRIEF)
        self.check_runs_out(other, key, watch)
