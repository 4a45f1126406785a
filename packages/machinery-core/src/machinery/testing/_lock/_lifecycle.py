"""Closing: a closed lock says so, and what it took stays taken."""

from __future__ import annotations

from typing import TYPE_CHECKING

from machinery.errors import Closed
from machinery.testing._expectations import raises
from machinery.testing._lock._suite import MINUTE, LockSuite, now

if TYPE_CHECKING:
    from collections.abc import Callable

    from machinery.abc import Lock


class Lifecycle(LockSuite):
    """`Lock.close`."""

    def test_what_a_lock_took_outlives_it(self, lock: Lock, make_lock: Callable[[], Lock]) -> None:
        key, other = self.new_key(), make_lock()
        self.acquired(other, key)
        token = self.held(other, key)
        other.close()
        assert lock.try_acquire(key, now() + MINUTE) is None
        assert lock.try_hold(key, MINUTE) is None
        assert lock.release(token) is True

    def test_a_closed_lock_says_so(self, make_lock: Callable[[], Lock]) -> None:
        lock = make_lock()
        acquired, held = self.acquired(lock, self.new_key()), self.held(lock, self.new_key())
        lock.close()
        lock.close()
        with raises(Closed):
            lock.try_acquire(self.new_key(), now() + MINUTE)
        with raises(Closed):
            lock.try_hold(self.new_key(), MINUTE)
        with raises(Closed):
            lock.renew(held, MINUTE)
        for token in (acquired, held):
            with raises(Closed):
                lock.release(token)
        with raises(Closed):
            lock.hold(self.new_key(), MINUTE).__enter__()
