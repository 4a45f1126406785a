"""How long to wait before the next try: of a failed task, and of a service that is away."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

_MAX_SECONDS = 2**31


class Retry(Protocol):
    """A rule for the pause before a failed task's next run."""

    def delay(self, failures: int, last_delay: int) -> timedelta:
        """The pause after failure number ``failures`` (≥ 1); ``last_delay``: the pause before, in whole seconds."""


@dataclass(frozen=True, slots=True)
class Fibonacci:
    """Go's row, the default: the next Fibonacci number of seconds above the last delay: 1, 2, 3, 5, 8 … (protocol §7.3)."""

    def delay(self, failures: int, last_delay: int) -> timedelta:  # noqa: ARG002 - the row needs the last delay only
        """The next number of the row above ``last_delay``."""
        return timedelta(seconds=next_fibonacci(last_delay))


@dataclass(frozen=True, slots=True)
class Exponential:
    """``base · factor^(failures-1)`` seconds, at most ``cap``; of that, a random share of up to ``jitter`` is taken off."""

    base: float = 1.0
    factor: float = 2.0
    cap: float = 600.0
    jitter: float = 0.5

    def __post_init__(self) -> None:
        if self.base <= 0 or self.factor < 1 or self.cap <= 0 or not 0 <= self.jitter <= 1:
            raise ValueError("Exponential needs base > 0, factor >= 1, cap > 0 and jitter from 0 to 1")

    def delay(self, failures: int, last_delay: int) -> timedelta:  # noqa: ARG002 - this rule counts failures
        """The pause after that many failures."""
        try:
            seconds = min(self.cap, self.base * self.factor ** (failures - 1))
        except OverflowError:
            seconds = self.cap
        return timedelta(seconds=seconds * (1 - self.jitter * random.random()))  # noqa: S311 - spreads load, hides nothing


def next_fibonacci(current: int) -> int:
    """The smallest Fibonacci number greater than ``current``: 0→1, 1→2, 2→3, 3→5, 4→5 (protocol §7.3)."""
    if current >= _MAX_SECONDS:
        return _MAX_SECONDS
    low, high = 1, 1
    while high <= current:
        low, high = high, low + high
    return high


class Backoff:
    """Pauses between attempts to reach a service: doubling from ``base`` to ``cap`` seconds, half of each at random."""

    def __init__(self, base: float = 0.05, cap: float = 5.0) -> None:
        self._base = base
        self._cap = cap
        self._attempts = 0

    def next(self) -> float:
        """Seconds to wait before the next attempt."""
        full = min(self._cap, self._base * 2.0 ** min(self._attempts, 30))
        self._attempts += 1
        return full * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, hides nothing

    def reset(self) -> None:
        """The service answered."""
        self._attempts = 0
