"""The public lock in Redis: where it lies, its fences, and clocks that disagree."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis

from machinery.abc import Config, LockToken
from machinery.errors import ConfigError, LockUnavailable
from machinery.testing._expectations import eventually
from machinery_broker_redis import RedisLock
from machinery_broker_redis._keys import hold_key
from machinery_broker_redis._lock import FENCE_KEPT
from machinery_broker_redis._scripts import script
from tests.contracts.made import Made
from tests.contracts.skewed import SkewedClock
from tests.services.redis import RedisServer

KEY = "machinery:lock:key"
MINUTE = timedelta(minutes=1)
KEPT = FENCE_KEPT // timedelta(milliseconds=1)


@pytest.fixture
def skewed_lock(redis_database: str) -> Iterator[Callable[[timedelta], RedisLock]]:
    with (
        redis.Redis.from_url(redis_database) as client,
        Made(lambda ahead: RedisLock(client, now=SkewedClock(ahead).now)) as made,
    ):
        yield made


def held(lock: RedisLock, ttl: timedelta | float = MINUTE) -> LockToken:
    token = lock.try_hold("key", ttl)
    assert token is not None
    return token


def server_time(raw: Any) -> int:
    seconds, microseconds = raw.time()
    return int(seconds) * 1_000_000 + int(microseconds)


def test_it_is_one_hash_under_a_name_of_its_own(lock: RedisLock, raw: Any) -> None:
    before = server_time(raw)
    token = held(lock)
    after = server_time(raw)

    assert raw.keys() == [KEY]
    kept = raw.hgetall(KEY)
    assert kept.keys() == {"value", "until", "fence"}
    assert (kept["value"], kept["fence"]) == (token.value, str(token.fence))
    assert before <= token.fence <= after
    assert int(kept["until"]) == token.fence + 60_000_000
    assert 45_000 < raw.pttl(KEY) - KEPT <= 60_000


def test_letting_go_leaves_the_fence_and_that_goes_away(lock: RedisLock, raw: Any) -> None:
    token = held(lock)
    lock.release(token)

    assert raw.hgetall(KEY) == {"fence": str(token.fence)}
    assert 0 < raw.pttl(KEY) <= KEPT + 60_000


def test_a_renewal_moves_both_ends(lock: RedisLock, raw: Any) -> None:
    token = held(lock, 60)
    lock.renew(token, 3600)

    assert 3_599_000_000 < int(raw.hget(KEY, "until")) - token.fence < 3_610_000_000
    assert 3_590_000 < raw.pttl(KEY) - KEPT <= 3_600_000
    lock.renew(token, 2)
    assert raw.pttl(KEY) - KEPT <= 2_000


def test_a_ttl_is_rounded_up_to_milliseconds(lock: RedisLock, raw: Any) -> None:
    token = held(lock, timedelta(seconds=7, microseconds=1))

    assert int(raw.hget(KEY, "until")) - token.fence == 7_001_000


def test_the_next_fence_is_greater_where_the_servers_time_is_behind(lock: RedisLock, raw: Any) -> None:
    ahead = server_time(raw) + 3_600_000_000  # the last holder's server, of before a failover, was an hour fast
    raw.hset(KEY, "fence", ahead)

    first = held(lock)
    lock.release(first)
    second = held(lock)

    assert (first.fence, second.fence) == (ahead + 1, ahead + 2)


def test_the_next_fence_is_greater_where_the_last_one_was_evicted(lock: RedisLock, raw: Any) -> None:
    first = held(lock)
    raw.delete(KEY)

    assert held(lock).fence > first.fence


def test_fences_are_exact_to_the_last_digit(lock: RedisLock, raw: Any) -> None:
    raw.hset(KEY, "fence", 2**53 - 3)

    assert held(lock).fence == 2**53 - 2
    assert raw.hget(KEY, "fence") == str(2**53 - 2)


def test_a_call_that_arrives_twice_is_answered_twice_the_same(lock: RedisLock) -> None:
    answers = [lock._client.run(script("hold"), (hold_key("key"),), "value", 60_000, KEPT) for _ in range(2)]

    assert answers[0] == answers[1] > 0


def test_gos_keys_are_left_alone(lock: RedisLock, raw: Any) -> None:
    raw.set("key", "Go's")
    token = held(lock)

    assert raw.get("key") == "Go's"
    assert lock.try_acquire("key", datetime.now(UTC) + MINUTE) is None
    assert lock.release(token)
    assert raw.get("key") == "Go's"


def test_a_key_that_holds_something_else_is_a_config_error(lock: RedisLock, raw: Any) -> None:
    raw.set(KEY, "x")

    with pytest.raises(ConfigError, match="holds something else"):
        lock.try_hold("key", MINUTE)
    assert raw.get(KEY) == "x"


@pytest.mark.parametrize("options", [{"decode_responses": True}, {"protocol": 3}], ids=str)
def test_any_client_of_the_applications_will_do(redis_database: str, options: dict[str, Any]) -> None:
    with redis.Redis.from_url(redis_database, **options) as client:
        lock = RedisLock(client, Config())
        with lock.hold("größe", MINUTE) as token:
            assert token.fence > 10**15
            assert lock.try_hold("größe", MINUTE) is None
            assert lock.renew(token, MINUTE) is not None
        assert lock.try_hold("größe", MINUTE) is not None
        lock.close()


def test_scripts_that_the_server_has_forgotten_are_sent_again(lock: RedisLock, raw: Any) -> None:
    with lock.hold("key", MINUTE) as token:
        raw.script_flush()
        assert lock.renew(token, MINUTE) is not None
        raw.script_flush()


def test_the_estimate_is_by_the_holders_own_clock(skewed_lock: Callable[[timedelta], RedisLock]) -> None:
    ahead = timedelta(hours=1)
    before = datetime.now(UTC)
    token = held(skewed_lock(ahead))

    assert before <= token.until - ahead - MINUTE <= datetime.now(UTC)


def test_a_server_that_dies_in_the_block_is_not_hidden(redis_server: RedisServer) -> None:
    lock = RedisLock.from_url(redis_server.url, Config())
    with pytest.raises(LockUnavailable) as caught, lock.hold("key", MINUTE):
        redis_server.kill()

    assert "'key' has run to its end" in caught.value.__notes__[0]
    lock.close()


# -- Go's form, and clocks that disagree ------------------------------------------------------------------------------------


def test_go_s_form_is_taken_over_by_whoever_is_fast_enough(
    lock: RedisLock, skewed_lock: Callable[[timedelta], RedisLock]
) -> None:
    until = datetime.now(UTC) + timedelta(seconds=30)
    assert lock.try_acquire("key", until) is not None

    assert skewed_lock(timedelta(seconds=20)).try_acquire("key", until + MINUTE) is None
    assert skewed_lock(timedelta(seconds=40)).try_acquire("key", until + MINUTE) is not None


def test_go_s_form_is_kept_by_redis_for_as_long_as_a_slow_server_thinks(
    skewed_lock: Callable[[timedelta], RedisLock], raw: Any
) -> None:
    slow = skewed_lock(-timedelta(hours=1))
    until = datetime.now(UTC) - timedelta(hours=1) + MINUTE

    assert slow.try_acquire("key", until) is not None
    assert 45_000 < raw.pttl("key") <= 60_000


def test_go_s_form_holds_off_a_slow_server_while_it_is_held(
    lock: RedisLock, skewed_lock: Callable[[timedelta], RedisLock], raw: Any
) -> None:
    slow = skewed_lock(-MINUTE)

    def held_off() -> datetime | None:
        raw.delete("key")
        until = datetime.now(UTC) + timedelta(seconds=0.2)
        assert lock.try_acquire("key", until) is not None
        if slow.try_acquire("key", until) is None:
            return until
        assert datetime.now(UTC) >= until
        return None

    until = eventually(held_off)
    assert until is not None
    assert eventually(lambda: not raw.exists("key"))  # by its own clock the slow one would wait for a minute more

    assert slow.try_acquire("key", until) is not None
