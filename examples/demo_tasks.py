"""The application of the demo: its tasks, and below them the program that sends them and prints each result as it arrives.

`demo.py` runs it beside a worker. By hand, in two terminals, in this folder (the worker's shows the periodic task)::

    BROKER=sqlite:///demo.db machinery worker demo_tasks:server -c 4
    BROKER=sqlite:///demo.db python demo_tasks.py
"""

import asyncio
import math
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from machinery import (
    AsyncResult,
    Config,
    Exponential,
    GroupResult,
    Server,
    TaskContext,
    TaskFailed,
    chain,
    chord,
    group,
)

server = Server.from_config(Config.from_env())  # reads the URL from BROKER
row = "{:>8}  {:<13}  {:<34}  {}".format


@server.task
def add(*numbers: int) -> int:
    """Run in one of the worker's threads."""
    return sum(numbers)


@server.task
def multiply(*numbers: int) -> int:
    """Likewise."""
    return math.prod(numbers)


@server.task
async def nap(seconds: float) -> str:
    """Run on the worker's event loop, beside many others."""
    await asyncio.sleep(seconds)
    return f"slept for {seconds} s"


@server.task(retry_count=3, retry=Exponential(base=0.3))
def flaky(context: TaskContext) -> str:
    """Fail twice, then succeed."""
    if context.attempt in {1, 2}:
        raise ConnectionError("not now")
    return f"worked at attempt {context.attempt}"


@server.task
def divide(a: int, b: int) -> float:
    """Fail for good when ``b`` is 0."""
    return a / b


@server.task
def tick() -> None:
    """Print a row of the table from the worker's process, by the time of day."""
    now = datetime.now(UTC).astimezone()
    print(row(f"{now:%H:%M:%S}", "tick()", "periodic, '@every 1s'", f"run by process {os.getpid()}"), flush=True)


# Workers fire it, once per tick however many there are; the program below, which has it registered too, does not.
server.register_periodic_task("@every 1s", "tick", tick.signature())


@dataclass(frozen=True)
class Sent:
    """One row of the table: a call, what is special about it, what should come of it."""

    call: str
    remark: str
    result: AsyncResult[object] | GroupResult
    expected: object


def send_all() -> list[Sent]:
    """Send every kind of task, and every kind of workflow."""
    # Each step of a chain gets the result of the one before after its own arguments.
    steps = chain(add.signature(1, 1), add.signature(5, 5), multiply.signature(4))
    both = group(add.signature(1, 1), add.signature(5, 5))
    return [
        Sent("add(2, 3)", "a plain task", add.send(2, 3), 5),
        Sent("nap(0.2)", "an async def task", nap.send(0.2), "slept for 0.2 s"),
        Sent("add(20, 22)", "sent with countdown=1", add.options(countdown=timedelta(seconds=1)).send(20, 22), 42),
        Sent("flaky()", "fails twice, is retried", flaky.send(), "worked at attempt 3"),
        Sent("divide(1, 0)", "fails for good", divide.send(1, 0), "division by zero"),
        Sent("a chain", "multiply(4, add(5, 5, add(1, 1)))", server.send_chain(steps), 48),
        Sent("a group", "add(1, 1) beside add(5, 5)", server.send_group(both), [2, 10]),
        Sent("a chord", "multiply(add(1, 1), add(5, 5))", server.send_chord(chord(both, multiply.signature())), 20),
    ]


def wait(sent: Sent) -> tuple[str, bool, float]:
    """The result as text, whether it is the expected one, and when it came."""
    try:
        value = sent.result.get(timeout=15)
    except TaskFailed as failure:
        return f"failed: {failure.error}", failure.error == sent.expected, time.monotonic()
    return repr(value), value == sent.expected, time.monotonic()


def main() -> int:
    """Print the table. The exit status is 0 when every result is the expected one and no message is left."""
    print(row("after", "task", "", "result"), flush=True)
    began = time.monotonic()
    good = True
    with ThreadPoolExecutor() as threads:
        waiting = {threads.submit(wait, sent): sent for sent in send_all()}
        for done in as_completed(waiting):
            sent = waiting[done]
            text, as_expected, at = done.result()
            print(row(f"{at - began:.2f} s", sent.call, sent.remark, text), flush=True)
            good = good and as_expected
    waiting_still = [each for each in (*server.pending_tasks(), *server.delayed_tasks()) if each.name != tick.name]
    left = [*waiting_still, *server.dead_tasks()]
    server.close()
    if left:
        print(f"left in the queue: {left}", file=sys.stderr)
    return 0 if good and not left else 1


if __name__ == "__main__":
    sys.exit(main())
