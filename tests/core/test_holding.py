"""Public locks beyond the contract: what goes wrong around a block, waiting in async code, time that is set back."""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from machinery import Server
from machinery.abc import LockToken
from machinery.errors import LockLost, LockNotAcquired, LockUnavailable
from machinery.memory import MemoryLock, MemoryLocks
from machinery.memory._lock import SWEEP_AT
from machinery.sqlite import SqliteLock, SqliteOptions
from machinery.sqlite import _lock as sqlite_lock
from machinery.testing import ManualClock
from machinery.testing._expectations import eventually

MINUTE = timedelta(minutes=1)


class UnreliableLock(MemoryLock):
    """Counts its tries; cannot let go while ``is_away``; waits in a try until ``gate`` is open."""

    def __init__(self, locks: MemoryLocks) -> None:
        super().__init__(locks)
        self.tries = 0
        self.is_away = False
        self.gate = threading.Event()
        self.gate.set()
        self.trying = threading.Event()

    def try_hold(self, key: str, ttl: timedelta | float) -> LockToken | None:
        self.tries += 1
        self.trying.set()
        assert self.gate.wait(10)
        return super().try_hold(key, ttl)

    def release(self, token: LockToken) -> bool:
        if self.is_away:
            raise LockUnavailable("nobody answers")
        return super().release(token)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def locks(clock: ManualClock) -> MemoryLocks:
    return MemoryLocks(clock)


@pytest.fixture
def lock(locks: MemoryLocks) -> UnreliableLock:
    return UnreliableLock(locks)


@pytest.fixture
def options(tmp_path: Path) -> SqliteOptions:
    return SqliteOptions(path=str(tmp_path / "locks.db"), timeout=timedelta(seconds=30))


# -- the end of a block -----------------------------------------------------------------------------------------------------


def test_a_server_has_a_lock_to_hold() -> None:
    with Server.from_url("memory://") as server, server.lock.hold("key", 30) as token:
        assert token.fence
        assert server.lock.try_hold("key", 30) is None


def test_a_block_ends_by_the_services_clock(lock: UnreliableLock, clock: ManualClock) -> None:
    with lock.hold("key", MINUTE) as token:
        assert token.until == clock.now() + MINUTE
        clock.advance(59.999)
    with pytest.raises(LockLost, match="'key'"), lock.hold("key", MINUTE):
        clock.advance(60)


def test_a_service_that_is_away_when_the_block_has_ended_is_not_hidden(lock: UnreliableLock) -> None:
    done = []
    lock.is_away = True
    with pytest.raises(LockUnavailable, match="nobody answers") as caught, lock.hold("key", MINUTE):
        done.append("all")
    assert done == ["all"]
    (note,) = caught.value.__notes__
    assert "'key' has run to its end" in note


def test_what_the_block_raised_goes_before_a_service_that_is_away(lock: UnreliableLock) -> None:
    lock.is_away = True
    with pytest.raises(KeyError) as caught, lock.hold("key", MINUTE):
        raise KeyError
    (note,) = caught.value.__notes__
    assert "LockUnavailable: nobody answers" in note


def test_what_the_block_raised_carries_no_note_when_letting_go_went_well(lock: UnreliableLock) -> None:
    with pytest.raises(KeyError) as caught, lock.hold("key", MINUTE):
        raise KeyError
    assert not hasattr(caught.value, "__notes__")


def test_a_block_that_is_interrupted_lets_go(lock: UnreliableLock) -> None:
    with pytest.raises(KeyboardInterrupt), lock.hold("key", MINUTE):
        raise KeyboardInterrupt
    assert lock.try_hold("key", MINUTE) is not None


# -- waiting ----------------------------------------------------------------------------------------------------------------


def test_without_a_timeout_there_is_one_try(lock: UnreliableLock, locks: MemoryLocks) -> None:
    MemoryLock(locks).try_hold("key", MINUTE)
    with pytest.raises(LockNotAcquired, match="'key' is held by somebody else; try again later"), lock.hold("key", 1):
        pytest.fail("the block was entered")
    assert lock.tries == 1


def test_there_is_a_last_try_when_the_timeout_is_over(lock: UnreliableLock, locks: MemoryLocks) -> None:
    MemoryLock(locks).try_hold("key", MINUTE)
    with (
        pytest.raises(LockNotAcquired, match=r"within 0\.1 s"),
        lock.hold("key", 1, timeout=0.1, interval=float("inf")),
    ):
        pytest.fail("the block was entered")
    assert lock.tries == 2


def test_any_number_of_seconds_can_be_waited(lock: UnreliableLock) -> None:
    for seconds in (0, 10**400, float("inf")):
        with lock.hold("key", MINUTE, timeout=seconds, interval=seconds) as token:
            assert token.key == "key"


# -- async code -------------------------------------------------------------------------------------------------------------


def test_waiters_do_not_take_the_threads_in_which_the_holder_lets_go(lock: UnreliableLock) -> None:
    order: list[int] = []

    async def hold() -> None:
        async with lock.ahold("key", MINUTE, timeout=None, interval=0.001) as token:
            order.append(token.fence)
            await asyncio.sleep(0.002)

    async def hold_all() -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        await asyncio.wait_for(asyncio.gather(*[hold() for _ in range(8)]), 30)

    asyncio.run(hold_all())
    assert len(order) == 8
    assert order == sorted(order)


def test_whoever_is_cancelled_in_a_try_holds_nothing(lock: UnreliableLock, locks: MemoryLocks) -> None:
    async def hold() -> None:
        async with lock.ahold("key", MINUTE):
            pytest.fail("the block was entered")

    async def cancel() -> None:
        lock.gate.clear()
        holding = asyncio.create_task(hold())
        await asyncio.to_thread(lock.trying.wait, 10)
        holding.cancel()
        await asyncio.sleep(0)
        lock.gate.set()
        with pytest.raises(asyncio.CancelledError):
            await holding

    asyncio.run(cancel())
    assert lock.tries == 1
    assert locks.holds == {}


def test_whoever_is_cancelled_in_a_try_that_fails_is_just_cancelled(lock: UnreliableLock) -> None:
    async def hold() -> None:
        async with lock.ahold("key", MINUTE):
            pytest.fail("the block was entered")

    async def cancel() -> None:
        lock.gate.clear()
        holding = asyncio.create_task(hold())
        await asyncio.to_thread(lock.trying.wait, 10)
        holding.cancel()
        await asyncio.sleep(0)
        lock.close()
        lock.gate.set()
        with pytest.raises(asyncio.CancelledError):
            await holding

    asyncio.run(cancel())


def test_whoever_is_cancelled_in_the_block_lets_go(lock: UnreliableLock, locks: MemoryLocks) -> None:
    async def cancel() -> None:
        entered = asyncio.Event()

        async def hold() -> None:
            async with lock.ahold("key", MINUTE):
                entered.set()
                await asyncio.Event().wait()

        holding = asyncio.create_task(hold())
        await entered.wait()
        holding.cancel()
        with pytest.raises(asyncio.CancelledError):
            await holding

    asyncio.run(cancel())
    assert locks.holds == {}


def test_an_async_block_is_told_what_went_wrong_at_its_end(lock: UnreliableLock, clock: ManualClock) -> None:
    async def lose() -> None:
        async with lock.ahold("key", MINUTE):
            clock.advance(60)

    async def lose_and_raise() -> None:
        async with lock.ahold("key", MINUTE):
            clock.advance(60)
            raise KeyError

    with pytest.raises(LockLost, match="'key'"):
        asyncio.run(lose())
    with pytest.raises(KeyError) as caught:
        asyncio.run(lose_and_raise())
    assert "LockLost" in caught.value.__notes__[0]


# -- time that is set back, stores that are lost ----------------------------------------------------------------------------


def test_fences_follow_the_time_and_grow_when_it_is_set_back(lock: UnreliableLock, clock: ManualClock) -> None:
    first = lock.try_hold("key", 1)
    clock.advance(timedelta(days=1))
    second = lock.try_hold("key", 1)
    clock.advance(-timedelta(hours=12))
    third = lock.try_hold("another", 1)
    assert first
    assert second
    assert third
    assert second.fence - first.fence == 24 * 60 * 60 * 1_000_000
    assert third.fence == second.fence + 1


def test_fences_of_a_file_grow_when_the_time_is_set_back(
    options: SqliteOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = SqliteLock(options)
    fences = []
    for microseconds in (5_000_000_000, 4_000_000_000, 4_500_000_000, 9_000_000_000):
        monkeypatch.setattr(sqlite_lock, "now_us", lambda now=microseconds: now)
        token = lock.try_hold("key", 1)
        assert token is not None
        assert lock.release(token)
        fences.append(token.fence)
    lock.close()
    assert fences == [5_000_000_000, 5_000_000_001, 5_000_000_002, 9_000_000_000]


def test_fences_grow_when_the_file_is_lost(options: SqliteOptions) -> None:
    fences = [0]
    for _ in range(3):
        lock = SqliteLock(options)
        token = lock.try_hold("key", MINUTE)
        assert token is not None
        fences.append(token.fence)
        lock.close()
        for file in Path(options.path).parent.iterdir():
            file.unlink()
    assert all(before < after for before, after in pairwise(fences))


def test_holds_that_are_over_do_not_pile_up(lock: UnreliableLock, locks: MemoryLocks, clock: ManualClock) -> None:
    for number in range(5 * SWEEP_AT):
        assert lock.try_hold(f"key {number}", MINUTE) is not None
        clock.advance(60)
    assert len(locks.holds) <= SWEEP_AT


def test_holds_in_a_file_that_are_over_do_not_pile_up(options: SqliteOptions) -> None:
    lock = SqliteLock(options)
    for number in range(5):
        assert lock.try_hold(f"key {number}", 0.01) is not None
    assert eventually(lambda: lock.try_hold("key 4", MINUTE)) is not None
    with lock._database.read() as connection:
        assert connection.execute("SELECT key FROM machinery_holds").fetchall() == [("key 4",)]
        assert connection.execute("SELECT count(*) FROM machinery_fences").fetchone() == (1,)
    lock.close()


# -- processes --------------------------------------------------------------------------------------------------------------


def hold_and_write(options: SqliteOptions, journal: str) -> None:
    """What each process does: append its fence to ``journal`` while it holds the key."""
    lock = SqliteLock(options)
    for _ in range(20):
        with lock.hold("key", MINUTE, timeout=40, interval=0.001) as token, Path(journal).open("a") as file:
            file.write(f"{token.fence}\n")
    lock.close()


def test_processes_hold_a_key_one_after_the_other(options: SqliteOptions, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=hold_and_write, args=(options, str(journal))) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(45)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    fences = [int(line) for line in journal.read_text().splitlines()]
    assert len(fences) == 60
    assert all(before < after for before, after in pairwise(fences))
