"""The application's own parameters, and processes that fork."""

from __future__ import annotations

import multiprocessing
import warnings
from typing import Any
from uuid import uuid4

import pika
import pytest

from machinery import Server
from machinery.abc import Config, Message
from machinery.errors import BrokerUnavailable, ConfigError
from machinery.memory import MemoryBackend, MemoryLock
from machinery_broker_amqp import AmqpBroker
from tests.plugins.broker_amqp.conftest import config_with


@pytest.fixture
def parameters(amqp_url: str) -> pika.URLParameters:
    return pika.URLParameters(amqp_url)


def dead() -> pika.ConnectionParameters:
    return pika.ConnectionParameters("127.0.0.1", 1, connection_attempts=1, socket_timeout=1, stack_timeout=1)


def check(broker: AmqpBroker, queue: str) -> None:
    broker.publish([Message(b"{}", queue)])
    consumer = broker.consumer(queue, "me")
    (delivery,) = consumer.receive(1, 15)
    assert delivery.body == b"{}"
    assert consumer.ack([delivery]) == []
    assert broker.examine()[0].level == "ok"
    broker.close()


def test_the_applications_parameters_will_do(parameters: Any, config: Config) -> None:
    check(AmqpBroker(parameters, config), config.default_queue)


def test_options_are_keys_of_the_section(parameters: Any) -> None:
    own = uuid4().hex
    broker = AmqpBroker(
        parameters,
        exchange=f"e-{own}",
        binding_key=f"k-{own}",
        queue_declare_args={"x-max-priority": 10},
        prefetch_count=1,
    )

    assert broker.capabilities.priorities
    assert broker.capabilities.default_routing_key == f"k-{own}"
    check(broker, f"queue-{own}")


def test_of_several_the_first_that_lives_is_used(parameters: Any, config: Config) -> None:
    check(AmqpBroker((dead(), parameters), config), config.default_queue)


def test_of_several_addresses_in_urls_the_first_that_lives_is_used(amqp_url: str) -> None:
    config = config_with(connect_timeout=5).with_(multiple_broker_separator=";")

    check(AmqpBroker.from_url(f"amqp://127.0.0.1:1/;{amqp_url}", config), config.default_queue)


def test_where_none_lives_all_are_named(config: Config) -> None:
    broker = AmqpBroker((dead(), dead()), config)

    with pytest.raises(BrokerUnavailable, match=r"127\.0\.0\.1:1.*127\.0\.0\.1:1"):
        broker.publish([Message(b"{}", config.default_queue)])
    broker.close()


def test_a_servers_worker_runs_on_it(parameters: Any, config: Config) -> None:
    with Server(config, AmqpBroker(parameters, config), MemoryBackend(), MemoryLock()) as server:

        @server.task
        def add(first: int, second: int) -> int:
            return first + second

        with server.new_worker("test", 2):
            assert add.send(2, 3).get(timeout=30) == 5


@pytest.mark.parametrize("wrong", ["amqp://localhost", None, object()])
def test_something_else_is_refused_with_a_reason(wrong: Any) -> None:
    with pytest.raises(ConfigError, match=r"pika\.ConnectionParameters"):
        AmqpBroker(wrong)


def test_a_connection_is_refused_with_a_reason(parameters: Any) -> None:
    connection = pika.BlockingConnection(parameters)
    with pytest.raises(ConfigError, match="cannot be shared between threads"):
        AmqpBroker(connection)
    connection.close()


def test_a_wrong_option_is_refused_with_a_reason(parameters: Any) -> None:
    with pytest.raises(ConfigError, match="did you mean 'heartbeat'"):
        AmqpBroker(parameters, hartbeat=3)


def _publish_in_child(broker: AmqpBroker, queue: str) -> None:
    broker.publish([Message(b"child", queue)])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_process_makes_a_connection_of_its_own(parameters: Any, config: Config) -> None:
    broker, queue = AmqpBroker(parameters, config), config.default_queue
    broker.publish([Message(b"before", queue)])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it has threads
        child = multiprocessing.get_context("fork").Process(target=_publish_in_child, args=(broker, queue))
        child.start()
    child.join(40)
    broker.publish([Message(b"after", queue)])

    assert child.exitcode == 0
    assert [message.body for message in broker.pending(queue, 9)] == [b"before", b"child", b"after"]
    broker.close()
