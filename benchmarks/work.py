"""The tasks of the benchmark, the same for all peers: they do nothing but note that they were called.

Standard library only: this runs inside the environment of each peer.
"""

from __future__ import annotations

import os
from pathlib import Path

from benchmarks.ledger import Ledger

URL = os.environ.get("BENCH_URL", "")
"""Where the results are."""

BROKER = os.environ.get("BENCH_BROKER", "")
"""Where the queue is: there, too, or in RabbitMQ."""

IS_ASYNC = os.environ.get("BENCH_KIND") == "async"
"""Whether the tasks are to be ``async def``."""

WITHOUT = os.environ.get("BENCH_WITHOUT", "")
"""The idea that this project is to do without; empty: none."""

PATIENCE = 600
"""Seconds to wait for a result: longer than the benchmark waits for whoever waits."""

LEDGER = Ledger(Path(os.environ.get("BENCH_LEDGER", os.devnull)), int(os.environ.get("BENCH_CAPACITY", "0")))


def add(number: int, one: int) -> int:
    """The task that is counted."""
    LEDGER.note(number)
    return number + one


async def add_async(number: int, one: int) -> int:
    """The same for event loops."""
    LEDGER.note(number)
    return number + one


def length(number: int, text: str) -> int:
    """A task with a message as large as wanted."""
    LEDGER.note(number)
    return len(text)


def total(numbers: list[int]) -> int:
    """A chord's callback that gets one list."""
    return sum(numbers)


def total_of_all(*numbers: int) -> int:
    """A chord's callback that gets each result as an argument."""
    return sum(numbers)
