"""A clock whose hands a test turns."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

from machinery._times import to_timedelta

GLANCE = 0.05
"""Seconds of real time after which somebody who waits looks again: the hands may have been turned just before it waited."""


class ManualClock:
    """Stands still until `advance`. For `machinery.memory`: ``MemoryBroker(MemoryQueues(clock))``."""

    def __init__(self, begin: datetime = datetime(2024, 1, 1, tzinfo=UTC)) -> None:
        self._now = begin
        self._seconds = 0.0
        self._waiting: list[threading.Condition] = []
        self._lock = threading.Lock()

    def now(self) -> datetime:
        """What the hands say."""
        return self._now

    def monotonic(self) -> float:
        """Seconds advanced so far."""
        return self._seconds

    def advance(self, span: timedelta | float) -> None:
        """Turn the hands on, and wake all who wait."""
        span = to_timedelta(span)
        with self._lock:
            self._now += span
            self._seconds += span.total_seconds()
            waiting = list(self._waiting)
        for condition in waiting:
            with condition:
                condition.notify_all()

    def wait(self, condition: threading.Condition, timeout: float) -> None:
        """Until ``condition`` is notified or the hands were turned; returns early now and then."""
        if timeout <= 0:
            return
        with self._lock:
            self._waiting.append(condition)
        try:
            condition.wait(GLANCE)
        finally:
            with self._lock:
                self._waiting.remove(condition)
