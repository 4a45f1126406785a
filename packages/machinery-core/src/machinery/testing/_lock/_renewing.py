"""Holding on: a renewal counts from now, and is refused to whoever has lost the lock."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from machinery.testing._expectations import Stopwatch, eventually, raises
from machinery.testing._lock._suite import BRIEF, HOUR, MINUTE, LockSuite, now

if TYPE_CHECKING:
    from collections.abc import Callable

    from machinery.abc import Lock, LockToken


class Renewing(LockSuite):
    """`Lock.renew`."""

    def test_a_renewed_hold_outlives_its_first_ttl(self, lock: Lock, make_lock: Callable[[], Lock]) -> None:
        key, beside = self.new_key(), self.new_key()

        def renew() -> LockToken | None:
            watch = Stopwatch()
            token = self.held(lock, key, BRIEF)
            before = now()
            renewed = self.renewed_in_time(lock, token, watch)
            assert renewed is None or renewed == replace(token, until=renewed.until)
            assert renewed is None or before + MINUTE <= renewed.until <= now() + MINUTE
            return renewed

        renewed = eventually(renew)
        assert renewed is not None
        self.held(lock, beside, BRIEF)
        assert eventually(lambda: lock.try_hold(beside, MINUTE)) is not None  # so the first ttl is over as well
        assert make_lock().try_hold(key, MINUTE) is None
        assert lock.release(renewed) is True

    def test_the_token_of_before_a_renewal_still_counts(self, lock: Lock) -> None:
        token = self.held(lock, self.new_key())
        for _ in range(3):
            assert lock.renew(token, MINUTE) is not None
        assert lock.release(token) is True

    def test_a_renewal_counts_from_now_even_if_that_is_less(self, lock: Lock, make_lock: Callable[[], Lock]) -> None:
        key, other = self.new_key(), make_lock()
        token = self.held(lock, key, HOUR)
        watch = Stopwatch()
        assert lock.renew(token, BRIEF) is not None
        self.check_runs_out(other, key, watch)

    def test_only_its_holder_renews(self, lock: Lock, make_lock: Callable[[], Lock]) -> None:
        key, other = self.new_key(), make_lock()
        token = self.held(lock, key, BRIEF)
        assert lock.renew(replace(token, value="another"), HOUR) is None
        assert eventually(lambda: other.try_hold(key, MINUTE)) is not None

    def test_what_another_holds_by_now_is_not_renewed(self, lock: Lock, make_lock: Callable[[], Lock]) -> None:
        key, other = self.new_key(), make_lock()
        late = self.held(lock, key, BRIEF)
        token = eventually(lambda: other.try_hold(key, BRIEF))
        assert lock.renew(late, HOUR) is None
        assert eventually(lambda: lock.try_hold(key, MINUTE)) is not None  # the other's ttl was not touched
        assert token is not None
        assert other.renew(token, HOUR) is None

    def test_what_ran_out_is_not_renewed_even_if_nobody_holds_it(self, lock: Lock) -> None:
        key, beside = self.new_key(), self.new_key()
        token = self.held(lock, key, BRIEF)
        self.held(lock, beside, BRIEF)
        assert (
            eventually(lambda: lock.try_hold(beside, MINUTE)) is not None
        )  # so the first, held before it, is over too
        assert lock.renew(token, HOUR) is None
        self.held(lock, key)

    def test_what_was_let_go_is_not_renewed(self, lock: Lock) -> None:
        key = self.new_key()
        token = self.held(lock, key)
        assert lock.release(token) is True
        assert lock.renew(token, HOUR) is None
        self.held(lock, key)

    def test_what_was_acquired_cannot_be_renewed(self, lock: Lock) -> None:
        token = self.acquired(lock, self.new_key())
        with raises(ValueError, token.key):
            lock.renew(token, MINUTE)
