"""The tasks of servers that fire periodically."""

from __future__ import annotations

from pathlib import Path

from machinery import Server, TaskContext
from tests.faults.ledger import note


def add_tasks(server: Server, ledger: Path) -> None:
    """``report``, and a group's ``part`` and its ``total``: each notes its run with its id."""

    @server.task
    def report(context: TaskContext) -> None:
        note(ledger, f"ran/report/{context.uuid}")

    @server.task
    def part(context: TaskContext, number: int) -> int:
        note(ledger, f"ran/part/{context.uuid}")
        return number

    @server.task
    def total(context: TaskContext, *numbers: int) -> int:
        note(ledger, f"ran/total/{context.uuid}")
        return sum(numbers)
