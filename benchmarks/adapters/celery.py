"""Celery on Redis, RabbitMQ or SQS, results in Redis, with its thread pool."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from urllib.parse import urlsplit

from celery import Celery, chord

from benchmarks import work

IS_ASYNC = False

app = Celery("benchmarks.adapters.celery", broker=work.BROKER, backend=work.URL)
app.conf.update(broker_connection_retry_on_startup=True, worker_hijack_root_logger=False)
if work.BROKER.startswith("sqs:"):
    where = urlsplit(work.BROKER)
    app.conf.update(broker_url=f"sqs://local:local@{where.netloc}", worker_enable_remote_control=False)
    app.conf.broker_transport_options = {
        "region": "us-east-1",
        "is_secure": False,
        "predefined_queues": {"celery": {"url": f"http://{where.netloc}{where.path}/celery"}},
    }
if work.BROKER.startswith("amqp:"):
    app.conf.broker_transport_options = {"confirm_publish": True}
add = app.task(name="add")(work.add)
total = app.task(name="total")(work.total)


def send(number: int) -> None:
    """Send one task."""
    add.delay(number, 1)


def call(number: int) -> int:
    """Send one task and wait for its result."""
    result: int = add.delay(number, 1).get(timeout=work.PATIENCE, interval=0.001)
    return result


def send_later(numbers: Sequence[int], at: datetime) -> None:
    """Send them all, to be started at that time."""
    for number in numbers:
        add.apply_async((number, 1), eta=at)


def run_chord(numbers: Sequence[int]) -> int:
    """The sum of all results, by a chord's callback."""
    result: int = chord(add.s(number, 1) for number in numbers)(total.s()).get(timeout=work.PATIENCE, interval=0.001)
    return result
