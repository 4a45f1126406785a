"""Publishing: Go's keys and scores, and exactly what was refused is named."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis import exceptions as driver

from machinery.abc import Config, Message, State, TaskState
from machinery.errors import BrokerUnavailable, Closed, ConfigError, MessageTooLarge, PublishError, Unavailable
from machinery_broker_redis import RedisBackend, RedisBroker, _connections, _publishing
from machinery_broker_redis._connections import Connections
from tests.services.processes import free_port
from tests.services.redis import RedisServer


def body(number: int, queue: str = "tasks") -> bytes:
    return f'{{"UUID":"task_{number}","Name":"add","RoutingKey":"{queue}"}}'.encode()


def states(*uuids: str) -> list[TaskState]:
    return [TaskState(uuid, "add", State.PENDING, created_at=datetime.now(UTC)) for uuid in uuids]


def test_a_message_is_pushed_to_the_list_that_go_pops(broker: RedisBroker, raw: Any) -> None:
    broker.publish([Message(b"one", "tasks"), Message(b"two", "tasks"), Message(b"other", "more")])

    assert raw.lrange("tasks", 0, -1) == ["one", "two"]
    assert raw.lrange("more", 0, -1) == ["other"]
    assert raw.keys() == ["more", "tasks"] or raw.keys() == ["tasks", "more"]


def test_a_delayed_message_stands_in_gos_set_with_its_nanoseconds(broker: RedisBroker, raw: Any) -> None:
    eta = datetime.now(UTC).replace(microsecond=123456) + timedelta(hours=1)

    broker.publish([Message(body(1), "tasks", eta=eta)])

    ((member, score),) = raw.zrange("delayed_tasks", 0, -1, withscores=True)
    assert member.encode() == body(1)
    assert abs(score - (eta.timestamp() * 1e9)) < 1000
    assert broker.delayed(10) == [Message(body(1), "tasks", eta=eta)]


def test_an_eta_that_has_passed_is_no_delay(broker: RedisBroker) -> None:
    broker.publish([Message(b"now", "tasks", eta=datetime.now(UTC) - timedelta(seconds=1))])

    assert [message.body for message in broker.pending("tasks", 10)] == [b"now"]


def test_a_large_batch_keeps_the_order_within_each_queue(broker: RedisBroker) -> None:
    broker.publish([Message(b"%d" % number, f"q{number % 3}") for number in range(5000)])

    for queue in range(3):
        bodies = [int(message.body) for message in broker.pending(f"q{queue}", 5000)]
        assert bodies == list(range(queue, 5000, 3))


def test_exactly_the_messages_for_a_broken_queue_are_named(broker: RedisBroker, raw: Any) -> None:
    raw.set("broken", "a string")

    with pytest.raises(PublishError) as caught:
        broker.publish(
            [Message(b"a", "tasks"), Message(b"b", "broken"), Message(b"c", "tasks"), Message(b"d", "broken")]
        )

    assert sorted(caught.value.failures) == [1, 3]
    assert isinstance(caught.value.failures[1], ConfigError)
    assert [message.body for message in broker.pending("tasks", 10)] == [b"a", b"c"]


def test_a_full_redis_refuses_for_now(broker: RedisBroker, raw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = raw.config_get("maxmemory")["maxmemory"]
    raw.config_set("maxmemory", 1)
    try:
        with pytest.raises(PublishError) as caught:
            broker.publish([Message(b"a", "tasks")])
    finally:
        raw.config_set("maxmemory", before)

    assert isinstance(caught.value.failures[0], Unavailable)


def test_too_large_a_message_is_refused_alone(broker: RedisBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_publishing, "LARGEST_MESSAGE", 10)

    with pytest.raises(MessageTooLarge) as caught:
        broker.publish([Message(b"small", "tasks"), Message(b"x" * 11, "tasks")])

    assert list(caught.value.failures) == [1]
    assert [message.body for message in broker.pending("tasks", 10)] == [b"small"]


def test_a_priority_is_left_aside_as_go_does(broker: RedisBroker) -> None:
    broker.publish([Message(b"go's", "tasks", priority=7)])

    assert [message.body for message in broker.pending("tasks", 10)] == [b"go's"]


# -- records and messages in one round trip ----------------------------------------------------------------------------


def test_records_and_messages_go_together(broker: RedisBroker, backend: RedisBackend, raw: Any) -> None:
    send = broker.combined_with(backend)
    assert send is not None
    eta = datetime.now(UTC) + timedelta(hours=1)

    send(states("u1"), [Message(b"one", "tasks")])
    send(states("u2", "u3"), [Message(b"two", "tasks"), Message(body(3), "tasks", eta=eta)])
    send(states("u4"), [Message(body(4), "tasks", eta=eta)])

    assert [state and state.state for state in backend.load(["u1", "u2", "u3", "u4"])] == [State.PENDING] * 4
    assert [message.body for message in broker.pending("tasks", 10)] == [b"one", b"two"]
    assert [message.body for message in broker.delayed(10)] == [body(3), body(4)]
    assert 0 < raw.pttl("u1") <= 3_600_000


def test_a_large_batch_goes_together_in_order(broker: RedisBroker, backend: RedisBackend) -> None:
    send = broker.combined_with(backend)
    assert send is not None

    send(
        states(*[f"u{number}" for number in range(2345)]), [Message(b"%d" % number, "tasks") for number in range(2345)]
    )

    assert [int(message.body) for message in broker.pending("tasks", 9999)] == list(range(2345))
    assert None not in backend.load([f"u{number}" for number in range(2345)])


@pytest.mark.parametrize("count", [1, 600])
def test_no_message_is_visible_when_its_record_was_refused(
    broker: RedisBroker, backend: RedisBackend, raw: Any, count: int
) -> None:
    send = broker.combined_with(backend)
    assert send is not None
    send(states("warm"), [Message(b"warm", "elsewhere")])
    before = raw.config_get("maxmemory")["maxmemory"]
    raw.config_set("maxmemory", 1)
    try:
        with pytest.raises((PublishError, BrokerUnavailable)):
            send(states(*[f"u{number}" for number in range(count)]), [Message(b"x", "tasks")] * count)
    finally:
        raw.config_set("maxmemory", before)

    assert broker.pending("tasks", 10) == []


def test_exactly_the_refused_of_a_combined_batch_are_named(
    broker: RedisBroker, backend: RedisBackend, raw: Any
) -> None:
    raw.set("broken", "a string")
    send = broker.combined_with(backend)
    assert send is not None

    with pytest.raises(PublishError) as caught:
        send(states("u0", "u1"), [Message(b"a", "tasks"), Message(b"b", "broken")])
    with pytest.raises(PublishError) as alone:
        send(states("u2"), [Message(b"c", "broken")])

    assert list(caught.value.failures) == [1]
    assert list(alone.value.failures) == [0]
    assert [message.body for message in broker.pending("tasks", 10)] == [b"a"]


def test_another_database_is_another_service(broker: RedisBroker, redis_url: str, config: Any) -> None:
    other = RedisBackend.from_url(f"{redis_url}/1", config)

    assert broker.combined_with(other) is None
    other.close()


def test_a_server_that_forgot_the_scripts_is_told_them_again(
    broker: RedisBroker, backend: RedisBackend, raw: Any
) -> None:
    send = broker.combined_with(backend)
    assert send is not None
    consumer = broker.consumer("tasks", "first")
    for _ in range(3):
        raw.script_flush()
        send(states("u1"), [Message(b"one", "tasks")])
        raw.script_flush()
        (delivery,) = consumer.receive(1, 1)
        raw.script_flush()
        assert consumer.ack([delivery]) == []
    raw.script_flush()
    assert consumer.receive(1, 0.05) == []
    consumer.close()


def test_a_large_batch_is_sent_in_order_to_a_server_that_has_not_seen_the_script(
    broker: RedisBroker, backend: RedisBackend, raw: Any
) -> None:
    send = broker.combined_with(backend)
    assert send is not None
    ids = [f"u{number}" for number in range(2500)]
    raw.script_flush()

    send(states(*ids), [Message(uuid.encode(), "tasks") for uuid in ids])

    assert raw.lrange("tasks", 0, -1) == ids
    assert None not in backend.load(ids)


def test_of_a_large_batch_exactly_what_was_refused_is_named(
    broker: RedisBroker, backend: RedisBackend, raw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a Redis whose memory is full for one part of the batch
    send = broker.combined_with(backend)
    assert send is not None
    ids = [f"u{number}" for number in range(1000)]
    exchange = Connections.exchange_in_turn

    def full_for_a_moment(connections: Connections, requests: Iterable[bytes]) -> list[Any]:
        parts = list(requests)
        replies = exchange(connections, [*parts[:1], *parts[2:]])
        return [replies[0], driver.OutOfMemoryError("OOM command not allowed"), *replies[1:]]

    monkeypatch.setattr(Connections, "exchange_in_turn", full_for_a_moment)

    # When
    with pytest.raises(PublishError, match=r"200 of 1000 messages were not accepted.*trying again later") as caught:
        send(states(*ids), [Message(uuid.encode(), "tasks") for uuid in ids])

    # Then
    assert list(caught.value.failures) == list(range(200, 400))
    assert raw.lrange("tasks", 0, -1) == [*ids[:200], *ids[400:]]


def test_a_large_batch_whose_connection_is_lost_is_unavailable(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = RedisBroker.from_url(redis_server.url, Config())
    backend = RedisBackend.from_url(redis_server.url, Config())
    send = broker.combined_with(backend)
    assert send is not None
    written = _connections.write

    def until_it_dies(connection: Any, packed: bytes) -> None:
        written(connection, packed)
        if len(packed) > 10_000:  # the first part of the batch
            redis_server.kill()

    monkeypatch.setattr(_connections, "write", until_it_dies)
    with pytest.raises(BrokerUnavailable):
        send(states(*["u"] * 4000), [Message(b"x", "tasks")] * 4000)
    broker.close()
    backend.close()


def test_to_store_nothing_needs_no_redis() -> None:
    backend = RedisBackend.from_url(f"redis://127.0.0.1:{free_port()}", Config())

    backend.submit([])
    backend.close()


def test_after_close_everything_says_so(broker: RedisBroker, backend: RedisBackend) -> None:
    send = broker.combined_with(backend)
    consumer = broker.consumer("tasks", "first")
    broker.close()
    broker.close()

    for call in (
        lambda: broker.publish([Message(b"a", "q")]),
        lambda: broker.publish([]),
        lambda: broker.pending("q", 1),
        lambda: broker.delayed(1),
        lambda: broker.purge("q"),
        lambda: broker.dead("q", 1),
        lambda: broker.requeue_dead("q"),
        lambda: broker.purge_dead("q", []),
        lambda: broker.consumer("q", "c"),
        lambda: consumer.receive(1, 0),
        lambda: consumer.ack([]),
        broker.examine,
        lambda: send and send(states("u"), [Message(b"a", "q")]),
    ):
        with pytest.raises(Closed):
            call()
    consumer.close()
