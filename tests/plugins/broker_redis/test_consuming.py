"""Consuming: what is on loan lies in Redis, and comes back whatever happens to its consumer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest

from machinery.abc import Delivery, Message
from machinery.errors import BrokerUnavailable, Closed
from machinery.testing._expectations import PATIENCE, Stopwatch
from machinery_broker_redis import RedisBroker
from machinery_broker_redis._consumer import RedisConsumer
from tests.services.proxy import CuttingProxy

LEASE = 0.3


def publish(broker: RedisBroker, *bodies: bytes, queue: str = "tasks") -> None:
    broker.publish([Message(body, queue) for body in bodies])


def bodies(found: list[Delivery] | list[Message]) -> list[bytes]:
    return [one.body for one in found]


def tend_until(consumer: RedisConsumer, holds: Callable[[], bool], timeout: float = 30) -> None:
    """Maintain, and give signs of life, as a keeper does, until ``holds``."""
    deadline = time.monotonic() + timeout
    while not holds():
        assert time.monotonic() < deadline
        consumer.extend([])
        consumer.maintain()
        time.sleep(LEASE / 6)


@contextmanager
def through_proxy(redis_database: str, config: Any) -> Iterator[tuple[RedisBroker, CuttingProxy]]:
    parts = urlsplit(redis_database)
    with CuttingProxy(parts.hostname or "", parts.port or 6379) as proxy:
        broker = RedisBroker.from_url(f"redis://127.0.0.1:{proxy.port}{parts.path}", config)
        yield broker, proxy
        broker.close()


@contextmanager
def resets(consumer: RedisConsumer, every: float) -> Iterator[None]:
    """Another thread resets ``consumer`` again and again, until the end of the block."""
    ended = threading.Event()

    def reset() -> None:
        while not ended.wait(every):
            consumer.reset()

    resetting = threading.Thread(target=reset)
    resetting.start()
    try:
        yield
    finally:
        ended.set()
        resetting.join()


def test_a_waiting_receive_is_woken_by_a_publish(broker: RedisBroker, consumer: RedisConsumer, later: Any) -> None:
    consumer.receive(1, 0)
    later(0.2, publish, broker, b"one")
    began = time.monotonic()

    found = consumer.receive(10, 30)

    assert bodies(found) == [b"one"]
    assert time.monotonic() - began < 25


def test_a_waiting_receive_asks_redis_about_once_a_second(broker: RedisBroker, another: Any, raw: Any) -> None:
    consumer = another()
    consumer.receive(1, 0)
    raw.config_resetstat()

    consumer.receive(1, 1.2)

    calls = {name: stats["calls"] for name, stats in raw.info("commandstats").items()}
    assert calls["cmdstat_blmove"] <= 5
    assert calls["cmdstat_evalsha"] <= 11


def test_the_oldest_come_first_up_to_the_limit(broker: RedisBroker, consumer: RedisConsumer) -> None:
    publish(broker, b"1", b"2", b"3", b"4")

    assert bodies(consumer.receive(3, 1)) == [b"1", b"2", b"3"]
    assert bodies(consumer.receive(3, 1)) == [b"4"]


def test_more_than_a_thousand_are_received_in_several_calls(broker: RedisBroker, consumer: RedisConsumer) -> None:
    publish(broker, *[b"%d" % number for number in range(2500)])
    found: list[Delivery] = []

    while more := consumer.receive(5000, 0):
        found += more

    assert [int(body) for body in bodies(found)] == list(range(2500))
    assert consumer.ack(found) == []


def test_what_is_acknowledged_leaves_nothing_behind(broker: RedisBroker, consumer: RedisConsumer, raw: Any) -> None:
    publish(broker, b"1", b"2")

    assert consumer.ack(consumer.receive(2, 1)) == []

    assert sorted(raw.keys()) == ["{tasks}:machinery:sequence", "{tasks}:machinery:workers"]


def test_what_is_settled_twice_was_no_longer_ours(broker: RedisBroker, consumer: RedisConsumer, another: Any) -> None:
    publish(broker, b"1", b"2")
    first, second = consumer.receive(2, 1)
    consumer.ack([first])

    assert consumer.ack([first, second]) == [first]
    assert consumer.nack([first]) == [first]
    assert consumer.postpone([first], timedelta(0)) == [first]
    assert consumer.reject([first], "why") == [first]
    assert consumer.extend([first]) == [first]
    assert another().ack([second]) == [second]
    assert broker.pending("tasks", 9) == []


def test_what_is_handed_back_comes_first_and_in_order(broker: RedisBroker, consumer: RedisConsumer) -> None:
    publish(broker, b"1", b"2", b"3", b"4")
    found = consumer.receive(3, 1)

    consumer.nack([found[2], found[0], found[1]])

    again = consumer.receive(4, 1)
    assert bodies(again) == [b"1", b"2", b"3", b"4"]
    assert [delivery.attempt for delivery in again] == [1, 1, 1, 1]


def test_what_is_postponed_comes_back_in_its_time_to_anybody(
    broker: RedisBroker, consumer: RedisConsumer, another: Any
) -> None:
    publish(broker, b"0", b"0")
    consumer.postpone(consumer.receive(2, 1), timedelta(minutes=1))
    publish(broker, b"2")
    other = another()

    assert bodies(other.receive(9, 0)) == [b"2"]
    pause = other.maintain()
    assert pause is not None
    assert 0 < pause <= 0.2
    publish(broker, b"1", b"1")
    watch = Stopwatch()
    consumer.postpone(consumer.receive(2, 1), timedelta(seconds=0.2))
    tend_until(other, lambda: len(broker.pending("tasks", 9)) == 2)
    assert watch.seconds >= 0.19
    again = other.receive(9, 0)
    assert bodies(again) == [b"1", b"1"]
    assert [delivery.attempt for delivery in again] == [1, 1]


def test_a_claim_brings_what_was_postponed_without_maintenance(broker: RedisBroker, consumer: RedisConsumer) -> None:
    publish(broker, b"1")
    consumer.postpone(consumer.receive(1, 1), timedelta(0))

    assert bodies(consumer.receive(1, 0)) == [b"1"]


# -- leases ------------------------------------------------------------------------------------------------------------


def test_what_a_dead_consumer_held_is_delivered_again_and_counted(
    broker: RedisBroker, consumer: RedisConsumer, another: Any
) -> None:
    publish(broker, b"1", b"2", b"3")
    began = time.monotonic()
    lost = another("dead").receive(2, 1)

    tend_until(consumer, lambda: len(broker.pending("tasks", 9)) == 3)

    assert time.monotonic() - began >= 2 * LEASE
    found = consumer.receive(9, 1)
    assert bodies(found) == [b"1", b"2", b"3"]
    assert [(delivery.redelivered, delivery.attempt) for delivery in found] == [(True, 2), (True, 2), (False, 1)]
    assert len(lost) == 2


def test_a_worker_that_comes_when_it_is_told_to_takes_over_from_the_dead(
    broker: RedisBroker, consumer: RedisConsumer, another: Any
) -> None:
    publish(broker, b"1")
    another("dead").receive(1, 1)
    deadline = time.monotonic() + PATIENCE

    while not broker.pending("tasks", 9) and time.monotonic() < deadline:
        pause = consumer.maintain()
        assert pause is not None
        time.sleep(pause)

    assert bodies(broker.pending("tasks", 9)) == [b"1"]


def test_every_death_counts(broker: RedisBroker, consumer: RedisConsumer, another: Any, raw: Any) -> None:
    publish(broker, b"poison")
    for number in range(1, 4):
        (delivery,) = another(f"dead{number}").receive(1, 1)
        assert delivery.attempt == number
        tend_until(consumer, lambda: bool(broker.pending("tasks", 9)))

    (delivery,) = consumer.receive(1, 1)
    assert delivery.attempt == 4
    consumer.ack([delivery])
    assert not raw.exists("{tasks}:machinery:attempts")


def test_a_consumer_that_gives_signs_of_life_keeps_what_it_holds(
    broker: RedisBroker, consumer: RedisConsumer, another: Any
) -> None:
    publish(broker, b"1")
    alive = another("alive")
    (delivery,) = alive.receive(1, 1)

    deadline = time.monotonic() + 5 * LEASE
    while time.monotonic() < deadline:
        assert alive.extend([delivery]) == []
        consumer.maintain()
        time.sleep(LEASE / 6)

    assert broker.pending("tasks", 9) == []
    assert alive.ack([delivery]) == []


def test_one_who_was_taken_for_dead_is_told(broker: RedisBroker, consumer: RedisConsumer, another: Any) -> None:
    publish(broker, b"1", b"2")
    late = another("late")
    found = late.receive(2, 1)
    tend_until(consumer, lambda: len(broker.pending("tasks", 9)) == 2)
    (again,) = consumer.receive(1, 1)

    assert late.extend(found) == found
    assert late.ack(found) == found
    assert consumer.ack([again]) == []
    (rest,) = late.receive(1, 1)
    assert late.ack([rest]) == []


def test_nobody_is_taken_for_dead_within_a_lease_of_our_own_return(
    broker: RedisBroker, consumer: RedisConsumer, another: Any
) -> None:
    publish(broker, b"1")
    another("dead").receive(1, 1)
    time.sleep(1.5 * LEASE)
    consumer.maintain()
    time.sleep(1.5 * LEASE)  # we are away, and then back: was it the others who were away?

    consumer.maintain()

    assert broker.pending("tasks", 9) == []
    tend_until(consumer, lambda: len(broker.pending("tasks", 9)) == 1)


def test_a_consumer_never_takes_itself_for_dead(broker: RedisBroker, consumer: RedisConsumer) -> None:
    publish(broker, b"1")
    (delivery,) = consumer.receive(1, 1)
    deadline = time.monotonic() + 4 * LEASE
    while time.monotonic() < deadline:
        consumer.maintain()
        time.sleep(LEASE / 6)

    assert consumer.extend([delivery]) == []


def test_what_was_taken_but_never_claimed_is_not_lost(
    broker: RedisBroker, consumer: RedisConsumer, another: Any, raw: Any
) -> None:
    dead = another("dead")
    dead.receive(1, 0)
    publish(broker, b"1", b"2")
    # The connection broke between the two commands of a receive.
    raw.blmove("tasks", "{tasks}:machinery:taken:dead", 1, "LEFT", "RIGHT")

    tend_until(consumer, lambda: len(broker.pending("tasks", 9)) == 2)

    found = consumer.receive(9, 0)
    assert bodies(found) == [b"1", b"2"]
    assert [delivery.attempt for delivery in found] == [1, 1]


def test_thousands_held_by_a_dead_consumer_come_back_in_order(
    broker: RedisBroker, consumer: RedisConsumer, another: Any
) -> None:
    publish(broker, *[b"%d" % number for number in range(2500)])
    dead = another("dead")
    while dead.receive(1000, 0):
        pass

    tend_until(consumer, lambda: len(broker.pending("tasks", 9999)) == 2500)

    assert [int(message.body) for message in broker.pending("tasks", 9999)] == list(range(2500))


# -- lost answers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [0, 1])
def test_a_claim_whose_answer_was_lost_is_delivered_by_the_next_call(
    redis_database: str, config: Any, broker: RedisBroker, timeout: float
) -> None:
    with through_proxy(redis_database, config) as (far, proxy):
        consumer = far.consumer("tasks", "far")
        consumer.receive(1, 0)
        publish(broker, b"1", b"2", b"3")
        proxy.lose_next_reply()

        with pytest.raises(BrokerUnavailable):
            consumer.receive(2, timeout)

        assert bodies(broker.pending("tasks", 9)) == [b"3"]
        found = consumer.receive(2, timeout)
        assert bodies(found) == [b"1", b"2"]
        assert [delivery.attempt for delivery in found] == [1, 1]
        assert bodies(consumer.receive(2, timeout)) == [b"3"]
        assert consumer.ack(found) == []
        consumer.close()


def test_what_is_known_to_be_held_is_not_delivered_again(redis_database: str, config: Any, broker: RedisBroker) -> None:
    with through_proxy(redis_database, config) as (far, proxy):
        consumer = far.consumer("tasks", "far")
        publish(broker, b"1", b"2")
        (known,) = consumer.receive(1, 1)
        proxy.lose_next_reply()
        with pytest.raises(BrokerUnavailable):
            consumer.receive(1, 0)

        assert bodies(consumer.receive(9, 0)) == [b"2"]
        assert consumer.receive(9, 0) == []
        assert consumer.ack([known]) == []
        consumer.close()


def test_a_settlement_whose_answer_was_lost_may_be_made_again(
    redis_database: str, config: Any, broker: RedisBroker
) -> None:
    with through_proxy(redis_database, config) as (far, proxy):
        consumer = far.consumer("tasks", "far")
        publish(broker, b"1")
        found = consumer.receive(1, 1)
        consumer.extend(found)  # the connection for settling is there now
        proxy.lose_next_reply()
        with pytest.raises(BrokerUnavailable):
            consumer.ack(found)

        assert consumer.ack(found) == found
        assert broker.pending("tasks", 9) == []
        consumer.close()


def test_reset_makes_a_waiting_receive_fail_and_the_next_one_work(broker: RedisBroker, consumer: RedisConsumer) -> None:
    publish(broker, b"0")
    (held,) = consumer.receive(1, 1)
    began = time.monotonic()

    with resets(consumer, every=0.2), pytest.raises(BrokerUnavailable):  # the first may come before it waits
        consumer.receive(1, 30)

    assert time.monotonic() - began < 25
    publish(broker, b"1")
    assert bodies(consumer.receive(1, 1)) == [b"1"]
    assert consumer.ack([held]) == []


# -- the end -----------------------------------------------------------------------------------------------------------


def test_stop_ends_a_waiting_receive_at_once(broker: RedisBroker, consumer: RedisConsumer, later: Any) -> None:
    consumer.receive(1, 0)
    later(0.1, consumer.stop)
    began = time.monotonic()

    assert consumer.receive(1, 30) == []

    assert time.monotonic() - began < 25
    publish(broker, b"1")
    assert consumer.receive(1, 5) == []
    assert len(broker.pending("tasks", 9)) == 1
    consumer.stop()


def test_what_arrives_while_stopping_is_given_back(broker: RedisBroker) -> None:
    for number in range(30):
        consumer = broker.consumer("tasks", f"c{number}")
        consumer.receive(1, 0)
        found: list[Delivery] = []
        receiving = threading.Thread(
            target=lambda consumer=consumer, found=found: found.extend(consumer.receive(5, 40))
        )
        receiving.start()
        publishing = threading.Thread(target=publish, args=[broker, b"%d" % number])
        publishing.start()
        consumer.stop()
        publishing.join()
        receiving.join(30)
        assert not receiving.is_alive()
        consumer.ack(found)
        left = broker.purge("tasks")
        assert left + len(found) == 1
        consumer.close()


def test_close_gives_back_at_once_what_is_unsettled(broker: RedisBroker, another: Any) -> None:
    publish(broker, b"1", b"2")
    first = another("first")
    first.receive(2, 1)

    first.close()

    found = another("second").receive(9, 0)
    assert bodies(found) == [b"1", b"2"]
    assert [delivery.redelivered for delivery in found] == [True, True]
    with pytest.raises(Closed):
        first.receive(1, 0)
    first.close()


def test_close_does_not_mind_that_redis_is_gone(redis_database: str, config: Any) -> None:
    with through_proxy(redis_database, config) as (far, proxy):
        consumer = far.consumer("tasks", "far")
        publish(far, b"1")
        consumer.receive(1, 1)
        proxy.refuse()

        consumer.close()


# -- dead letters ------------------------------------------------------------------------------------------------------


def test_dead_letters_are_listed_requeued_and_purged(broker: RedisBroker, consumer: RedisConsumer) -> None:
    publish(broker, b"1", b"2", b"3", b"4")
    one, two, three, four = consumer.receive(4, 1)
    consumer.reject([one, two], "bad")
    consumer.reject([three], "worse")
    consumer.ack([four])

    letters = broker.dead("tasks", 10)
    assert [(letter.body, letter.reason, letter.queue) for letter in letters] == [
        (b"1", "bad", "tasks"), (b"2", "bad", "tasks"), (b"3", "worse", "tasks"),
    ]  # fmt: skip
    assert len(broker.dead("tasks", 2)) == 2
    assert broker.requeue_dead("tasks", [letters[1].id, "nonsense"]) == 1
    assert bodies(broker.pending("tasks", 9)) == [b"2"]
    assert broker.purge_dead("tasks", [letters[0].id]) == 1
    assert broker.requeue_dead("tasks") == 1
    assert broker.purge_dead("tasks") == 0
    assert bodies(broker.pending("tasks", 9)) == [b"2", b"3"]
    assert broker.dead("tasks", 10) == []


def test_thousands_of_dead_letters_are_requeued_in_order(broker: RedisBroker, consumer: RedisConsumer) -> None:
    publish(broker, *[b"%d" % number for number in range(2500)])
    while found := consumer.receive(1000, 0):
        consumer.reject(found, "all")

    assert broker.requeue_dead("tasks") == 2500
    assert sorted(int(message.body) for message in broker.pending("tasks", 9999)) == list(range(2500))


def test_a_very_short_wait_is_short(consumer: RedisConsumer) -> None:
    began = time.monotonic()

    for _ in range(5):
        assert consumer.receive(1, 0.0004) == []

    assert time.monotonic() - began < 10  # Redis looks every tenth of a second whose time is over


def test_resets_never_mix_up_answers(broker: RedisBroker, consumer: RedisConsumer) -> None:
    received: list[bytes] = []
    with resets(consumer, every=0.003):
        for number in range(300):
            publish(broker, b"%d" % number)
            assert broker.dead("tasks", 1) == []
            deadline = time.monotonic() + 10
            while len(received) <= number and time.monotonic() < deadline:
                try:
                    found = consumer.receive(5, 1)
                except BrokerUnavailable:
                    continue
                assert consumer.ack(found) == []
                received += bodies(found)

    assert [int(body) for body in received] == list(range(300))
