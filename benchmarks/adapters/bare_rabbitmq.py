"""No task queue: what a loop on pika does with the same records and messages, at least once. The yardstick on RabbitMQ.

One thread; nothing is retried, joined or delayed. It stores a record, and waits until the message is confirmed. What RabbitMQ has
pushed is run a hundred at a time, results are stored in one round trip, and then the messages are acknowledged.
"""

from __future__ import annotations

import json
import uuid

import pika
from redis import Redis

from benchmarks import work
from benchmarks.adapters.bare import AT_ONCE, LIFETIME, QUEUE, ZEROS, encode, record

IS_ASYNC = False
PREFETCH = 10 * AT_ONCE

client = Redis.from_url(work.URL)
connection = pika.BlockingConnection(pika.URLParameters(work.BROKER))
channel = connection.channel()
channel.queue_declare(QUEUE, durable=True)
channel.confirm_delivery()
properties = pika.BasicProperties(content_type="application/json", delivery_mode=2)


def send(number: int) -> None:
    """Store the record of one task, and send it."""
    name = f"task_{uuid.uuid4()}"
    args = [{"Name": "", "Type": "int64", "Value": value} for value in (number, 1)]
    message = {"UUID": name, "Name": "add", "RoutingKey": QUEUE, "Args": args, **ZEROS}
    client.set(name, encode(record(name, "PENDING", None)), px=LIFETIME)
    channel.basic_publish("", QUEUE, encode(message).encode(), properties, mandatory=True)


def work_on_all() -> None:
    """Run tasks until killed."""
    pushed: list[tuple[int, bytes]] = []
    channel.basic_qos(prefetch_count=PREFETCH)
    channel.basic_consume(QUEUE, lambda _, method, __, body: pushed.append((method.delivery_tag, body)))
    while True:
        connection.process_data_events(time_limit=None)
        for start in range(0, len(pushed), AT_ONCE):
            _run(pushed[start : start + AT_ONCE])
        pushed.clear()


def _run(pushed: list[tuple[int, bytes]]) -> None:
    saving = client.pipeline(transaction=False)
    for _, body in pushed:
        message = json.loads(body)
        value = work.add(*[arg["Value"] for arg in message["Args"]])
        name = message["UUID"]
        saving.set(name, encode(record(name, "SUCCESS", [{"Type": "int64", "Value": value}])), px=LIFETIME)
    saving.execute()
    channel.basic_ack(pushed[-1][0], multiple=True)


if __name__ == "__main__":
    work_on_all()
