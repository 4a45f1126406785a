"""Holding a key for a block of code: waiting for it, letting go of it at the end, being told when it was lost."""

from __future__ import annotations

import asyncio
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING

from machinery.errors import LockLost, LockNotAcquired
from machinery.testing._expectations import Stopwatch, eventually, in_background, raises
from machinery.testing._lock._suite import BRIEF, HOUR, MINUTE, SLACK, SOON, LockSuite

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from machinery.abc import Lock, LockToken


class Blocks(LockSuite):
    """`Lock.hold` and `Lock.ahold`."""

    def test_a_block_holds_its_key_and_lets_go(self, lock: Lock, make_lock: Callable[[], Lock]) -> None:
        key, other = self.new_key(), make_lock()
        with lock.hold(key, MINUTE) as token:
            assert token.key == key
            assert token.fence > 0
            assert other.try_hold(key, MINUTE) is None
        self.held(other, key)

    def test_a_block_that_raises_lets_go_too(self, lock: Lock, make_lock: Callable[[], Lock]) -> None:
        key = self.new_key()
        with raises(KeyError, "the block's own"), lock.hold(key, MINUTE):
            end_with(KeyError("the block's own"))
        self.held(make_lock(), key)

    def test_a_block_may_renew(self, lock: Lock, make_lock: Callable[[], Lock]) -> None:
        key, beside, other = self.new_key(), self.new_key(), make_lock()

        def enter_and_renew() -> AbstractContextManager[LockToken] | None:
            watch = Stopwatch()
            block = lock.hold(key, BRIEF)
            if self.renewed_in_time(lock, block.__enter__(), watch):
                return block
            with raises(LockLost, key):
                block.__exit__(None, None, None)
            return None

        with ExitStack() as held:
            block = eventually(enter_and_renew)
            assert block is not None
            held.push(block)
            self.held(lock, beside, BRIEF)
            eventually(lambda: lock.try_hold(beside, MINUTE))
            assert other.try_hold(key, MINUTE) is None
        self.held(other, key)

    def test_a_block_that_took_too_long_is_told(self, lock: Lock, make_lock: Callable[[], Lock]) -> None:
        key, other = self.new_key(), make_lock()
        theirs: list[LockToken | None] = []
        with raises(LockLost, key), lock.hold(key, BRIEF):
            theirs.append(eventually(lambda: other.try_hold(key, HOUR)))
        assert lock.try_hold(key, MINUTE) is None
        assert theirs[0] is not None
        assert other.release(theirs[0]) is True

    def test_what_the_block_raised_is_not_hidden_by_the_loss(self, lock: Lock, make_lock: Callable[[], Lock]) -> None:
        key, other = self.new_key(), make_lock()
        with raises(KeyError, "the block's own") as caught, lock.hold(key, BRIEF):
            eventually(lambda: other.try_hold(key, HOUR))
            end_with(KeyError("the block's own"))
        assert any("LockLost" in note for note in caught.value.__notes__)
        assert lock.try_hold(key, MINUTE) is None

    def test_without_a_timeout_nothing_is_waited_for(self, lock: Lock, make_lock: Callable[[], Lock]) -> None:
        key = self.new_key()
        self.held(make_lock(), key)
        watch = Stopwatch()
        with raises(LockNotAcquired, key), lock.hold(key, MINUTE):
            end_with(AssertionError("the block was entered"))
        assert watch.seconds < SOON

    def test_the_wait_ends_with_the_timeout(self, lock: Lock, make_lock: Callable[[], Lock]) -> None:
        key = self.new_key()
        self.held(make_lock(), key)
        for interval in (0.05, HOUR.total_seconds()):
            watch = Stopwatch()
            with raises(LockNotAcquired, key), lock.hold(key, MINUTE, timeout=0.4, interval=interval):
                end_with(AssertionError("the block was entered"))
            assert 0.4 - SLACK <= watch.seconds < 0.4 + SOON

    def test_the_wait_ends_when_the_holder_lets_go(self, lock: Lock, make_lock: Callable[[], Lock]) -> None:
        key, other = self.new_key(), make_lock()
        token = self.held(other, key)
        started = threading.Event()

        def hold() -> int:
            started.set()
            with lock.hold(key, MINUTE, timeout=None, interval=0.02) as ours:
                return ours.fence

        with in_background(hold) as held:
            started.wait(SOON)
            assert other.release(token)
            assert held() > token.fence

    def test_the_wait_outlasts_a_holder_that_died(self, lock: Lock, make_lock: Callable[[], Lock]) -> None:
        key = self.new_key()
        dead = make_lock()
        self.held(dead, key, BRIEF)
        dead.close()
        watch = Stopwatch()
        with lock.hold(key, MINUTE, timeout=5):
            assert watch.seconds < BRIEF.total_seconds() + SOON

    def test_an_async_block_holds_waits_and_lets_go(self, lock: Lock, make_lock: Callable[[], Lock]) -> None:
        key, other = self.new_key(), make_lock()

        async def hold() -> None:
            async with lock.ahold(key, MINUTE) as token:
                assert other.try_hold(key, MINUTE) is None
                assert await lock.arenew(token, BRIEF) is not None
                async with other.ahold(key, MINUTE, timeout=10):
                    assert lock.release(token) is False
                with raises(LockNotAcquired, key):
                    async with other.ahold(key, MINUTE, timeout=0.1), lock.ahold(key, MINUTE, timeout=0.1):
                        end_with(AssertionError("two hold it at once"))

        with raises(LockLost, key):
            asyncio.run(hold())
        self.held(lock, key)


def end_with(error: Exception) -> None:
    """Raise ``error``, unseen by type checkers, to which the lines after its ``with`` would else be beyond reach."""
    raise error
