"""What every lock must do."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

from machinery._times import to_unix_nanoseconds
from machinery.abc import LockToken
from machinery.errors import Closed, LockNotAcquired
from machinery.testing._expectations import Stopwatch, eventually, in_background, in_threads, raises

if TYPE_CHECKING:
    from collections.abc import Callable

    from machinery.abc import Lock

MINUTE = timedelta(minutes=1)
SOON = 2.0


class LockContract:
    """The contract of `machinery.abc.Lock` as tests.

    A plug-in's test is a subclass with two fixtures: ``lock``, and ``make_lock``, a function that makes further locks on the same
    store, all closed at the end.
    """

    def test_a_free_key_is_taken(self, lock: Lock) -> None:
        key, until = _new_key(), _now() + MINUTE
        token = lock.try_acquire(key, until)
        assert token is not None
        assert token.key == key
        assert token.until == until
        assert token.value == str(to_unix_nanoseconds(until) - 1)

    def test_a_held_key_is_not_taken_again(self, lock: Lock, make_lock: Callable[[], Lock]) -> None:
        key = _new_key()
        assert lock.try_acquire(key, _now() + MINUTE) is not None
        watch = Stopwatch()
        assert lock.try_acquire(key, _now() + MINUTE) is None
        assert make_lock().try_acquire(key, _now() + MINUTE * 2) is None
        assert watch.seconds < SOON

    def test_keys_do_not_hinder_each_other(self, lock: Lock) -> None:
        for key in (_new_key(), _new_key(), "machinery_lock_app" + _new_key() + "*/5 * * * * ü"):
            assert lock.try_acquire(key, _now() + MINUTE) is not None

    def test_a_key_is_free_after_its_release(self, lock: Lock, make_lock: Callable[[], Lock]) -> None:
        key = _new_key()
        token = _acquired(lock, key)
        assert lock.release(token) is True
        again = make_lock().try_acquire(key, _now() + MINUTE)
        assert again is not None

    def test_a_key_is_free_when_its_time_is_over(self, lock: Lock, make_lock: Callable[[], Lock]) -> None:
        key = _new_key()
        until = _now() + timedelta(seconds=1)
        token = lock.try_acquire(key, until)
        assert token is not None
        other = make_lock()
        assert eventually(lambda: other.try_acquire(key, _now() + MINUTE)) is not None
        assert _now() >= until - timedelta(milliseconds=50)

    def test_only_its_token_releases_a_key(self, lock: Lock) -> None:
        key = _new_key()
        token = _acquired(lock, key)
        other = LockToken(key, str(int(token.value) + 1), token.until)
        assert lock.release(other) is False
        assert lock.try_acquire(key, _now() + MINUTE) is None
        assert lock.release(token) is True
        assert lock.release(token) is False

    def test_a_token_whose_time_is_over_releases_nothing(self, lock: Lock) -> None:
        key = _new_key()
        late = lock.try_acquire(key, _now() + timedelta(seconds=0.5))
        assert late is not None
        token = eventually(lambda: lock.try_acquire(key, _now() + MINUTE))
        assert lock.release(late) is False
        assert lock.try_acquire(key, _now() + MINUTE) is None
        assert token is not None
        assert lock.release(token) is True

    def test_exactly_one_of_many_takes_a_key(self, lock: Lock, make_lock: Callable[[], Lock]) -> None:
        locks = [lock, make_lock(), make_lock(), make_lock()]
        for _ in range(5):
            key = _new_key()
            until = _now() + MINUTE

            def acquire(number: int, key: str = key, until: datetime = until) -> LockToken | None:
                return locks[number % 4].try_acquire(key, until)

            tokens = in_threads(16, acquire)
            assert sum(token is not None for token in tokens) == 1

    def test_acquiring_tries_as_often_as_told(self, lock: Lock) -> None:
        key = _new_key()
        _acquired(lock, key)
        watch = Stopwatch()
        with raises(LockNotAcquired, key):
            lock.acquire(key, _now() + MINUTE, tries=3, interval=0.1)
        assert 0.2 <= watch.seconds < 0.2 + SOON

    def test_acquiring_succeeds_when_the_key_is_released_meanwhile(self, lock: Lock) -> None:
        key = _new_key()
        token = _acquired(lock, key)
        started = threading.Event()

        def acquire() -> LockToken:
            started.set()
            return lock.acquire(key, _now() + MINUTE, tries=500, interval=0.02)

        with in_background(acquire) as acquired:
            started.wait(SOON)
            assert lock.release(token)
            assert acquired().key == key

    def test_a_held_key_outlives_the_lock_that_took_it(self, lock: Lock, make_lock: Callable[[], Lock]) -> None:
        key = _new_key()
        other = make_lock()
        _acquired(other, key)
        other.close()
        assert lock.try_acquire(key, _now() + MINUTE) is None

    def test_a_closed_lock_says_so(self, make_lock: Callable[[], Lock]) -> None:
        lock = make_lock()
        token = _acquired(lock, _new_key())
        lock.close()
        lock.close()
        with raises(Closed):
            lock.try_acquire(_new_key(), _now() + MINUTE)
        with raises(Closed):
            lock.release(token)


def _new_key() -> str:
    return f"contract:{uuid4()}"


def _now() -> datetime:
    return datetime.now(UTC)


def _acquired(lock: Lock, key: str) -> LockToken:
    token = lock.try_acquire(key, _now() + MINUTE)
    assert token is not None
    return token
