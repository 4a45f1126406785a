"""No task queue: what a loop on boto3 does with the same records and messages, at least once. The yardstick on SQS.

Nothing is retried, joined, delayed or leased anew. It stores records and sends messages, ten in a request where there are more;
and takes ten in a request, runs them, stores their results in one round trip, and deletes the ten. As many threads do so as are
named.
"""

from __future__ import annotations

import json
import sys
import threading
import uuid
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from redis import Redis

from benchmarks import work
from benchmarks.adapters.bare import LIFETIME, ZEROS, encode, record

IS_ASYNC = False
AT_ONCE = 10
"""SQS takes and gives no more in one request."""
BATCH = 1_000

where = urlsplit(work.BROKER)
QUEUE = f"http://{where.netloc}{where.path}/machinery_tasks"
results = Redis.from_url(work.URL)
client = boto3.client(
    "sqs",
    region_name="us-east-1",
    endpoint_url=f"http://{where.netloc}",
    config=Config(max_pool_connections=50, retries={"total_max_attempts": 1}),
)


def send(number: int) -> None:
    """Store the record of one task, and send it."""
    name, body = _message(number)
    results.set(name, encode(record(name, "PENDING", None)), px=LIFETIME)
    client.send_message(QueueUrl=QUEUE, MessageBody=body)


def send_batch(numbers: Sequence[int]) -> None:
    """Store the records of a thousand, and send them by tens."""
    for start in range(0, len(numbers), BATCH):
        made = [_message(number) for number in numbers[start : start + BATCH]]
        saving = results.pipeline(transaction=False)
        for name, _ in made:
            saving.set(name, encode(record(name, "PENDING", None)), px=LIFETIME)
        saving.execute()
        for first in range(0, len(made), AT_ONCE):
            entries = [
                {"Id": str(at), "MessageBody": body} for at, (_, body) in enumerate(made[first : first + AT_ONCE])
            ]
            if client.send_message_batch(QueueUrl=QUEUE, Entries=entries).get("Failed"):
                raise RuntimeError("not all were taken")


def _message(number: int) -> tuple[str, str]:
    name = f"task_{uuid.uuid4()}"
    args = [{"Name": "", "Type": "int64", "Value": value} for value in (number, 1)]
    return name, encode({"UUID": name, "Name": "add", "RoutingKey": "", "Args": args, **ZEROS})


def work_on_all() -> None:
    """Run tasks until killed."""
    while True:
        taken = client.receive_message(QueueUrl=QUEUE, MaxNumberOfMessages=AT_ONCE, WaitTimeSeconds=1)
        if messages := taken.get("Messages"):
            _run(messages)


def _run(messages: Sequence[dict[str, Any]]) -> None:
    saving = results.pipeline(transaction=False)
    for message in messages:
        task = json.loads(message["Body"])
        value = work.add(*[arg["Value"] for arg in task["Args"]])
        name = task["UUID"]
        saving.set(name, encode(record(name, "SUCCESS", [{"Type": "int64", "Value": value}])), px=LIFETIME)
    saving.execute()
    entries = [{"Id": str(at), "ReceiptHandle": each["ReceiptHandle"]} for at, each in enumerate(messages)]
    client.delete_message_batch(QueueUrl=QUEUE, Entries=entries)


if __name__ == "__main__":
    threads = [threading.Thread(target=work_on_all) for _ in range(int(sys.argv[1]))]
    for thread in threads:
        thread.start()
