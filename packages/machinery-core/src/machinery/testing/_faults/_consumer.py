"""A consumer whose calls go wrong as planned."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

from machinery.abc import Consumer
from machinery.errors import BrokerUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import timedelta

    from machinery.abc import Delivery
    from machinery.testing._faults._plan import FaultPlan

T = TypeVar("T")

GLANCE = 0.05
"""Seconds after which a waiting `receive` looks whether a fault has been planned for it meanwhile."""


class FaultyConsumer(Consumer):
    """Passes every call on to ``inner``, unless ``plan`` says otherwise.

    A `receive` whose answer was lost is reconciled as the contract demands: the next one brings what the lost one took.
    """

    def __init__(self, inner: Consumer, plan: FaultPlan) -> None:
        self._inner = inner
        self._plan = plan
        self._owed: list[Delivery] = []
        """Taken from the consumer inside, and not yet seen by the caller."""
        self._stopped = False

    def receive(self, limit: int, timeout: float) -> list[Delivery]:
        """May fail as planned."""
        self._call("receive", lambda: self._fetch(limit, timeout))
        if self._stopped:
            self._inner.nack(self._owed)
            self._owed = []
        received, self._owed = self._owed[:limit], self._owed[limit:]
        return received

    def _fetch(self, limit: int, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while not self._owed and not self._stopped:
            left = deadline - time.monotonic()
            self._owed += self._inner.receive(limit, max(0.0, min(left, GLANCE)))
            if left <= GLANCE or self._plan.is_planned("receive"):
                return

    def resize(self, limit: int) -> None:
        """May fail as planned."""
        self._call("resize", lambda: self._inner.resize(limit))

    def stop(self) -> None:
        """Never fails. What the caller has not seen is given back."""
        self._stopped = True
        self._inner.stop()

    def reset(self) -> None:
        """May fail as planned."""
        self._call("reset", self._inner.reset)

    def close(self) -> None:
        """Never fails."""
        self._inner.close()

    def ack(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """May fail as planned."""
        return self._call("ack", lambda: self._inner.ack(deliveries))

    def nack(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """May fail as planned."""
        return self._call("nack", lambda: self._inner.nack(deliveries))

    def postpone(self, deliveries: Sequence[Delivery], delay: timedelta) -> list[Delivery]:
        """May fail as planned."""
        return self._call("postpone", lambda: self._inner.postpone(deliveries, delay))

    def reject(self, deliveries: Sequence[Delivery], reason: str) -> list[Delivery]:
        """May fail as planned."""
        return self._call("reject", lambda: self._inner.reject(deliveries, reason))

    def extend(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """May fail as planned."""
        return self._call("extend", lambda: self._inner.extend(deliveries))

    def maintain(self) -> float | None:
        """May fail as planned."""
        return self._call("maintain", self._inner.maintain)

    def _call(self, method: str, function: Callable[[], T]) -> T:
        return self._plan.call(method, BrokerUnavailable, function)
