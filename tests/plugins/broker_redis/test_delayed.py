"""Delayed messages: by the server's clock, earliest first, in batches, beside Go's movers."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from machinery.abc import Config, Message
from machinery.testing._expectations import Stopwatch
from machinery_broker_redis import RedisBroker, _maintenance
from machinery_broker_redis._consumer import RedisConsumer

MOVING = "{delayed_tasks}:machinery:moving"


def body(number: int, queue: str = "tasks") -> bytes:
    return f'{{"UUID":"task_{number}","Name":"add","RoutingKey":"{queue}","Args":null}}'.encode()


def soon(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


def add_as_go_does(raw: Any, text: bytes, seconds: float) -> None:
    raw.zadd("delayed_tasks", {text: (time.time() + seconds) * 1e9})


def test_a_delayed_message_comes_in_time_and_not_before(broker: RedisBroker, consumer: RedisConsumer) -> None:
    eta = soon(0.3)
    broker.publish([Message(body(1), "tasks", eta=eta)])

    while True:
        left = (eta - soon(0)).total_seconds()
        pause = consumer.maintain()
        if broker.pending("tasks", 9):
            break
        assert pause is not None
        assert 0 < pause <= left + 0.005, "it is told to come again when the message is late"
        time.sleep(pause)
    assert soon(0) >= eta
    assert [delivery.body for delivery in consumer.receive(9, 0)] == [body(1)]
    assert broker.delayed(9) == []


def test_the_earliest_come_first_each_to_its_own_queue(broker: RedisBroker, consumer: RedisConsumer, raw: Any) -> None:
    for number, seconds in ((3, -1), (1, -3), (2, -2)):
        add_as_go_does(raw, body(number), seconds)
    add_as_go_does(raw, body(4, "more"), -1)
    add_as_go_does(raw, b'{"RoutingKey":"","Name":"x"}', -1)
    add_as_go_does(raw, b'{"name":"x","routingkey":"more","UUID":"odd\\u0041"}', -0.5)

    consumer.maintain()

    assert [message.body for message in broker.pending("tasks", 9)] == [body(1), body(2), body(3)]
    assert [message.body for message in broker.pending("more", 9)] == [
        body(4, "more"), b'{"name":"x","routingkey":"more","UUID":"odd\\u0041"}',
    ]  # fmt: skip
    assert len(broker.pending("machinery_tasks", 9)) == 1
    assert not raw.exists("delayed_tasks", MOVING)


def test_what_cannot_be_decoded_is_buried_and_not_looped(
    broker: RedisBroker, consumer: RedisConsumer, raw: Any
) -> None:
    add_as_go_does(raw, b"junk", -1)
    add_as_go_does(raw, body(1), -1)

    consumer.maintain()

    (letter,) = broker.dead("machinery_tasks", 9)
    assert letter.body == b"junk"
    assert "cannot be decoded" in letter.reason
    assert len(broker.pending("tasks", 9)) == 1
    assert not raw.exists("delayed_tasks", MOVING)


def test_what_its_queue_refuses_for_good_is_buried(broker: RedisBroker, consumer: RedisConsumer, raw: Any) -> None:
    raw.set("broken", "a string")
    add_as_go_does(raw, body(1, "broken"), -1)
    add_as_go_does(raw, body(2), -1)

    consumer.maintain()

    assert [letter.body for letter in broker.dead("machinery_tasks", 9)] == [body(1, "broken")]
    assert len(broker.pending("tasks", 9)) == 1


def test_ten_thousand_that_are_due_at_once_are_promoted_by_one_chore(
    broker: RedisBroker, consumer: RedisConsumer
) -> None:
    broker.publish([Message(body(number), "tasks", eta=soon(0.5)) for number in range(10_000)])
    time.sleep(0.6)

    consumer.maintain()

    assert len(broker.pending("tasks", 99_999)) == 10_000


def test_what_a_dead_mover_was_moving_is_moved_by_another(
    broker: RedisBroker, consumer: RedisConsumer, raw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_maintenance, "MOVING_LEASE", timedelta(seconds=0.2))
    add_as_go_does(raw, body(1), -1)
    maintenance = consumer._maintenance
    watch = Stopwatch()
    with monkeypatch.context() as dying:
        dying.setattr(maintenance, "_push", lambda *_: None)
        consumer.maintain()
    assert raw.zcard(MOVING) == 1

    consumer.maintain()
    assert broker.pending("tasks", 9) == [] or watch.seconds >= 0.19
    time.sleep(0.25)
    consumer.maintain()

    assert [message.body for message in broker.pending("tasks", 9)] == [body(1)]
    assert not raw.exists(MOVING)


def test_a_mover_that_was_held_up_delivers_nothing_a_second_time(
    broker: RedisBroker, consumer: RedisConsumer, raw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a mover that was stopped before it pushed, and another that took over meanwhile
    monkeypatch.setattr(_maintenance, "MOVING_LEASE", timedelta(seconds=0.1))
    add_as_go_does(raw, body(1), -1)
    maintenance = consumer._maintenance
    push = maintenance._push
    held_up: list[tuple[Any, ...]] = []
    with monkeypatch.context() as stopped:
        stopped.setattr(maintenance, "_push", lambda *arguments: held_up.append(arguments))
        consumer.maintain()
    time.sleep(0.15)
    consumer.maintain()

    # When the first goes on
    push(*held_up[0])

    # Then the message is there once
    assert [message.body for message in broker.pending("tasks", 9)] == [body(1)]


def test_two_movers_promote_each_message_once(broker: RedisBroker, another: Any) -> None:
    broker.publish([Message(body(number), "tasks", eta=soon(0.2)) for number in range(3000)])
    one, two = another("one"), another("two")
    time.sleep(0.25)

    one.maintain()
    two.maintain()

    assert len(broker.pending("tasks", 99_999)) == 3000


def test_the_key_of_delayed_tasks_is_configurable(redis_database: str, raw: Any) -> None:
    broker = RedisBroker.from_url(f"{redis_database}?delayed_tasks_key=later", Config())
    broker.publish([Message(body(1), "tasks", eta=soon(60))])

    assert raw.zcard("later") == 1
    broker.close()


def test_what_was_handed_back_for_later_is_listed_too(
    broker: RedisBroker, consumer: RedisConsumer, another: Any
) -> None:
    broker.publish([Message(b"a", "tasks"), Message(b"b", "tasks"), Message(b"c", "more")])
    one, two = consumer.receive(2, 1)
    other = another("other", "more")
    (three,) = other.receive(1, 1)
    consumer.postpone([one], timedelta(minutes=3))
    consumer.postpone([two], timedelta(minutes=1))
    other.postpone([three], timedelta(minutes=2))
    broker.publish([Message(body(4), "tasks", eta=soon(150))])

    found = broker.delayed(9)

    assert [(message.body, message.queue) for message in found] == [
        (b"b", "tasks"), (b"c", "more"), (body(4), "tasks"), (b"a", "tasks"),
    ]  # fmt: skip
    assert [message.body for message in broker.delayed(2)] == [b"b", b"c"]
    assert all(message.eta is not None and message.eta > soon(30) for message in found)


@pytest.mark.parametrize("score", ["inf", "-inf", "1e300", "-1e300", "9e18"])
def test_a_score_that_is_no_instant_is_listed_like_the_rest(broker: RedisBroker, raw: Any, score: str) -> None:
    add_as_go_does(raw, body(1), 60)
    raw.execute_command("ZADD", "delayed_tasks", score, body(2))

    found = {message.body: message.eta for message in broker.delayed(9)}

    assert set(found) == {body(1), body(2)}
    assert isinstance(found[body(2)], datetime)


def test_a_score_without_end_holds_up_nobody(broker: RedisBroker, consumer: RedisConsumer, raw: Any) -> None:
    raw.execute_command("ZADD", "delayed_tasks", "inf", body(1), "-inf", body(2))

    pause = consumer.maintain()

    assert pause is not None
    assert 0 < pause <= 0.5
    assert [message.body for message in broker.pending("tasks", 9)] == [body(2)]


def test_purging_deletes_what_was_handed_back_and_leaves_what_was_sent_for_later(
    broker: RedisBroker, consumer: RedisConsumer, raw: Any
) -> None:
    broker.publish([Message(b"a", "tasks"), Message(b"b", "tasks"), Message(body(3), "tasks", eta=soon(60))])
    consumer.postpone(consumer.receive(1, 1), timedelta(minutes=1))

    assert broker.purge("tasks") == 2

    assert [message.body for message in broker.delayed(9)] == [body(3)]
    assert not raw.exists("tasks", "{tasks}:machinery:postponed")
