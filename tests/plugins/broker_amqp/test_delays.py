"""What waits for its time: for any time, with all that it carries, in a fixed number of queues."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pika
import pytest

from machinery.abc import Config, Delivery, Message
from machinery.errors import BrokerUnavailable
from machinery.testing._expectations import PATIENCE, eventually
from machinery_broker_amqp import AmqpBroker
from machinery_broker_amqp._consumer import AmqpConsumer
from machinery_broker_amqp._ladder import BEYOND, DELAYED, LONGEST, ONWARDS, POSTPONED, Ladder
from tests.plugins.broker_amqp.conftest import config_with, node
from tests.services.rabbitmq import RabbitServer

REPEATED = "{dead_letter_worker_publisher_confirm_timeout, 8000}"
"""What a rung sent on to a queue that was not up yet after a restart it sends again after 3 minutes; but not here."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitServer]:
    with node(tmp_path_factory, advanced=REPEATED) as made:
        yield made


@pytest.fixture
def config() -> Config:
    return config_with(queue_declare_args={"x-max-priority": 10})


@pytest.fixture
def broker(broker_of: Callable[..., AmqpBroker], server: RabbitServer, config: Config) -> AmqpBroker:
    return broker_of(config, server.url)


@pytest.fixture
def queue(config: Config) -> str:
    return config.default_queue


def now() -> datetime:
    return datetime.now(UTC)


def holding_out(receive: Callable[[], list[Delivery]]) -> list[Delivery]:
    try:
        return receive()
    except BrokerUnavailable:
        return []


def first(consumer: AmqpConsumer) -> Delivery:
    return eventually(lambda: holding_out(lambda: consumer.receive(1, 1)))[0]


def delayed(broker: AmqpBroker, queue: str) -> list[Message]:
    return [message for message in broker.delayed(10_000) if message.queue == queue]


@pytest.mark.parametrize("days", [1, 40, 100, 1000])
def test_a_delay_may_have_any_length(broker: AmqpBroker, queue: str, days: int) -> None:
    eta = now() + timedelta(days=days, milliseconds=123)

    broker.publish([Message(b"{}", queue, eta, priority=7)])

    assert delayed(broker, queue) == [Message(b"{}", queue, eta, priority=7)]
    assert broker.pending(queue, 9) == []


def test_they_are_listed_earliest_first(broker: AmqpBroker, queue: str) -> None:
    etas = [now() + timedelta(days=days) for days in (100, 1, 60, 40, 2)]

    broker.publish([Message(b"{}", queue, eta) for eta in etas])

    assert [message.eta for message in delayed(broker, queue)] == sorted(etas)


@pytest.mark.parametrize("milliseconds", [1, 2, 63, 250, 600, 1025])
def test_it_comes_at_its_time_and_not_before(broker: AmqpBroker, queue: str, milliseconds: int) -> None:
    consumer = broker.consumer(queue, "me")
    assert consumer.receive(1, 0) == []
    eta = now() + timedelta(milliseconds=milliseconds)

    broker.publish([Message(b"{}", queue, eta)])
    first(consumer)

    assert now() >= eta - timedelta(milliseconds=5)  # the server's clock ticks apart from ours


def test_what_has_passed_its_time_is_not_delayed_at_all(broker: AmqpBroker, queue: str) -> None:
    broker.publish([Message(b"{}", queue, now() - timedelta(days=1))])

    assert [message.body for message in broker.pending(queue, 9)] == [b"{}"]


def test_a_priority_is_kept_through_a_delay_and_through_a_postponement(broker: AmqpBroker, queue: str) -> None:
    soon = now() + timedelta(milliseconds=300)
    broker.publish([Message(b"%d" % priority, queue, soon, priority=priority) for priority in (1, 9, 5)])

    for number in range(2):
        eventually(lambda: len(broker.pending(queue, 9)) == 3)
        consumer = broker.consumer(queue, f"consumer{number}")
        consumer.resize(3)
        came = [first(consumer) for _ in range(3)]
        assert [delivery.body for delivery in came] == [b"9", b"5", b"1"]
        assert [delivery.handle.properties.priority for delivery in came] == [9, 5, 1]
        assert consumer.postpone(came, timedelta(milliseconds=100)) == []
        consumer.close()


def test_headers_are_kept_and_ours_are_not_sent_on(broker: AmqpBroker, queue: str) -> None:
    broker.publish([Message(b"{}", queue, now() + timedelta(milliseconds=50), headers={"trace": "a", "debug": True})])
    consumer = broker.consumer(queue, "me")

    consumer.postpone([first(consumer)], timedelta(milliseconds=50))
    consumer.reject([first(consumer)], "why")
    broker.requeue_dead(queue)

    assert first(consumer).handle.properties.headers == {"trace": "a", "debug": True}


def test_the_number_of_queues_does_not_grow_with_the_number_of_messages(
    broker: AmqpBroker, queue: str, server: RabbitServer
) -> None:
    broker.publish([Message(b"{}", queue, now() + timedelta(days=1))])
    broker.publish([Message(b"{}", queue, now() + timedelta(days=49))])
    before = server.control("-q", "list_queues", "name")

    broker.publish([Message(b"{}", queue, now() + timedelta(days=1, seconds=number)) for number in range(500)])

    assert server.control("-q", "list_queues", "name") == before
    assert len(delayed(broker, queue)) == 502


@pytest.mark.parametrize("kill", [False, True], ids=["stopped", "killed"])
def test_what_waits_survives_a_restart_of_the_node(
    broker: AmqpBroker, queue: str, server: RabbitServer, *, kill: bool
) -> None:
    etas = [now() + timedelta(days=days) for days in range(1, 101)]
    broker.publish([Message(b"{}", queue, eta) for eta in etas])

    server.restart(kill=kill)

    def listed() -> list[Message]:
        try:
            return delayed(broker, queue)
        except BrokerUnavailable:
            return []

    eventually(lambda: [message.eta for message in listed()] == etas)


def test_what_became_due_while_the_node_was_down_comes_when_it_is_up(
    broker: AmqpBroker, queue: str, server: RabbitServer
) -> None:
    due = now() + timedelta(seconds=2)
    broker.publish([Message(b"{}", queue, due)])

    server.stop()
    eventually(lambda: now() > due)
    server.start()

    assert first(broker.consumer(queue, "me")).body == b"{}"


def test_what_is_beyond_the_ladder_is_sent_on_by_a_workers_keeper(
    broker: AmqpBroker, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given something that has waited beyond the ladder until its time has almost come
    monkeypatch.setattr("machinery_broker_amqp._ladder.BEYOND", "machinery.test.beyond")
    monkeypatch.setattr("machinery_broker_amqp._ladder._BEYOND_MS", 100)
    monkeypatch.setattr("machinery_broker_amqp._ladder.LONGEST", 300)
    eta = now() + timedelta(milliseconds=700)
    broker.publish([Message(b"{}", queue, eta, 3, headers={"trace": "a"})])
    consumer = broker.consumer(queue, "me")

    # When a keeper looks, as often as need be
    def came() -> list[Delivery]:
        broker._forwarding._next = 0.0
        assert consumer.maintain() is not None
        return consumer.receive(1, 0.05)

    (delivery,) = eventually(came)

    # Then it came at its time, with all that it carried
    assert now() >= eta - timedelta(milliseconds=5)
    properties = delivery.handle.properties
    assert (properties.priority, properties.headers["trace"]) == (3, "a")


class TestTheWayDown:
    @pytest.mark.parametrize("milliseconds", [1, 2, 3, 1000, 2**31, LONGEST - 1, LONGEST])
    def test_the_rungs_where_it_stays_add_up_to_its_delay(self, milliseconds: int) -> None:
        exchange, key, headers = DELAYED.way(milliseconds, "q")

        stays = [int(name[-2:]) for name, digit in headers.items() if digit == "1"]
        assert sum(2**rung for rung in stays) == milliseconds
        assert exchange == DELAYED.rung(max(stays))
        assert len(headers) == max(stays) + 1
        assert key == "q"

    def test_beyond_the_longest_it_has_no_rungs(self) -> None:
        assert DELAYED.way(LONGEST + 1, "q") == ("", BEYOND, {})

    @pytest.mark.parametrize("ladder", [DELAYED, POSTPONED])
    def test_only_the_rungs_that_are_needed_are_declared(self, ladder: Ladder) -> None:
        assert ladder.names(5) == tuple(ladder.rung(number) for number in range(3))
        assert len(ladder.names(LONGEST)) == 32
        assert ladder.names(LONGEST + 1)[-1] == BEYOND


def test_many_small_delays_are_not_late(broker: AmqpBroker, queue: str) -> None:
    began = time.monotonic()
    eta = now() + timedelta(seconds=1)
    broker.publish([Message(b"%d" % number, queue, eta + timedelta(milliseconds=number)) for number in range(500)])
    consumer = broker.consumer(queue, "me")
    came: list[bytes] = []

    def all_came() -> bool:
        deliveries = consumer.receive(500, 0.5)
        consumer.ack(deliveries)
        came.extend(delivery.body for delivery in deliveries)
        return len(came) >= 500

    eventually(all_came)

    assert sorted(map(int, came)) == list(range(500))
    assert time.monotonic() - began < 20


def test_what_cannot_be_sent_on_holds_up_nobody_and_is_kept(
    broker: AmqpBroker, config: Config, server: RabbitServer
) -> None:
    """Of what has to go up the ladder again, one that says no queue, beside one that does."""
    queue = f"queue-{uuid4().hex}"
    consumer = broker.consumer(queue, "first")
    consumer.receive(1, 0)
    connection = pika.BlockingConnection(pika.URLParameters(server.url))
    raw = connection.channel()
    raw.confirm_delivery()
    raw.queue_declare(ONWARDS, durable=True, arguments={"x-queue-type": "classic"})
    for body, headers in ((b"lost", {}), (b"found", {"machinery_queue": queue})):
        raw.basic_publish("", ONWARDS, body, pika.BasicProperties(headers=headers, delivery_mode=2))
    consumer.maintain()
    (delivery,) = consumer.receive(2, PATIENCE)
    assert delivery.body == b"found"
    assert raw.queue_declare(ONWARDS, passive=True).method.message_count == 0
    (letter,) = broker.dead(config.default_queue, 10)
    assert letter.body == b"lost"
    assert "cannot be sent on" in letter.reason
    connection.close()
