"""Go Machinery's example program in Python: the same tasks, a worker, and a sender that shows what can be done with them.

In two terminals, with a Redis server on this machine or where REDIS_URL says::

    python redis_tasks.py worker
    python redis_tasks.py send

A Go worker or sender with tasks of these names may take the place of either.
"""

import argparse
import asyncio
import logging
import math
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from machinery import (
    AsyncResult,
    Exponential,
    GroupResult,
    RetryTaskLater,
    Server,
    Signature,
    TaskContext,
    TaskFailed,
    chain,
    chord,
    group,
)

server = Server.from_url(os.environ.get("REDIS_URL", "redis://localhost:6379"), results_expire_in=timedelta(hours=1))
log = logging.getLogger("example")

# -- the tasks --------------------------------------------------------------------------------------------------------


@server.task
def add(*numbers: int) -> int:
    """Add whole numbers."""
    return sum(numbers)


@server.task
def multiply(*numbers: int) -> int:
    """Multiply whole numbers."""
    return math.prod(numbers)


@server.task
def sum_ints(numbers: list[int]) -> int:
    """Take one list instead."""
    return sum(numbers)


@server.task
def sum_floats(numbers: list[float]) -> float:
    """Likewise, of numbers with a fraction."""
    return sum(numbers)


@server.task
def concat(strings: list[str]) -> str:
    """Put texts together."""
    return "".join(strings)


@server.task
def split(text: str) -> tuple[str, str]:
    """Return a tuple, which is several results, not one."""
    left, right = text.split(maxsplit=1)
    return left, right


@server.task
async def long_running(seconds: float) -> str:
    """Wait on the worker's event loop, which holds no thread."""
    await asyncio.sleep(seconds)
    return "done"


@server.task
def panic_task() -> None:
    """Fail for good: the worker goes on, and the sender gets the error."""
    raise RuntimeError("oops")


@server.task(retry_count=3, retry=Exponential(base=0.3))
def flaky(context: TaskContext) -> str:
    """Fail twice. Each failure uses up one of the three retries."""
    if context.attempt in {1, 2}:
        raise ConnectionError("the other side hung up")
    return f"worked at attempt {context.attempt}"


@server.task
def not_yet(context: TaskContext) -> str:
    """Ask to be run again later, which is no failure and uses up no retry."""
    if context.attempt == 1:
        raise RetryTaskLater("not ready", retry_in=timedelta(seconds=0.5))
    return f"ready at attempt {context.attempt}"


@server.task
def report_error(error: str, *about: str) -> str:
    """Take the failed task's error, and after it what the signature itself carries."""
    return f"{' '.join(about)}: {error}"


# -- the worker -------------------------------------------------------------------------------------------------------


def work() -> None:
    """Run tasks, up to ten at once, until SIGTERM or Ctrl-C. ``machinery worker redis_tasks:server -c 10`` does the same."""
    worker = server.new_worker("example", 10)
    worker.set_error_handler(report)
    worker.set_pre_task_handler(lambda signature: log.info("start of %s", signature.name))
    worker.set_post_task_handler(lambda signature: log.info("end of %s", signature.name))
    worker.launch()


def report(error: BaseException, signature: Signature | None) -> None:
    """Get what a task failed with for good, or the worker's own trouble, which has no signature."""
    log.error("%s: %r", signature.name if signature else "worker", error)


# -- the sender -------------------------------------------------------------------------------------------------------


def send() -> None:
    """Send everything and print what comes of it."""
    show("a task", add.send(1, 1))
    show("a list of whole numbers", sum_ints.send([1, 2, 3]))
    show("a list of other numbers", sum_floats.send([1.5, 2.75]))
    show("a list of texts", concat.send(["foo", "bar"]))
    show("several results", split.send("foo bar"))
    show("an async def task", long_running.send(0.2))
    show("a task that fails", panic_task.send())

    soon = datetime.now(UTC) + timedelta(seconds=1)
    show("a task with an ETA", add.options(eta=soon).send(2, 2))
    show("a task with a countdown", add.options(countdown=timedelta(seconds=0.5)).send(3, 3))
    show("a task that is retried", flaky.send())
    show("a task that asks for later", not_yet.send())

    by_name = server.send_tasks([Signature("add", [number, number]) for number in range(5)])
    print(f"{'five by name, in one batch':<28}{[result.get(timeout=10) for result in by_name]}")

    # Each task gets the results of the one before after its own arguments: ((1 + 1 + 10) * 4).
    show("a chain", server.send_chain(chain(add.signature(1, 1), add.signature(10), multiply.signature(4))))
    both = group(add.signature(1, 1), add.signature(5, 5))
    show("a group", server.send_group(both))
    show("a chord", server.send_chord(chord(both, multiply.signature())))

    # An id of our own lets us wait for what follows a task.
    run_id = f"example-{datetime.now(UTC):%Y%m%dT%H%M%S.%f}"
    after = add.signature(100).with_(uuid=f"{run_id}-success")
    show("a task with on_success", add.options(on_success=after).send(1, 2))
    show("  what it set off", server.result(after.uuid))
    failed = report_error.partial("in the example").with_(uuid=f"{run_id}-error")  # the error comes before its own
    show("a task with on_error", panic_task.options(on_error=failed).send())
    show("  what it set off", server.result(failed.uuid))


def show(what: str, result: AsyncResult[object] | GroupResult) -> None:
    """Wait for a result and print it."""
    try:
        text = repr(result.get(timeout=10))
    except TaskFailed as failure:
        text = f"failed: {failure.error}"
    print(f"{what:<28}{text}", flush=True)


def main() -> int:
    """Be the worker or the sender."""
    commands: dict[str, Callable[[], None]] = {"worker": work, "send": send}
    parser = argparse.ArgumentParser(description="Go Machinery's example program in Python.")
    parser.add_argument("command", choices=commands)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    with server:
        commands[parser.parse_args().command]()
    return 0


if __name__ == "__main__":
    sys.exit(main())
