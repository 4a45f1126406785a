"""Where time comes from. Everything that waits for an instant takes a `Clock`, so that a test can turn the hands."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import threading


class Clock(Protocol):
    """The wall's time, a stopwatch, and waiting by that stopwatch."""

    def now(self) -> datetime:
        """The instant, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds since some fixed moment; never goes back."""
        ...

    def wait(self, condition: threading.Condition, timeout: float) -> None:
        """Wait on ``condition`` (held by the caller) until it is notified or ``timeout`` seconds of this clock are over.

        May return early; the caller looks again.
        """
        ...


class SystemClock:
    """The machine's own time."""

    def now(self) -> datetime:
        """The machine's time of day."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """The machine's stopwatch."""
        return time.monotonic()

    def wait(self, condition: threading.Condition, timeout: float) -> None:
        """A plain wait."""
        condition.wait(timeout)


SYSTEM_CLOCK = SystemClock()
"""The clock of everybody who was not given another."""
