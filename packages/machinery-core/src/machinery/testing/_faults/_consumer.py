"""A consumer whose calls go wrong as planned."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from machinery.abc import Consumer
from machinery.errors import BrokerUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import timedelta

    from machinery.abc import Delivery
    from machinery.testing._faults._plan import FaultPlan

T = TypeVar("T")

LONGEST_WAIT = 0.05
"""Seconds that one `receive` really waits: a fault that is planned meanwhile is met that soon."""


class FaultyConsumer(Consumer):
    """Passes every call on to ``inner``, unless ``plan`` says otherwise. What a lost answer of `receive` held stays on loan."""

    def __init__(self, inner: Consumer, plan: FaultPlan) -> None:
        self._inner = inner
        self._plan = plan

    def receive(self, limit: int, timeout: float) -> list[Delivery]:
        """May fail as planned. Returns sooner than asked when there is nothing."""
        return self._call("receive", lambda: self._inner.receive(limit, min(timeout, LONGEST_WAIT)))

    def resize(self, limit: int) -> None:
        """May fail as planned."""
        self._call("resize", lambda: self._inner.resize(limit))

    def stop(self) -> None:
        """Never fails."""
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
