"""Receiving and settling: how many messages are held, and where those go that are handed back or taken away."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from machinery.abc import Config, Delivery, Message
from machinery.errors import BrokerUnavailable
from machinery.testing._expectations import PATIENCE, eventually, in_background, in_threads, raises
from machinery_broker_amqp import AmqpBroker
from machinery_broker_amqp._consumer import AmqpConsumer
from tests.plugins.broker_amqp.conftest import config_with, node
from tests.services.proxy import CuttingProxy
from tests.services.rabbitmq import RabbitServer


def ready(raw: Any, queue: str) -> int:
    """How many messages the queue has that were pushed to nobody."""
    return int(raw.queue_declare(queue, passive=True).method.message_count)


def fill(broker: AmqpBroker, queue: str, count: int) -> None:
    broker.publish([Message(b"%d" % number, queue) for number in range(count)])


def has_sent(broker: AmqpBroker, queue: str) -> bool:
    """Whether a broker whose patience is short got something through."""
    try:
        fill(broker, queue, 1)
    except BrokerUnavailable:
        return False
    return True


def bodies(deliveries: list[Delivery]) -> list[int]:
    return [int(delivery.body) for delivery in deliveries]


def everything(consumer: AmqpConsumer, count: int) -> list[int]:
    """What comes until there are ``count``, acknowledged, and whatever comes besides."""
    found: list[int] = []

    def is_complete() -> bool:
        try:
            deliveries = consumer.receive(1000, 0.5)
        except BrokerUnavailable:  # it may be told more than once that a connection was lost
            return False
        consumer.ack(deliveries)
        found.extend(bodies(deliveries))
        return len(found) >= count

    eventually(is_complete)
    found += bodies(consumer.receive(1000, 0.3))
    return sorted(found)


@pytest.fixture
def queue(config: Config) -> str:
    return config.default_queue


class TestHowManyAreHeld:
    def test_a_prefetch_count_of_one_is_obeyed_exactly(self, broker_of: Callable[..., AmqpBroker], raw: Any) -> None:
        config = config_with(prefetch_count=1)
        broker, queue = broker_of(config), config.default_queue
        fill(broker, queue, 5)
        consumer = broker.consumer(queue, "me")
        consumer.resize(100)

        for number in range(5):
            received = consumer.receive(100, PATIENCE)
            assert bodies(received) == [number]
            assert consumer.receive(100, 0.1) == []
            assert ready(raw, queue) == 4 - number
            consumer.ack(received)

    def test_a_prefetch_count_is_obeyed_after_something_was_handed_back(
        self, broker_of: Callable[..., AmqpBroker], raw: Any
    ) -> None:
        config = config_with(prefetch_count=2)
        broker, queue = broker_of(config), config.default_queue
        fill(broker, queue, 9)
        consumer = broker.consumer(queue, "me")
        first = consumer.receive(1, PATIENCE)
        consumer.nack(first)

        held = consumer.receive(9, 5)
        while len(held) < 2:
            held += consumer.receive(9, 5)

        assert bodies(held) == [0, 1]
        assert consumer.receive(9, 0.2) == []
        assert ready(raw, queue) == 7

    def test_left_out_it_follows_resize(self, broker: AmqpBroker, queue: str, raw: Any) -> None:
        fill(broker, queue, 20)
        consumer = broker.consumer(queue, "me")
        consumer.resize(3)
        held = consumer.receive(1, 5)
        eventually(lambda: ready(raw, queue) == 17)

        consumer.resize(8)
        eventually(lambda: ready(raw, queue) == 12)
        while len(held) < 8:
            held += consumer.receive(20, 5)

        assert bodies(held) == list(range(8))
        assert consumer.receive(20, 0.2) == []

    def test_a_smaller_size_gives_the_surplus_back_and_it_does_not_come_straight_back(
        self, broker: AmqpBroker, queue: str, raw: Any
    ) -> None:
        fill(broker, queue, 20)
        consumer = broker.consumer(queue, "me")
        consumer.resize(10)
        held: list[Delivery] = []
        while len(held) < 2:
            held += consumer.receive(2 - len(held), 5)
        eventually(lambda: ready(raw, queue) == 10)

        consumer.resize(2)
        eventually(lambda: ready(raw, queue) >= 16)

        other = broker.consumer(queue, "other")
        others: list[Delivery] = []
        while len(others) < 3:
            others += other.receive(3 - len(others), 5)
        consumer.ack(held)
        other.close()
        assert everything(consumer, 18) == list(range(2, 20))

    def test_what_is_handed_back_goes_to_others_before_it_comes_back(self, broker: AmqpBroker, queue: str) -> None:
        fill(broker, queue, 3)
        consumer, other = broker.consumer(queue, "me"), broker.consumer(queue, "other")
        consumer.resize(3)
        held = consumer.receive(3, 5)
        while len(held) < 3:
            held += consumer.receive(3, 5)

        assert consumer.nack(held) == []

        assert everything(other, 3) == [0, 1, 2]


class TestSettling:
    def test_what_is_handed_back_is_not_acknowledged_with_what_came_after_it(
        self, broker: AmqpBroker, queue: str, raw: Any
    ) -> None:
        fill(broker, queue, 3)
        consumer = broker.consumer(queue, "me")
        consumer.resize(3)
        held: list[Delivery] = []
        while len(held) < 3:
            held += consumer.receive(3, 5)

        assert consumer.nack(held[:1]) == []
        assert consumer.ack(held[1:]) == []

        assert everything(consumer, 1) == [0]

    def test_what_cannot_be_postponed_is_not_acknowledged_with_what_came_after_it(
        self, broker_of: Callable[..., AmqpBroker], server: RabbitServer
    ) -> None:
        # Given a consumer whose broker's own connection does not answer
        config = config_with()
        queue = config.default_queue
        impatient = {**config.sections["amqp"], "answer_timeout": 1, "connect_timeout": 1}
        with CuttingProxy("127.0.0.1", server.port) as proxy:
            sender = broker_of(config, server.url)
            fill(sender, queue, 2)
            stuck = broker_of(config.with_(sections={"amqp": impatient}), f"amqp://127.0.0.1:{proxy.port}/")
            eventually(lambda: has_sent(stuck, f"{queue}-other"))
            consumer = sender.consumer(queue, "me")
            consumer._publisher = stuck._publisher
            held: list[Delivery] = []
            while len(held) < 2:
                held += consumer.receive(2, 5)
            proxy.black_hole()

            # When one is being postponed, and the next is acknowledged meanwhile
            failed = threading.Event()

            def postpone() -> None:
                with raises(BrokerUnavailable):
                    consumer.postpone(held[:1], timedelta(seconds=1))
                failed.set()

            with in_background(postpone) as ended:
                eventually(lambda: held[0].handle.tag not in consumer._loans or failed.is_set())
                assert consumer.ack(held[1:]) == []
                ended()

            # Then the first is still held, and comes again to somebody else
            consumer.close()
            assert 0 in everything(sender.consumer(queue, "other"), 1)

    def test_any_order_of_settling_by_many_threads_loses_nothing(self, broker: AmqpBroker, queue: str) -> None:
        fill(broker, queue, 400)
        consumer = broker.consumer(queue, "me")
        consumer.resize(400)
        held: list[Delivery] = []
        while len(held) < 400:
            held += consumer.receive(400, 5)

        def settle(number: int) -> None:
            for delivery in held[number::4]:
                settled = consumer.nack if int(delivery.body) % 3 == 0 else consumer.ack
                assert settled([delivery]) == []

        in_threads(4, settle)

        assert everything(consumer, 134) == list(range(0, 400, 3))

    def test_nothing_can_be_settled_twice(self, broker: AmqpBroker, queue: str) -> None:
        fill(broker, queue, 1)
        consumer = broker.consumer(queue, "me")
        held = consumer.receive(1, PATIENCE)

        assert consumer.ack(held) == []
        assert consumer.ack(held) == held
        assert consumer.nack(held) == held
        assert consumer.postpone(held, timedelta(seconds=1)) == held
        assert consumer.reject(held, "why") == held
        assert broker.dead(queue, 9) == []


class TestTrouble:
    def test_what_was_held_when_the_connection_was_cut_comes_again(
        self, broker_of: Callable[..., AmqpBroker], server: RabbitServer
    ) -> None:
        config = config_with()
        queue = config.default_queue
        with CuttingProxy("127.0.0.1", server.port) as proxy:
            broker = broker_of(config, f"amqp://127.0.0.1:{proxy.port}/")
            fill(broker, queue, 4)
            consumer = broker.consumer(queue, "me")
            held: list[Delivery] = []
            while len(held) < 4:
                held += consumer.receive(4, 5)

            proxy.cut()
            with raises(BrokerUnavailable):
                consumer.receive(4, PATIENCE)

            assert consumer.ack(held) == held
            assert everything(consumer, 4) == [0, 1, 2, 3]

    def test_a_queue_that_is_deleted_under_a_consumer_is_declared_again(
        self, broker: AmqpBroker, queue: str, raw: Any
    ) -> None:
        consumer = broker.consumer(queue, "me")
        assert consumer.receive(1, 0) == []

        raw.queue_delete(queue)
        with raises(BrokerUnavailable, "was deleted"):
            consumer.receive(1, PATIENCE)
        assert consumer.receive(1, 0) == []
        fill(broker, queue, 1)

        assert everything(consumer, 1) == [0]

    def test_reset_ends_a_receive_that_waits_and_the_next_one_connects_anew(
        self, broker: AmqpBroker, queue: str
    ) -> None:
        consumer = broker.consumer(queue, "me")
        fill(broker, queue, 1)
        held = consumer.receive(1, PATIENCE)
        waiting = threading.Event()

        def wait() -> str:
            waiting.set()
            with raises(BrokerUnavailable) as caught:
                consumer.receive(1, 10)
            return str(caught.value)

        with in_background(wait) as ended:
            waiting.wait(5)
            consumer.reset()
            assert "too long" in ended()

        assert consumer.ack(held) == held
        assert everything(consumer, 1) == [0]

    def test_a_task_that_outlasts_the_servers_patience_is_said_to_have_been_taken_back(
        self, broker_of: Callable[..., AmqpBroker], impatient: RabbitServer
    ) -> None:
        config = config_with()
        queue = config.default_queue
        broker = broker_of(config, impatient.url)
        fill(broker, queue, 1)
        consumer = broker.consumer(queue, "me")
        held = consumer.receive(1, PATIENCE)

        with raises(BrokerUnavailable, "consumer_timeout") as caught:
            consumer.receive(1, 30)

        assert "not done within 3 s" in str(caught.value)
        assert consumer.ack(held) == held
        assert everything(consumer, 1) == [0]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitServer]:
    with node(tmp_path_factory) as made:
        yield made


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitServer]:
    """Takes back after 3 s what a consumer holds, and looks often."""
    with node(tmp_path_factory, {"consumer_timeout": "3000"}, "{channel_tick_interval, 500}") as made:
        yield made


def test_threads_that_acknowledge_at_once_never_acknowledge_twice(
    broker: AmqpBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RabbitMQ would close the channel for it, and all that is under way would come again."""
    # Given two messages, of which one thread is about to acknowledge the first
    queue = f"queue-{uuid4().hex}"
    fill(broker, queue, 2)
    consumer = broker.consumer(queue, "first")
    received: list[Delivery] = []
    while len(received) < 2:
        received += consumer.receive(2, PATIENCE)
    post, others = consumer._link.post, list[threading.Thread]()

    def post_later(*what: Any) -> bool:
        if not others:
            # When another acknowledges the second in that moment
            others.append(threading.Thread(target=consumer.ack, args=(received[1:],)))
            others[0].start()
            others[0].join(0.5)
        return post(*what)

    monkeypatch.setattr(consumer._link, "post", post_later)
    assert consumer.ack(received[:1]) == []
    others[0].join(PATIENCE)

    # Then the channel goes on
    fill(broker, queue, 1)
    (last,) = consumer.receive(1, PATIENCE)
    assert not last.redelivered
    assert last.handle.subscription is received[0].handle.subscription
