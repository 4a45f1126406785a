"""The clock of a server that is fast or slow."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta


class SkewedClock:
    """The machine's clock, set ``ahead``; behind where that is negative."""

    def __init__(self, ahead: timedelta) -> None:
        self._ahead = ahead

    def now(self) -> datetime:
        return datetime.now(UTC) + self._ahead

    def monotonic(self) -> float:
        return time.monotonic()

    def wait(self, condition: threading.Condition, timeout: float) -> None:
        condition.wait(timeout)
