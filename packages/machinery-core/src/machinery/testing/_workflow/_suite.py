"""What the themes of the workflow contract share: quick retries, arithmetic, and what tasks leave for the test to see."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from machinery import Exponential
from machinery.testing._expectations import PATIENCE, QUIET

if TYPE_CHECKING:
    from machinery import ChordResult, Server, Task

SOON = Exponential(base=0.02)
"""Retries that no test has to wait for."""


class Got:
    """What tasks have left for the test to see."""

    def __init__(self) -> None:
        self._values: list[Any] = []
        self._condition = threading.Condition()

    def put(self, value: Any) -> None:
        """Leave a value."""
        with self._condition:
            self._values.append(value)
            self._condition.notify_all()

    def take(self, count: int) -> list[Any]:
        """All values, once there are ``count`` of them."""
        with self._condition:
            assert self._condition.wait_for(lambda: len(self._values) >= count, PATIENCE), self._values
            return self._values[:]

    def only(self, count: int) -> list[Any]:
        """All values, of which there are ``count`` and, after a while, no more."""
        self.take(count)
        with self._condition:
            assert not self._condition.wait_for(lambda: len(self._values) > count, QUIET), self._values
            return self._values[:]

    def none(self) -> bool:
        """Whether there is none."""
        return not self._values


def special_queue(server: Server) -> str:
    """Another queue than the default one; a service that must have been told of its queues has been told of this one too."""
    return f"{server.config.default_queue}-special"


def is_open(server: Server, sent: ChordResult[Any]) -> bool:
    """Whether the group of a chord has not been closed, where the backend can say so."""
    group_uuid = sent.members.group_uuid
    later = server.backend.load_group(group_uuid).meta.created_at + timedelta(days=365)
    return group_uuid in server.backend.open_groups(later, 10_000)


def add_add(server: Server) -> Task[..., int, int]:
    """The task ``add`` of the server: the sum of its arguments."""

    @server.task
    def add(*numbers: int) -> int:
        return sum(numbers)

    return add


def add_multiply(server: Server) -> Task[..., int, int]:
    """The task ``multiply`` of the server: the product of its arguments."""

    @server.task
    def multiply(*numbers: int) -> int:
        product = 1
        for number in numbers:
            product *= number
        return product

    return multiply


def add_gather(server: Server) -> Task[..., str, str]:
    """The task ``gather`` of the server: all its arguments as text."""

    @server.task
    def gather(*values: Any) -> str:
        return " ".join(map(str, values))

    return gather
