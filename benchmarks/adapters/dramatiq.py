"""Dramatiq on Redis or RabbitMQ, with results in Redis."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import dramatiq
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from benchmarks import work

IS_ASYNC = False

broker: Any
if work.BROKER.startswith("amqp:"):
    from dramatiq.brokers.rabbitmq import RabbitmqBroker

    broker = RabbitmqBroker(url=work.BROKER, confirm_delivery=True)
else:
    from dramatiq.brokers.redis import RedisBroker

    broker = RedisBroker(url=work.BROKER)
broker.add_middleware(Results(backend=RedisBackend(url=work.URL)))
dramatiq.set_broker(broker)
add = dramatiq.actor(work.add, store_results=True)


def send(number: int) -> None:
    """Send one task."""
    add.send(number, 1)


def call(number: int) -> int:
    """Send one task and wait for its result."""
    result: int = add.send(number, 1).get_result(block=True, timeout=work.PATIENCE * 1000)
    return result


def send_later(numbers: Sequence[int], at: datetime) -> None:
    """Send them all, to be started at that time; Dramatiq takes a delay, in whole milliseconds."""
    for number in numbers:
        delay = int((at.timestamp() - time.time()) * 1000) + 1
        add.send_with_options(args=(number, 1), delay=delay)
