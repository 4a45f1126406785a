"""This project."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from benchmarks import work
from machinery import Config, Server, chord, group

IS_ASYNC = False
BATCH = 1000
"""Tasks sent in one call."""

if work.WITHOUT:
    from benchmarks.ideas import leave_out

    leave_out(work.WITHOUT)
if work.BROKER == work.URL:
    server = Server.from_url(work.URL)
else:
    server = Server.from_config(Config(broker=work.BROKER, result_backend=work.URL, lock=work.URL))
add: Any = server.task(name="add")(work.add_async if work.IS_ASYNC else work.add)
length = server.task(work.length)
total = server.task(work.total_of_all)


def send(number: int) -> None:
    """Send one task."""
    add.send(number, 1)


def call(number: int) -> int:
    """Send one task and wait for its result."""
    result: int = add.send(number, 1).get(timeout=work.PATIENCE)
    return result


def send_batch(numbers: Sequence[int]) -> None:
    """Send them all, many at a time."""
    _send_batches(add, numbers, 1)


def send_later(numbers: Sequence[int], at: datetime) -> None:
    """Send them all, to be started at that time."""
    _send_batches(add.options(eta=at), numbers, 1)


def send_sized(numbers: Sequence[int], characters: int) -> None:
    """Send them all, each with an argument of that size."""
    _send_batches(length, numbers, "x" * characters)


def send_groups(numbers: Sequence[int], size: int) -> None:
    """Send them all in groups of that size."""
    for start in range(0, len(numbers), size):
        server.send_group(group([add.signature(number, 1) for number in numbers[start : start + size]]))


def run_chord(numbers: Sequence[int]) -> int:
    """The sum of all results, by a chord's callback."""
    members = group([add.signature(number, 1) for number in numbers])
    result: int = server.send_chord(chord(members, total.partial())).get(timeout=work.PATIENCE)
    return result


def _send_batches(task: Any, numbers: Sequence[int], argument: object) -> None:
    for start in range(0, len(numbers), BATCH):
        server.send_tasks([task.signature(number, argument) for number in numbers[start : start + BATCH]])
