"""For how long a message goes back that comes in vain again and again."""

from __future__ import annotations

from collections import OrderedDict
from datetime import timedelta

REMEMBERED = 10_000
"""How many messages' delays are kept."""


class GrowingDelays:
    """A delay for each message that grows each time. Messages are known by their bodies, as not all have ids."""

    def __init__(self, growth: float, longest: timedelta) -> None:
        self._growth = growth
        self._longest = longest
        self._next: OrderedDict[int, timedelta] = OrderedDict()

    def next(self, body: bytes, first: timedelta) -> timedelta:
        """How long the message of that body is to go back now; ``first`` when it does so for the first time."""
        key = hash(body)
        delay = self._next.pop(key, first)
        self._next[key] = min(self._longest, delay * self._growth)
        if len(self._next) > REMEMBERED:
            self._next.popitem(last=False)
        return delay

    def __len__(self) -> int:
        return len(self._next)
