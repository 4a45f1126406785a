"""What publishing promises: every message that was accepted is known to be, and every one that was not is named."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pika
import pytest

from machinery.abc import Config, Message
from machinery.errors import BrokerUnavailable, ConfigError, MessageTooLarge, PublishError
from machinery.testing._expectations import Stopwatch, eventually, in_threads, raises
from machinery_broker_amqp import AmqpBroker
from tests.plugins.broker_amqp.conftest import config_with, node
from tests.services.proxy import CuttingProxy
from tests.services.rabbitmq import RabbitServer

LARGEST = 50_000
"""Bytes of a message that the module's own node takes."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitServer]:
    with node(tmp_path_factory, {"max_message_size": str(LARGEST)}) as made:
        yield made


def bodies(broker: AmqpBroker, queue: str) -> list[bytes]:
    return [message.body for message in broker.pending(queue, 10_000)]


def is_sent(broker: AmqpBroker, body: bytes, queue: str) -> bool:
    """Whether ``body`` got through now; that it did not may be wrong."""
    try:
        broker.publish([Message(body, queue)])
    except BrokerUnavailable:
        return False
    return True


def once_each(found: list[bytes]) -> list[bytes]:
    return list(dict.fromkeys(found))


def patient(config: Config) -> Config:
    """The same names, and time enough for a busy server."""
    names = {key: value for key, value in config.sections["amqp"].items() if not key.endswith("timeout")}
    return config.with_(sections={"amqp": names})


def received(raw: Any, queue: str) -> tuple[Any, Any, bytes]:
    method, properties, body = raw.basic_get(queue, auto_ack=True)
    assert method is not None
    return method, properties, body


class TestTheMessage:
    def test_it_is_published_as_go_publishes_it(self, broker: AmqpBroker, config: Config, raw: Any) -> None:
        broker.publish([Message(b"{}", config.default_queue, priority=7, headers={"trace": "a", "debug": True})])

        method, properties, body = received(raw, config.default_queue)
        section = config.sections["amqp"]
        assert (method.exchange, method.routing_key, body) == (section["exchange"], section["binding_key"], b"{}")
        assert properties.content_type == "application/json"
        assert properties.delivery_mode == 2
        assert properties.priority == 7
        assert properties.headers == {"trace": "a", "debug": True}
        for name in (
            "message_id",
            "timestamp",
            "reply_to",
            "correlation_id",
            "expiration",
            "type",
            "app_id",
            "user_id",
        ):
            assert getattr(properties, name) is None

    def test_without_headers_it_has_an_empty_table_of_them(self, broker: AmqpBroker, config: Config, raw: Any) -> None:
        broker.publish([Message(b"{}", config.default_queue)])

        _, properties, _ = received(raw, config.default_queue)
        assert (properties.headers, properties.priority) == ({}, 0)

    def test_to_another_queue_it_goes_by_that_queues_name(self, broker: AmqpBroker, config: Config, raw: Any) -> None:
        queue = f"{config.default_queue}-other"
        broker.publish([Message(b"{}", queue)])

        method, _, _ = received(raw, queue)
        assert (method.exchange, method.routing_key) == (config.sections["amqp"]["exchange"], queue)

    @pytest.mark.parametrize(
        ("given", "sent"),
        [
            (3, "3"),
            (2.5, "2.5"),
            (None, "null"),
            ([1, "two"], json.dumps([1, "two"])),
            ({"a": {"b": 1}}, json.dumps({"a": {"b": 1}})),
            (timedelta(seconds=1), json.dumps("0:00:01")),
            (True, True),
            ("späte Gründe", "späte Gründe"),
        ],
        ids=str,
    )
    def test_a_header_that_go_could_not_send_on_becomes_text(
        self, broker: AmqpBroker, config: Config, raw: Any, given: object, sent: object
    ) -> None:
        broker.publish([Message(b"{}", config.default_queue, headers={"h": given})])

        _, properties, _ = received(raw, config.default_queue)
        assert properties.headers == {"h": sent}
        assert type(properties.headers["h"]) is type(sent)

    @pytest.mark.parametrize(
        "headers", [{"ü" * 128: "a"}, {"h": "x" * 70_000}], ids=["a name too long", "more than a frame holds"]
    )
    def test_headers_that_amqp_cannot_carry_are_named_by_position(
        self, broker: AmqpBroker, config: Config, headers: dict[str, Any]
    ) -> None:
        queue = config.default_queue
        with raises(PublishError) as caught:
            broker.publish([Message(b"1", queue), Message(b"2", queue, headers=headers), Message(b"3", queue)])

        assert list(caught.value.failures) == [1]
        assert isinstance(caught.value.failures[1], ConfigError)
        assert bodies(broker, queue) == [b"1", b"3"]


class TestWhatIsNotAccepted:
    def test_what_reaches_no_queue_is_named_by_position(self, broker_of: Callable[..., AmqpBroker]) -> None:
        config = config_with(exchange_type="headers", queue_binding_args={"x-match": "all", "format": "png"})
        broker, queue = broker_of(config), config.default_queue
        fitting = {"format": "png"}

        with raises(PublishError, "2 of 5") as caught:
            broker.publish(
                [
                    Message(b"0", queue, headers=fitting),
                    Message(b"1", queue),
                    Message(b"2", queue, headers=fitting),
                    Message(b"3", queue, headers={"format": "gif"}),
                    Message(b"4", queue, headers=fitting),
                ]
            )

        assert sorted(caught.value.failures) == [1, 3]
        assert "amqp.queue_binding_args" in str(caught.value.failures[1])
        assert bodies(broker, queue) == [b"0", b"2", b"4"]

    def test_equal_messages_of_which_none_arrives_are_all_named(self, broker_of: Callable[..., AmqpBroker]) -> None:
        config = config_with(exchange_type="headers", queue_binding_args={"x-match": "all", "format": "png"})
        broker = broker_of(config)

        with raises(PublishError) as caught:
            broker.publish([Message(b"same", config.default_queue) for _ in range(300)])

        assert sorted(caught.value.failures) == list(range(300))

    def test_what_a_full_queue_refuses_is_named_by_position_and_may_be_tried_again(
        self, broker_of: Callable[..., AmqpBroker]
    ) -> None:
        config = config_with(queue_declare_args={"x-max-length": 2, "x-overflow": "reject-publish"})
        broker, queue = broker_of(config), config.default_queue

        with raises(PublishError, "x-max-length") as caught:
            broker.publish([Message(b"%d" % number, queue) for number in range(5)])

        assert sorted(caught.value.failures) == [2, 3, 4]
        assert all(isinstance(reason, BrokerUnavailable) for reason in caught.value.failures.values())
        assert bodies(broker, queue) == [b"0", b"1"]

    def test_each_confirm_is_credited_to_its_own_message_with_many_threads(
        self, broker_of: Callable[..., AmqpBroker], server: RabbitServer
    ) -> None:
        # Given a queue that is full, and a ladder that is not
        config = config_with(queue_declare_args={"x-max-length": 1, "x-overflow": "reject-publish"})
        broker, queue = broker_of(config, server.url), config.default_queue
        broker.publish([Message(b"first", queue)])
        later = datetime.now(UTC) + timedelta(days=50)

        # When many threads send through both, each in a pattern of its own
        def publish(number: int) -> list[int]:
            refused = [position for position in range(60) if (position * 11 + number) % (number + 2) == 0]
            messages = [
                Message(b"%d %d" % (number, position), queue, None if position in refused else later)
                for position in range(60)
            ]
            for _ in range(3):
                with raises(PublishError) as caught:
                    broker.publish(messages)
                assert sorted(caught.value.failures) == refused
            return refused

        # Then each is told of exactly its own
        assert all(in_threads(8, publish))
        assert bodies(broker, queue) == [b"first"]

    def test_one_that_is_too_large_is_named_and_the_others_are_sent(
        self, broker_of: Callable[..., AmqpBroker], server: RabbitServer
    ) -> None:
        config = config_with()
        broker, queue = broker_of(config, server.url), config.default_queue
        large = b"x" * (LARGEST + 1)
        messages = [Message(b"0", queue), Message(large, queue), Message(b"2", queue), Message(large, queue)]

        for _ in range(2):  # it learns how much may be sent, and has learnt it
            with raises(MessageTooLarge, str(LARGEST)) as caught:
                broker.publish(messages)
            assert sorted(caught.value.failures) == [1, 3]
        broker.publish([Message(b"x" * LARGEST, queue)])

        assert set(bodies(broker, queue)) == {b"0", b"2", b"x" * LARGEST}

    def test_one_that_is_too_large_does_not_disturb_other_threads(
        self, broker_of: Callable[..., AmqpBroker], server: RabbitServer
    ) -> None:
        config = config_with()
        broker, queue = broker_of(config, server.url), config.default_queue
        unsure: list[bytes] = []

        def publish(number: int) -> None:
            if number == 0:
                with raises(MessageTooLarge):
                    broker.publish([Message(b"x" * (LARGEST + 1), queue)])
                return
            messages = [Message(b"%d %d" % (number, position), queue) for position in range(100)]
            while messages:
                try:
                    broker.publish(messages)
                except PublishError as error:
                    messages = [messages[position] for position in sorted(error.failures)]
                except BrokerUnavailable:
                    unsure.append(messages[0].body)
                else:
                    return

        in_threads(5, publish)

        sent = {b"%d %d" % (number, position) for number in range(1, 5) for position in range(100)}
        assert set(bodies(broker, queue)) == sent


class TestTrouble:
    def test_a_queue_that_was_deleted_is_declared_again(self, broker: AmqpBroker, config: Config, raw: Any) -> None:
        queue = config.default_queue
        broker.publish([Message(b"1", queue)])
        raw.queue_delete(queue)

        broker.publish([Message(b"2", queue), Message(b"3", queue)])

        assert bodies(broker, queue) == [b"2", b"3"]

    def test_an_exchange_that_was_deleted_is_declared_again(self, broker: AmqpBroker, config: Config, raw: Any) -> None:
        queue = config.default_queue
        broker.publish([Message(b"1", queue)])
        raw.exchange_delete(config.sections["amqp"]["exchange"])

        eventually(lambda: is_sent(broker, b"2", queue))
        assert bodies(broker, queue)[-1] == b"2"

    def test_a_rung_of_the_ladder_that_was_deleted_is_declared_again(
        self, broker_of: Callable[..., AmqpBroker], server: RabbitServer
    ) -> None:
        config = config_with()
        broker = broker_of(config, server.url)
        later = datetime.now(UTC) + timedelta(days=2)
        broker.publish([Message(b"1", config.default_queue, later)])
        with closing(pika.BlockingConnection(pika.URLParameters(server.url))) as connection:
            channel = connection.channel()
            for rung in range(20, 28):
                channel.queue_delete(f"machinery.delay.{rung:02d}")

        broker.publish([Message(b"2", config.default_queue, later)])

        assert b"2" in [message.body for message in broker.delayed(10)]

    def test_publishing_to_a_server_that_is_away_fails_in_time_and_works_when_it_is_back(
        self, broker_of: Callable[..., AmqpBroker], server: RabbitServer
    ) -> None:
        config = config_with(connect_timeout=1, answer_timeout=2)
        broker, queue = broker_of(config, server.url), config.default_queue
        eventually(lambda: is_sent(broker, b"before", queue))

        server.stop()
        watch = Stopwatch()
        with raises(BrokerUnavailable, str(server.port)):
            broker.publish([Message(b"lost", queue)])
        assert watch.seconds < 9
        server.start()

        eventually(lambda: is_sent(broker, b"after", queue))
        assert once_each(bodies(broker_of(patient(config), server.url), queue)) == [b"before", b"after"]

    def test_publishing_into_silence_fails_in_time(
        self, broker_of: Callable[..., AmqpBroker], server: RabbitServer
    ) -> None:
        config = config_with(connect_timeout=1, answer_timeout=1)
        with CuttingProxy("127.0.0.1", server.port) as proxy:
            broker, queue = broker_of(config, f"amqp://127.0.0.1:{proxy.port}"), config.default_queue
            eventually(lambda: is_sent(broker, b"1", queue))

            proxy.black_hole()
            watch = Stopwatch()
            with raises(BrokerUnavailable, "does not answer"):
                broker.publish([Message(b"2", queue)])
            assert watch.seconds < 9

            proxy.restore()
            looking = broker_of(patient(config), server.url)
            eventually(lambda: once_each(bodies(looking, queue)) == [b"1", b"2"])  # it was on its way

    def test_a_connection_cut_before_the_confirm_is_unavailable_and_a_second_attempt_works(
        self, broker_of: Callable[..., AmqpBroker], server: RabbitServer
    ) -> None:
        config = config_with()
        with CuttingProxy("127.0.0.1", server.port) as proxy:
            broker = broker_of(config, f"amqp://127.0.0.1:{proxy.port}")
            broker.publish([Message(b"1", config.default_queue)])

            proxy.lose_next_reply()
            with raises(BrokerUnavailable):
                broker.publish([Message(b"2", config.default_queue)])
            broker.publish([Message(b"2", config.default_queue)])

        found = bodies(broker_of(config, server.url), config.default_queue)
        assert found == [b"1", b"2", b"2"]
