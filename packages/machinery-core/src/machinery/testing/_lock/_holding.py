"""Holding a key for a span of the service's time: one holder at a time, until it lets go or the span is over."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from machinery.testing._expectations import Stopwatch, eventually, in_threads
from machinery.testing._lock._suite import BRIEF, MINUTE, SOON, LockSuite, now

if TYPE_CHECKING:
    from collections.abc import Callable

    from machinery.abc import Lock, LockToken


class Holding(LockSuite):
    """`Lock.try_hold`, and `Lock.release` of what it held."""

    def test_a_free_key_is_held(self, lock: Lock) -> None:
        key, before = self.new_key(), now()
        token = self.held(lock, key, MINUTE)
        assert token.key == key
        assert before + MINUTE <= token.until <= now() + MINUTE

    def test_a_key_that_is_held_is_not_held_again(self, lock: Lock, make_lock: Callable[[], Lock]) -> None:
        key = self.new_key()
        self.held(lock, key)
        watch = Stopwatch()
        assert lock.try_hold(key, MINUTE) is None
        assert make_lock().try_hold(key, MINUTE * 2) is None
        assert watch.seconds < SOON

    def test_a_hold_is_over_when_it_was_let_go(self, lock: Lock, make_lock: Callable[[], Lock]) -> None:
        key = self.new_key()
        token = self.held(lock, key)
        assert lock.release(token) is True
        self.held(make_lock(), key)

    def test_a_hold_is_over_when_its_ttl_is(self, lock: Lock, make_lock: Callable[[], Lock]) -> None:
        key, other = self.new_key(), make_lock()
        watch = Stopwatch()
        self.held(lock, key, BRIEF)
        self.check_runs_out(other, key, watch)

    def test_a_ttl_is_a_span_or_a_number_of_seconds(self, lock: Lock) -> None:
        for ttl in (timedelta(seconds=90), 90, 90.0):
            assert self.held(lock, self.new_key(), ttl).until - now() > MINUTE

    def test_a_ttl_may_be_shorter_than_a_millisecond(self, lock: Lock) -> None:
        for ttl in (timedelta(microseconds=1), 0.0001, 1e-12):
            key = self.new_key()
            self.held(lock, key, ttl)
            assert eventually(partial(lock.try_hold, key, MINUTE)) is not None

    def test_a_ttl_may_be_a_hundred_years(self, lock: Lock) -> None:
        key = self.new_key()
        token = self.held(lock, key, timedelta(days=36_500))
        assert lock.try_hold(key, MINUTE) is None
        assert lock.release(token) is True

    def test_only_its_holder_lets_go(self, lock: Lock, make_lock: Callable[[], Lock]) -> None:
        key = self.new_key()
        token = self.held(lock, key)
        assert lock.release(replace(token, value="another")) is False
        assert lock.try_hold(key, MINUTE) is None
        assert make_lock().release(token) is True  # the token counts, not which lock it came from
        assert lock.release(token) is False

    def test_two_tokens_are_never_the_same(self, lock: Lock) -> None:
        keys = [self.new_key() for _ in range(20)] + ["same"] * 20
        values = set()
        for key in keys:
            token = self.held(lock, key)
            values.add(token.value)
            assert lock.release(token)
        assert len(values) == len(keys)

    def test_whoever_comes_late_lets_go_of_nothing(self, lock: Lock, make_lock: Callable[[], Lock]) -> None:
        key, other = self.new_key(), make_lock()
        late = self.held(lock, key, BRIEF)
        token = eventually(lambda: other.try_hold(key, MINUTE))
        assert lock.release(late) is False
        assert lock.try_hold(key, MINUTE) is None
        assert token is not None
        assert other.release(token) is True

    def test_what_ran_out_cannot_be_let_go_even_if_nobody_holds_it(self, lock: Lock) -> None:
        key = self.new_key()
        token, other = self.held(lock, key, BRIEF), self.new_key()
        self.held(lock, other, BRIEF)
        assert eventually(lambda: lock.try_hold(other, MINUTE)) is not None  # so the first, held before it, is over too
        assert lock.release(token) is False

    def test_exactly_one_of_many_holds_a_key(self, lock: Lock, make_lock: Callable[[], Lock]) -> None:
        locks = [lock, make_lock(), make_lock(), make_lock()]
        for _ in range(5):
            assert self._holders(locks, self.new_key()) == 1

    def test_exactly_one_of_many_follows_one_that_ran_out(self, lock: Lock, make_lock: Callable[[], Lock]) -> None:
        locks = [lock, make_lock(), make_lock(), make_lock()]
        for _ in range(5):
            key = self.new_key()
            self.held(lock, key, timedelta(milliseconds=30))
            assert eventually(partial(self._holders, locks, key)) == 1
            assert self._holders(locks, key) == 0

    def test_keys_may_be_any_text(self, lock: Lock, make_lock: Callable[[], Lock]) -> None:
        other = make_lock()
        for odd in self.odd_keys:
            key = odd + self.new_key()
            token = self.held(lock, key)
            assert token.key == key
            assert other.try_hold(key, MINUTE) is None
            assert other.renew(token, MINUTE) is not None
            assert other.release(token) is True

    def test_keys_that_differ_at_all_do_not_hinder_each_other(self, lock: Lock) -> None:
        key = self.new_key()
        likenesses = [
            key,
            f"{key} ",
            f" {key}",
            key.upper(),
            f"{{{key}}}",
            f"{key}\N{COMBINING DIAERESIS}",
            f"{key}%20",
        ]
        for like in [*likenesses, f"{key}ä", f"{key}a\N{COMBINING DIAERESIS}"]:
            self.held(lock, like)

    def test_a_key_that_is_held_and_one_that_is_acquired_do_not_meet(self, lock: Lock) -> None:
        for key in (self.new_key(), "machinery_lock_app" + self.new_key() + "*/5 * * * * ü"):
            acquired, held = self.acquired(lock, key), self.held(lock, key)
            assert lock.try_acquire(key, now() + MINUTE) is None
            assert lock.release(held) is True
            assert lock.try_acquire(key, now() + MINUTE) is None
            held = self.held(lock, key)
            assert lock.release(acquired) is True
            assert lock.try_hold(key, MINUTE) is None
            assert lock.release(held) is True

    def _holders(self, locks: list[Lock], key: str) -> int:
        """How many of 16 who try at once hold ``key``."""

        def hold(number: int) -> LockToken | None:
            return locks[number % len(locks)].try_hold(key, MINUTE)

        return sum(token is not None for token in in_threads(16, hold))
