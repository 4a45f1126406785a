"""One queue in memory: what is ready, what waits for its time, what died. Guarded by its own lock."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from heapq import heapify, heappop, heappush, nsmallest
from itertools import count
from typing import TYPE_CHECKING

from machinery.abc import DeadLetter

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from machinery._clock import Clock
    from machinery.abc import Message

_FAR = float("inf")


@dataclass(slots=True, eq=False)
class Item:
    """One message while this process keeps it."""

    message: Message
    attempt: int = 0
    """Deliveries so far, those handed back not counted."""
    delivered: bool = False
    """Whether it was ever delivered."""


@dataclass(slots=True, order=True)
class _Delayed:
    due: float
    order: int
    item: Item = field(compare=False)


class MemoryQueue:
    """The messages of one queue. Every method but `waiting` asks that the caller holds `lock`."""

    def __init__(self, name: str, clock: Clock) -> None:
        self.name = name
        self.lock = threading.Lock()
        self.arrived = threading.Condition(self.lock)
        """Notified when there is more to receive, or when a waiting consumer must look up."""
        self._clock = clock
        self._ready: dict[int, deque[Item]] = {}
        self._delayed: list[_Delayed] = []
        self._dead: dict[str, DeadLetter] = {}
        self._dead_items: dict[str, Item] = {}
        self._numbers = count(1)

    def put(self, item: Item) -> None:
        """At the tail, or among the delayed when its time has not come."""
        eta = item.message.eta
        if eta is not None and eta > self._clock.now():
            self.put_later(item, eta.timestamp())
            return
        self._append(item)
        self.arrived.notify()

    def put_back(self, items: Sequence[Item]) -> None:
        """At the head, in the order given."""
        for item in reversed(items):
            self._line(item.message.priority).appendleft(item)
        self.arrived.notify(len(items))

    def put_later(self, item: Item, due: float) -> None:
        """Keep ``item`` until the Unix second ``due``."""
        heappush(self._delayed, _Delayed(due, next(self._numbers), item))
        self.arrived.notify_all()

    def take(self, limit: int) -> list[Item]:
        """Up to ``limit`` items that are due, highest priority first, oldest first."""
        if self._delayed:
            self._promote()
        taken: list[Item] = []
        for priority in sorted(self._ready, reverse=True) if len(self._ready) > 1 else tuple(self._ready):
            line = self._ready[priority]
            while line and len(taken) < limit:
                taken.append(line.popleft())
            if not line:
                del self._ready[priority]
            if len(taken) == limit:
                break
        return taken

    def seconds_to_next(self) -> float:
        """Until the next delayed item is due; infinite when there is none."""
        return self._delayed[0].due - self._clock.now().timestamp() if self._delayed else _FAR

    def waiting(self, limit: int) -> list[Message]:
        """Up to ``limit`` messages that could be received now, in that order."""
        with self.lock:
            self._promote()
            lines = [self._ready[priority] for priority in sorted(self._ready, reverse=True)]
            found = (item.message for line in lines for item in line)
            return [message for _, message in zip(range(limit), found, strict=False)]

    def later(self, limit: int) -> list[tuple[float, Message]]:
        """Up to ``limit`` delayed messages, each with the Unix second it is due and carrying it as ``eta``."""
        now = self._clock.now().timestamp()
        return [
            (entry.due, replace(entry.item.message, eta=datetime.fromtimestamp(entry.due, UTC)))
            for entry in nsmallest(limit, self._delayed)
            if entry.due > now
        ]

    def clear(self) -> int:
        """Delete what is ready, and what was handed back for later; returns how many."""
        self._promote()
        sent_with_eta = [entry for entry in self._delayed if not entry.item.delivered]
        deleted = sum(map(len, self._ready.values())) + len(self._delayed) - len(sent_with_eta)
        self._ready.clear()
        heapify(sent_with_eta)
        self._delayed = sent_with_eta
        return deleted

    def bury(self, item: Item, reason: str) -> None:
        """Make a dead letter of ``item``."""
        name = str(next(self._numbers))
        self._dead[name] = DeadLetter(name, item.message.body, self.name, reason, self._clock.now())
        self._dead_items[name] = item

    def dead(self, limit: int) -> list[DeadLetter]:
        """Up to ``limit`` dead letters, oldest first."""
        return [letter for _, letter in zip(range(limit), self._dead.values(), strict=False)]

    def exhume(self, ids: Sequence[str] | None) -> Iterator[Message]:
        """Remove dead letters (all, or those named), giving the message of each."""
        for name in list(self._dead) if ids is None else dict.fromkeys(ids):
            if self._dead.pop(name, None) is not None:
                yield self._dead_items.pop(name).message

    def _line(self, priority: int) -> deque[Item]:
        return self._ready.setdefault(priority, deque())

    def _append(self, item: Item) -> None:
        self._line(item.message.priority).append(item)

    def _promote(self) -> None:
        now = self._clock.now().timestamp()
        promoted = 0
        while self._delayed and self._delayed[0].due <= now:
            self._append(heappop(self._delayed).item)
            promoted += 1
        if promoted > 1:
            self.arrived.notify(promoted - 1)
