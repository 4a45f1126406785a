"""Tasks through RabbitMQ: with priorities, in queues of their own, later, tried again, given up.

In two terminals, with a RabbitMQ on this machine or where AMQP_URL says::

    python amqp_tasks.py worker
    python amqp_tasks.py send
    python amqp_tasks.py dead

Results are in RabbitMQ too, or in Redis where REDIS_URL names one. A Go worker or sender with tasks of these names, the same
exchange and the same binding key may take the place of either.
"""

import argparse
import logging
import math
import os
import sys
from collections.abc import Callable
from datetime import timedelta

from machinery import (
    AsyncResult,
    Config,
    Exponential,
    GroupResult,
    Reject,
    Server,
    TaskContext,
    TaskFailed,
    chain,
    chord,
    group,
)

QUEUE = os.environ.get("EXAMPLE_QUEUE", "machinery_example")
REPORTS = f"{QUEUE}_reports"

config = Config(
    broker=os.environ.get("AMQP_URL", "amqp://guest:guest@localhost:5672/"),
    result_backend=os.environ.get("REDIS_URL", ""),
    default_queue=QUEUE,
    results_expire_in=timedelta(hours=1),
    sections={
        "amqp": {
            "exchange": f"{QUEUE}_exchange",
            "binding_key": QUEUE,  # the queue's own name: then Go's senders make no second queue that nobody reads
            "queue_declare_args": {"x-max-priority": 10},  # whoever shares the queue must say the same
        }
    },
)
server = Server.from_config(config)
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


@server.task(retry_count=3, retry=Exponential(base=0.3))
def flaky(context: TaskContext) -> str:
    """Fail twice. RabbitMQ keeps it until it is time to try again."""
    if context.attempt in {1, 2}:
        raise ConnectionError("the other side hung up")
    return f"worked at attempt {context.attempt}"


@server.task(queue=REPORTS)
def report(name: str) -> str:
    """Run by the workers of a queue of its own."""
    return f"the report on {name}"


@server.task
def refuse(what: str) -> None:
    """Give up for good: the message is kept among the dead letters of its queue."""
    raise Reject(f"{what} cannot be read")


# -- the worker -------------------------------------------------------------------------------------------------------


def work() -> None:
    """Run tasks of both queues, up to ten at once, until SIGTERM or Ctrl-C."""
    server.new_worker("example", 10, queues=[QUEUE, REPORTS]).launch()


# -- the sender -------------------------------------------------------------------------------------------------------


def send() -> None:
    """Send everything and print what comes of it."""
    show("a task", add.send(1, 1))
    show("an urgent task", add.options(priority=9).send(2, 2))
    show("a task of another queue", report.send("sales"))
    show("a task with a countdown", add.options(countdown=timedelta(seconds=0.5)).send(3, 3))
    show("a task that is retried", flaky.send())
    show("a chain", server.send_chain(chain(add.signature(1, 1), add.signature(10), multiply.signature(4))))
    both = group(add.signature(1, 1), add.signature(5, 5))
    show("a group", server.send_group(both))
    show("a chord", server.send_chord(chord(both, multiply.signature())))
    show("a task that is refused", refuse.send("this"))


def dead() -> None:
    """Show the dead letters and send them again."""
    for letter in server.dead_tasks():
        print(f"{letter.id}: {letter.reason}")
    print(f"sent again: {server.requeue_dead_tasks()}")


def show(what: str, result: AsyncResult[object] | GroupResult) -> None:
    """Wait for a result and print it."""
    try:
        text = repr(result.get(timeout=10))
    except TaskFailed as failure:
        text = f"failed: {failure.error}"
    print(f"{what:<28}{text}", flush=True)


def main() -> int:
    """Be the worker or the sender, or look after what has died."""
    commands: dict[str, Callable[[], None]] = {"worker": work, "send": send, "dead": dead}
    parser = argparse.ArgumentParser(description="Tasks through RabbitMQ.")
    parser.add_argument("command", choices=commands)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("pika").setLevel(logging.WARNING)
    with server:
        commands[parser.parse_args().command]()
    return 0


if __name__ == "__main__":
    sys.exit(main())
