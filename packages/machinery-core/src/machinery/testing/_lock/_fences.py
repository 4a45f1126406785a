"""Fences: a store that remembers the largest it saw can refuse those who write late."""

from __future__ import annotations

import threading
from datetime import timedelta
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

from machinery.testing._expectations import PATIENCE, eventually, in_threads
from machinery.testing._lock._suite import MINUTE, LockSuite

if TYPE_CHECKING:
    from collections.abc import Callable

    from machinery.abc import Lock

LARGEST = 2**63 - 1
"""So that every database has a column for it."""


class Fences(LockSuite):
    """`LockToken.fence`."""

    def test_each_holder_has_a_greater_fence_than_the_one_before(
        self, lock: Lock, make_lock: Callable[[], Lock]
    ) -> None:
        locks, key, fences = [lock, make_lock(), make_lock()], self.new_key(), [0]
        for number in range(60):
            token = self.held(locks[number % 3], key)
            fences.append(token.fence)
            assert locks[(number + 1) % 3].release(token)
        assert_growing(fences)

    def test_a_fence_is_greater_than_that_of_a_holder_whose_ttl_ran_out(
        self, lock: Lock, make_lock: Callable[[], Lock]
    ) -> None:
        locks, key, fences = [lock, make_lock()], self.new_key(), [0]
        for number in range(5):
            token = eventually(partial(locks[number % 2].try_hold, key, timedelta(milliseconds=20)))
            assert token is not None
            fences.append(token.fence)
        assert_growing(fences)

    def test_fences_grow_in_the_order_of_holding(self, lock: Lock, make_lock: Callable[[], Lock]) -> None:
        locks, key = [lock, make_lock(), make_lock(), make_lock()], self.new_key()
        fences, alone = [0], threading.Lock()

        def hold(number: int) -> None:
            for _ in range(3):
                with locks[number % 4].hold(key, MINUTE, timeout=PATIENCE, interval=0.002) as token:
                    assert alone.acquire(blocking=False), "two hold it at once"
                    fences.append(token.fence)
                    alone.release()

        in_threads(16, hold)
        assert len(fences) == 1 + 16 * 3
        assert_growing(fences)

    def test_what_was_acquired_has_no_fence(self, lock: Lock) -> None:
        assert self.acquired(lock, self.new_key()).fence == 0


def assert_growing(fences: list[int]) -> None:
    """Every fence is a whole number greater than the one before."""
    assert all(type(fence) is int for fence in fences), f"{fences} are not all whole numbers"
    assert all(before < after <= LARGEST for before, after in pairwise(fences)), f"{fences} do not grow"
