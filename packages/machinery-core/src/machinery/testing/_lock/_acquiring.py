"""Acquiring a key until an instant, Go's form: keys and values are Go's (protocol §8.6)."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from machinery._times import to_unix_nanoseconds
from machinery.abc import LockToken
from machinery.errors import LockNotAcquired
from machinery.testing._expectations import Stopwatch, eventually, in_background, in_threads, raises
from machinery.testing._lock._suite import MINUTE, SLACK, SOON, LockSuite, now

if TYPE_CHECKING:
    from collections.abc import Callable

    from machinery.abc import Lock


class Acquiring(LockSuite):
    """`Lock.try_acquire`, `Lock.acquire`, and `Lock.release` of what they took."""

    def test_a_free_key_is_taken(self, lock: Lock) -> None:
        key, until = self.new_key(), now() + MINUTE
        token = lock.try_acquire(key, until)
        assert token == LockToken(key, str(to_unix_nanoseconds(until) - 1), until)

    def test_a_held_key_is_not_taken_again(self, lock: Lock, make_lock: Callable[[], Lock]) -> None:
        key = self.new_key()
        self.acquired(lock, key)
        watch = Stopwatch()
        assert lock.try_acquire(key, now() + MINUTE) is None
        assert make_lock().try_acquire(key, now() + MINUTE * 2) is None
        assert watch.seconds < SOON

    def test_keys_do_not_hinder_each_other(self, lock: Lock) -> None:
        for key in (self.new_key(), self.new_key(), "machinery_lock_app" + self.new_key() + "*/5 * * * * ü"):
            self.acquired(lock, key)

    def test_a_key_is_free_after_its_release(self, lock: Lock, make_lock: Callable[[], Lock]) -> None:
        key = self.new_key()
        token = self.acquired(lock, key)
        assert lock.release(token) is True
        self.acquired(make_lock(), key)

    def test_a_key_is_free_when_its_time_is_over(self, lock: Lock, make_lock: Callable[[], Lock]) -> None:
        key = self.new_key()
        until = now() + timedelta(seconds=1)
        assert lock.try_acquire(key, until) is not None
        other = make_lock()
        assert eventually(lambda: other.try_acquire(key, now() + MINUTE)) is not None
        assert now() >= until - timedelta(seconds=SLACK)

    def test_an_instant_that_has_passed_holds_nobody_off(self, lock: Lock, make_lock: Callable[[], Lock]) -> None:
        key, other = self.new_key(), make_lock()
        self.acquired(lock, key, -MINUTE)
        assert eventually(lambda: other.try_acquire(key, now() + MINUTE)) is not None
        assert lock.try_acquire(key, now() - MINUTE) is None

    def test_only_its_token_releases_a_key(self, lock: Lock) -> None:
        key = self.new_key()
        token = self.acquired(lock, key)
        assert lock.release(replace(token, value=str(int(token.value) + 1))) is False
        assert lock.try_acquire(key, now() + MINUTE) is None
        assert lock.release(token) is True
        assert lock.release(token) is False

    def test_a_token_whose_time_is_over_releases_nothing(self, lock: Lock) -> None:
        key = self.new_key()
        late = self.acquired(lock, key, timedelta(seconds=0.5))
        token = eventually(lambda: lock.try_acquire(key, now() + MINUTE))
        assert lock.release(late) is False
        assert lock.try_acquire(key, now() + MINUTE) is None
        assert token is not None
        assert lock.release(token) is True

    def test_exactly_one_of_many_takes_a_key(self, lock: Lock, make_lock: Callable[[], Lock]) -> None:
        locks = [lock, make_lock(), make_lock(), make_lock()]
        for _ in range(5):
            key = self.new_key()
            until = now() + MINUTE

            def acquire(number: int, key: str = key, until: datetime = until) -> LockToken | None:
                return locks[number % 4].try_acquire(key, until)

            tokens = in_threads(16, acquire)
            assert sum(token is not None for token in tokens) == 1

    def test_acquiring_tries_as_often_as_told(self, lock: Lock) -> None:
        key = self.new_key()
        self.acquired(lock, key)
        watch = Stopwatch()
        with raises(LockNotAcquired, key):
            lock.acquire(key, now() + MINUTE, tries=3, interval=0.1)
        assert 0.2 <= watch.seconds < 0.2 + SOON

    def test_acquiring_succeeds_when_the_key_is_released_meanwhile(self, lock: Lock) -> None:
        key = self.new_key()
        token = self.acquired(lock, key)
        started = threading.Event()

        def acquire() -> LockToken:
            started.set()
            return lock.acquire(key, now() + MINUTE, tries=500, interval=0.02)

        with in_background(acquire) as acquired:
            started.wait(SOON)
            assert lock.release(token)
            assert acquired().key == key
