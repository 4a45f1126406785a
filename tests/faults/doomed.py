"""A worker process that dies at a point of its work: ``python -m tests.faults.doomed URL LEDGER before|after METHOD…``."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

from machinery import Config, Exponential, Server, TaskContext
from machinery.testing import Crash, FaultPlan, FaultyBackend, FaultyBroker
from tests.faults.ledger import note


def add_tasks(server: Server, ledger: Path) -> None:
    """``first`` (which fails once if it is to) and ``second``, noting every run."""

    @server.task(retry_count=1, retry=Exponential(base=0.001))
    def first(context: TaskContext, shaky: bool) -> int:
        note(ledger, f"first/{context.uuid}")
        if shaky and context.attempt == 1:
            raise ValueError("once more")
        return 1

    @server.task
    def second(context: TaskContext, number: int) -> int:
        note(ledger, f"second/{context.uuid}")
        return number + 1


def die(_: Crash) -> NoReturn:
    """As the kernel would have it: nothing is said, nothing is cleaned up."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("not reached")


def main(url: str, ledger: str, where: str, *methods: str) -> None:
    """Work until the point is reached."""
    inner = Server.from_url(url)
    plan = FaultPlan(die=die)
    for method in methods:
        (plan.crash_before if where == "before" else plan.crash_after)(method)
    server = Server(Config(), FaultyBroker(inner.broker, plan), FaultyBackend(inner.backend, plan))
    add_tasks(server, Path(ledger))
    server.new_worker("doomed", 2).launch()


if __name__ == "__main__":
    main(*sys.argv[1:])
