"""Exchange, queues and bindings: what is declared, what gets where, and what is said when others declared it differently."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pika
import pytest

from machinery.abc import Config, Message
from machinery.errors import BrokerUnavailable, ConfigError
from machinery.testing._expectations import eventually, raises
from machinery_broker_amqp import AmqpBroker
from tests.plugins.broker_amqp.conftest import config_with


def exists(raw: Any, queue: str) -> bool:
    channel = raw.connection.channel()
    try:
        channel.queue_declare(queue, passive=True)
    except pika.exceptions.ChannelClosedByBroker as error:
        if error.reply_code != 404:
            raise
        return False
    channel.close()
    return True


def section(config: Config, key: str) -> str:
    return str(config.sections["amqp"][key])


def sharing(config: Config, **options: Any) -> Config:
    """The same names, with other options."""
    return dataclasses.replace(config, sections={"amqp": {**config.sections["amqp"], **options}})


def all_of(broker: AmqpBroker, queue: str, count: int) -> list[bytes]:
    """What a consumer of the queue gets until nothing more comes."""
    consumer = broker.consumer(queue, uuid4().hex)
    found: list[bytes] = []

    def is_complete() -> bool:
        deliveries = consumer.receive(100, 1)
        found.extend(delivery.body for delivery in deliveries)
        consumer.ack(deliveries)
        return len(found) >= count

    eventually(is_complete)
    found += [delivery.body for delivery in consumer.receive(100, 0.3)]
    consumer.close()
    return sorted(found)


def test_what_is_sent_before_any_worker_exists_is_kept(broker: AmqpBroker, config: Config) -> None:
    broker.publish([Message(b"1", config.default_queue), Message(b"2", f"{config.default_queue}-own")])

    assert all_of(broker, config.default_queue, 1) == [b"1"]
    assert all_of(broker, f"{config.default_queue}-own", 1) == [b"2"]


def test_no_orphan_queue_named_like_the_binding_key_comes_to_be(broker: AmqpBroker, config: Config, raw: Any) -> None:
    broker.publish([Message(b"1", config.default_queue)])
    assert all_of(broker, config.default_queue, 1) == [b"1"]

    assert exists(raw, config.default_queue)
    assert not exists(raw, section(config, "binding_key"))


def test_the_binding_key_means_the_default_queue(broker: AmqpBroker, config: Config) -> None:
    broker.publish([Message(b"1", section(config, "binding_key"))])

    assert all_of(broker, config.default_queue, 1) == [b"1"]
    with raises(ConfigError, "amqp.binding_key"):
        broker.consumer(section(config, "binding_key"), "me")


def test_a_custom_queues_consumer_gets_no_tasks_of_the_default_queue(broker: AmqpBroker, config: Config) -> None:
    own = f"{config.default_queue}-own"
    consumer = broker.consumer(own, "me")
    assert consumer.receive(1, 0) == []  # it has declared its queue

    broker.publish([Message(b"default", config.default_queue), Message(b"own", own)])

    assert [delivery.body for delivery in consumer.receive(9, 15)] == [b"own"]
    assert consumer.receive(9, 0.3) == []
    assert all_of(broker, config.default_queue, 1) == [b"default"]


def test_what_go_sends_to_the_queues_name_and_to_the_key_arrives_once_each(
    broker: AmqpBroker, config: Config, raw: Any
) -> None:
    broker.publish([Message(b"ours", config.default_queue)])

    raw.basic_publish(section(config, "exchange"), section(config, "binding_key"), b"by key")
    raw.basic_publish(section(config, "exchange"), config.default_queue, b"by name")

    assert all_of(broker, config.default_queue, 3) == [b"by key", b"by name", b"ours"]


def test_what_is_handed_back_for_later_and_what_has_an_eta_comes_back_once_to_its_own_queue(
    broker: AmqpBroker, config: Config
) -> None:
    own = f"{config.default_queue}-own"
    consumer = broker.consumer(own, "me")
    broker.publish([Message(b"own", own)])
    (delivery,) = consumer.receive(9, 15)

    consumer.postpone([delivery], timedelta(milliseconds=20))

    assert [delivery.body for delivery in consumer.receive(9, 15)] == [b"own"]
    assert consumer.receive(9, 0.3) == []
    assert broker.pending(config.default_queue, 9) == []


@pytest.mark.parametrize("kind", ["topic", "fanout"])
def test_other_types_of_exchange_deliver_to_the_default_queue(broker_of: Callable[..., AmqpBroker], kind: str) -> None:
    config = config_with(exchange_type=kind)
    broker = broker_of(config)

    broker.publish([Message(b"1", config.default_queue)])

    assert all_of(broker, config.default_queue, 1) == [b"1"]


def test_a_headers_exchange_delivers_what_the_binding_asks_for(broker_of: Callable[..., AmqpBroker]) -> None:
    config = config_with(exchange_type="headers", queue_binding_args={"x-match": "all", "format": "png"})
    broker = broker_of(config)

    broker.publish([Message(b"1", config.default_queue, headers={"format": "png"})])

    assert all_of(broker, config.default_queue, 1) == [b"1"]


class TestWhatExistsDiffers:
    def test_a_queues_argument_is_named_with_what_to_set(
        self, broker_of: Callable[..., AmqpBroker], config: Config
    ) -> None:
        broker_of(sharing(config, queue_declare_args={"x-max-priority": 10})).publish(
            [Message(b"1", config.default_queue)]
        )
        other = broker_of(sharing(config, queue_declare_args={"x-max-priority": 5}))

        for call in (
            lambda: other.publish([Message(b"2", config.default_queue)]),
            lambda: other.consumer(config.default_queue, "me").receive(1, 0),
        ):
            with raises(ConfigError, "set x-max-priority: 10 in amqp.queue_declare_args") as caught:
                call()
            assert "whose x-max-priority is '10', where we declare '5'" in str(caught.value)
            assert config.default_queue in str(caught.value)

    def test_an_argument_that_we_leave_out_is_named_too(
        self, broker_of: Callable[..., AmqpBroker], config: Config
    ) -> None:
        broker_of(sharing(config, queue_declare_args={"x-max-priority": 10})).publish(
            [Message(b"1", config.default_queue)]
        )

        with raises(ConfigError, "set x-max-priority: 10 in amqp.queue_declare_args"):
            broker_of(config).publish([Message(b"2", config.default_queue)])

    def test_an_argument_that_only_we_have_is_to_be_left_out(
        self, broker_of: Callable[..., AmqpBroker], config: Config
    ) -> None:
        broker_of(config).publish([Message(b"1", config.default_queue)])

        with raises(ConfigError, "leave x-max-priority out of amqp.queue_declare_args"):
            broker_of(sharing(config, queue_declare_args={"x-max-priority": 10})).publish(
                [Message(b"2", config.default_queue)]
            )

    def test_an_exchanges_type_is_named_with_what_to_set(
        self, broker_of: Callable[..., AmqpBroker], config: Config
    ) -> None:
        broker_of(config).publish([Message(b"1", config.default_queue)])

        with raises(ConfigError, "set amqp.exchange_type to what it is") as caught:
            broker_of(sharing(config, exchange_type="topic")).publish([Message(b"2", config.default_queue)])

        assert "whose type is 'direct', where we declare 'topic'" in str(caught.value)
        assert section(config, "exchange") in str(caught.value)

    def test_a_queue_of_another_kind_is_somebody_elses(
        self, broker_of: Callable[..., AmqpBroker], config: Config, raw: Any
    ) -> None:
        raw.queue_declare(config.default_queue, durable=False, exclusive=False, auto_delete=True)

        with raises(ConfigError, "whose durable is 'false'") as caught:
            broker_of(config).publish([Message(b"1", config.default_queue)])

        assert "use another name for the queue" in str(caught.value)
        raw.queue_delete(config.default_queue)

    def test_once_it_is_put_right_the_same_broker_works(
        self, broker_of: Callable[..., AmqpBroker], config: Config, raw: Any
    ) -> None:
        raw.queue_declare(config.default_queue, durable=True, arguments={"x-max-priority": 3})
        broker = broker_of(config)
        with raises(ConfigError):
            broker.publish([Message(b"1", config.default_queue)])

        raw.queue_delete(config.default_queue)
        broker.publish([Message(b"2", config.default_queue)])

        assert all_of(broker, config.default_queue, 1) == [b"2"]


class TestWhoIsLetIn:
    def test_a_wrong_password_is_a_config_error_that_does_not_show_it(
        self, broker_of: Callable[..., AmqpBroker], amqp_url: str
    ) -> None:
        place = amqp_url.rpartition("@")[2]
        broker = broker_of(config_with(), f"amqp://guest:hunter2@{place}")

        with raises(ConfigError, "user name or password") as caught:
            broker.publish([Message(b"1", "q")])

        assert "hunter2" not in str(caught.value)

    def test_a_missing_virtual_host_is_a_config_error(
        self, broker_of: Callable[..., AmqpBroker], amqp_url: str
    ) -> None:
        broker = broker_of(config_with(), f"{amqp_url.rstrip('/')}/nowhere")

        with raises(ConfigError, "virtual host"):
            broker.publish([Message(b"1", "q")])

    def test_an_address_where_nobody_listens_is_unavailable(self, broker_of: Callable[..., AmqpBroker]) -> None:
        broker = broker_of(config_with(), "amqp://me:hunter2@127.0.0.1:1/")

        for call in (
            lambda: broker.publish([Message(b"1", "q")]),
            lambda: broker.consumer("q", "me").receive(1, 0),
            lambda: broker.pending("q", 1),
            broker.examine,
        ):
            with raises(BrokerUnavailable, "127.0.0.1:1") as caught:
                call()
            assert "hunter2" not in str(caught.value)
            assert "refused" in str(caught.value).lower()
