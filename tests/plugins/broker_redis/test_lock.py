"""The lock: Go's keys, values and steps."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from machinery.abc import LockToken
from machinery.errors import LockNotAcquired
from machinery_broker_redis import RedisLock

KEY = "machinery_lock_workername* * * * *"


def until(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


def test_the_value_is_gos(lock: RedisLock, raw: Any) -> None:
    end = until(60).replace(microsecond=250000)

    token = lock.try_acquire(KEY, end)

    value = str((int(end.timestamp()) * 1_000_000 + 250_000) * 1000 - 1)
    assert token == LockToken(KEY, value, end)
    assert raw.get(KEY) == value
    assert 45_000 < raw.pttl(KEY) < 62_000


def test_only_one_holds_it(lock: RedisLock) -> None:
    assert lock.try_acquire(KEY, until(60)) is not None
    assert lock.try_acquire(KEY, until(90)) is None
    with pytest.raises(LockNotAcquired):
        lock.acquire(KEY, until(60), tries=2, interval=0.01)


def test_it_is_free_when_its_time_is_over(lock: RedisLock) -> None:
    lock.try_acquire(KEY, until(0.1))
    time.sleep(0.15)

    assert lock.try_acquire(KEY, until(60)) is not None


def test_one_whose_time_has_passed_is_taken_over(lock: RedisLock, raw: Any) -> None:
    raw.set(KEY, str(int((time.time() - 1) * 1e9)))  # by Go, and its expiry was never set

    assert lock.try_acquire(KEY, until(60)) is not None
    assert raw.pttl(KEY) > 0


@pytest.mark.parametrize("value", ["not a number", str(int((time.time() + 3600) * 1e9))], ids=["odd", "in an hour"])
def test_one_that_is_held_is_not_taken_over(lock: RedisLock, raw: Any, value: str) -> None:
    raw.set(KEY, value)

    assert lock.try_acquire(KEY, until(60)) is None
    assert raw.get(KEY) == value


def test_releasing_frees_only_what_is_ours(lock: RedisLock) -> None:
    mine = lock.try_acquire(KEY, until(60))
    assert mine is not None
    theirs = LockToken(KEY, "another", until(60))

    assert not lock.release(theirs)
    assert lock.release(mine)
    assert not lock.release(mine)


def test_one_of_many_takes_over(lock: RedisLock, raw: Any) -> None:
    for _ in range(5):
        raw.set(KEY, str(int((time.time() - 1) * 1e9)))
        with ThreadPoolExecutor(8) as takers:
            tokens = list(takers.map(lambda number: lock.try_acquire(KEY, until(60 + number)), range(8)))

        assert sum(token is not None for token in tokens) == 1


def test_the_database_counts(lock: RedisLock, redis_url: str, config: Any) -> None:
    other = RedisLock.from_url(f"{redis_url}/1", config)
    lock.try_acquire(KEY, until(60))

    token = other.try_acquire(KEY, until(60))

    assert token is not None
    assert other.release(token)
    other.close()
