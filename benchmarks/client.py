"""The sending side, run inside a peer's environment: ``python -m benchmarks.client ADAPTER WORD '{"count": 100}'``.

Does the one thing that ``WORD`` names and prints what it saw as one line of JSON. `benchmarks/go` takes the same words.

Standard library only, besides the adapter.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

PAUSE = 0.001
"""Seconds ahead of its schedule from which on a sender at a given pace waits: event loops know no shorter wait."""

Told = dict[str, Any]


@contextmanager
def measured(told: Told) -> Iterator[None]:
    """Note how many seconds, and seconds of CPU, the block took."""
    cpu = time.process_time()
    start = time.perf_counter()
    yield
    told["seconds"] = time.perf_counter() - start
    told["cpu"] = time.process_time() - cpu


def send_each(adapter: Any, count: int) -> Told:
    """Send tasks one by one."""
    told: Told = {}
    if adapter.IS_ASYNC:

        async def run() -> None:
            with measured(told):
                for number in range(count):
                    await adapter.send(number)

        _run(adapter, run)
    else:
        with measured(told):
            for number in range(count):
                adapter.send(number)
    return told


def send_batch(adapter: Any, count: int) -> Told:
    """Send tasks many at a time."""
    told: Told = {}
    with measured(told):
        adapter.send_batch(range(count))
    return told


def send_sized(adapter: Any, count: int, characters: int) -> Told:
    """Send tasks with arguments of a size."""
    told: Told = {}
    with measured(told):
        adapter.send_sized(range(count), characters)
    return told


def send_groups(adapter: Any, count: int, size: int) -> Told:
    """Send tasks in groups of a size."""
    told: Told = {}
    with measured(told):
        adapter.send_groups(range(count), size)
    return told


def round_trips(adapter: Any, count: int) -> Told:
    """Send a task and wait for its result, one after the other; the first one, which waits for the worker, is not counted."""
    taken: list[float] = []

    def note(number: int, start: float, result: int) -> None:
        taken.append((time.perf_counter() - start) * 1000)
        if result != number + 1:
            raise ValueError(f"the result of task {number} is {result!r}")

    if adapter.IS_ASYNC:

        async def run() -> None:
            await adapter.call(-1)
            for number in range(count):
                start = time.perf_counter()
                note(number, start, await adapter.call(number))

        _run(adapter, run)
    else:
        adapter.call(-1)
        for number in range(count):
            start = time.perf_counter()
            note(number, start, adapter.call(number))
    return {"milliseconds": taken}


def send_paced(adapter: Any, count: int, rate: float) -> Told:
    """Send tasks one by one, so many in a second, whatever becomes of them; tells when each was sent (monotonic ns)."""
    sent: list[int] = []
    start = time.monotonic()

    if adapter.IS_ASYNC:

        async def run() -> None:
            await adapter.call(-1)
            start = time.monotonic()
            for number in range(count):
                if (ahead := start + number / rate - time.monotonic()) > PAUSE:
                    await asyncio.sleep(ahead)
                sent.append(time.monotonic_ns())
                await adapter.send(number)

        _run(adapter, run)
    else:
        adapter.call(-1)
        start = time.monotonic()
        for number in range(count):
            if (ahead := start + number / rate - time.monotonic()) > PAUSE:
                time.sleep(ahead)
            sent.append(time.monotonic_ns())
            adapter.send(number)
    return {"sent": sent}


def send_later(adapter: Any, count: int, lead: float) -> Told:
    """Send tasks that are all due ``lead`` seconds from now; tells when that is, and when all were sent (monotonic ns)."""
    at = datetime.now(UTC) + timedelta(seconds=lead)
    due = time.monotonic_ns() + int((at.timestamp() - time.time()) * 1e9)
    told: Told = {"due": due}
    with measured(told):
        if adapter.IS_ASYNC:
            _run(adapter, lambda: adapter.send_later(range(count), at))
        else:
            adapter.send_later(range(count), at)
    return told | {"done": time.monotonic_ns()}


def wait_ready(adapter: Any) -> Told:
    """Wait until a worker has run a task."""
    if adapter.IS_ASYNC:
        _run(adapter, lambda: adapter.call(-1))
    else:
        adapter.call(-1)
    return {}


def run_chord(adapter: Any, count: int) -> Told:
    """Run a chord and wait for its result."""
    adapter.call(-1)
    told: Told = {}
    with measured(told):
        told["result"] = adapter.run_chord(range(count))
    return told


def _run(adapter: Any, run: Callable[[], Awaitable[object]]) -> None:
    async def started() -> None:
        if hasattr(adapter, "start"):
            await adapter.start()
        await run()

    asyncio.run(started())


WORDS: dict[str, Callable[..., Told]] = {
    "send-each": send_each,
    "send-batch": send_batch,
    "send-sized": send_sized,
    "send-groups": send_groups,
    "send-paced": send_paced,
    "send-later": send_later,
    "round-trips": round_trips,
    "wait-ready": wait_ready,
    "chord": run_chord,
}


def main(arguments: Sequence[str]) -> None:
    """Carry out the command line."""
    name, word, given = arguments
    told = WORDS[word](importlib.import_module(f"benchmarks.adapters.{name}"), **json.loads(given))
    print(json.dumps(told), flush=True)
    os._exit(0)  # some peers' threads would hold the process up


if __name__ == "__main__":
    main(sys.argv[1:])
