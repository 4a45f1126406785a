"""RQ."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from redis import Redis
from rq import Queue

from benchmarks import work

IS_ASYNC = False
BATCH = 1000
"""Tasks sent in one call."""

queue = Queue("default", connection=Redis.from_url(work.URL))


def send(number: int) -> None:
    """Send one task."""
    queue.enqueue(work.add, number, 1)


def call(number: int) -> int:
    """Send one task and wait for its result."""
    result: int = queue.enqueue(work.add, number, 1).latest_result(timeout=work.PATIENCE).return_value
    return result


def send_batch(numbers: Sequence[int]) -> None:
    """Send them all, many at a time."""
    for start in range(0, len(numbers), BATCH):
        queue.enqueue_many([queue.prepare_data(work.add, (number, 1)) for number in numbers[start : start + BATCH]])


def send_later(numbers: Sequence[int], at: datetime) -> None:
    """Send them all, to be started at that time."""
    for number in numbers:
        queue.enqueue_at(at, work.add, number, 1)
