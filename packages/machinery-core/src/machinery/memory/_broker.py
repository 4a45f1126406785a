"""The broker of ``memory://``: queues inside this process."""

from __future__ import annotations

import threading
from dataclasses import replace
from heapq import nsmallest
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from machinery._clock import SYSTEM_CLOCK, Clock
from machinery.abc import Broker, BrokerCapabilities
from machinery.errors import Closed
from machinery.memory._consumer import MemoryConsumer
from machinery.memory._named import store_for
from machinery.memory._queue import Item, MemoryQueue

if TYPE_CHECKING:
    from collections.abc import Sequence

    from machinery._config import Config
    from machinery.abc import DeadLetter, Message

CAPABILITIES = BrokerCapabilities(priorities=True, counts_deliveries=True, several_processes=False)
"""Any delay, priorities, deliveries counted, no leases: a loan lasts as long as its consumer."""


class MemoryQueues:
    """What brokers on one store share: the queues by name. Safe from any thread."""

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self.clock = clock
        self._queues: dict[str, MemoryQueue] = {}
        self._lock = threading.Lock()

    def queue(self, name: str) -> MemoryQueue:
        """The queue of that name; made when it is first asked for."""
        found = self._queues.get(name)
        if found is None:
            with self._lock:
                found = self._queues.setdefault(name, MemoryQueue(name, self.clock))
        return found

    def all(self) -> list[MemoryQueue]:
        """Every queue asked for so far."""
        with self._lock:
            return list(self._queues.values())


class MemoryBroker(Broker):
    """Queues inside this process. Brokers given the same `MemoryQueues` share their messages."""

    def __init__(self, queues: MemoryQueues | None = None) -> None:
        self._queues = queues or MemoryQueues()
        self._consumers: list[MemoryConsumer] = []
        self._closed = False

    @classmethod
    def from_url(cls, url: str, config: Config) -> Any:  # noqa: ARG003 - nothing to configure
        """A broker on the store that ``url`` names (``memory://name``), or on one of its own (``memory://``)."""
        return cls(store_for(url, MemoryQueues))

    @property
    def capabilities(self) -> BrokerCapabilities:
        """Constant."""
        return CAPABILITIES

    def publish(self, messages: Sequence[Message]) -> None:
        """Put messages on their queues."""
        self._check_open()
        for name, batch in groupby(messages, attrgetter("queue")):
            queue = self._queues.queue(name)
            with queue.lock:
                for message in batch:
                    queue.put(Item(message))

    def consumer(self, queue: str, name: str) -> MemoryConsumer:  # noqa: ARG002 - nobody else could confuse consumers
        """A new consumer of ``queue``."""
        self._check_open()
        made = self._new_consumer(queue)
        self._consumers = [consumer for consumer in self._consumers if not consumer.is_closed]
        self._consumers.append(made)
        return made

    def pending(self, queue: str, limit: int) -> list[Message]:
        """What waits, in the order of delivery."""
        self._check_open()
        return self._queues.queue(queue).waiting(limit)

    def delayed(self, limit: int) -> list[Message]:
        """What waits for its time, earliest first."""
        self._check_open()
        found: list[tuple[float, int, Message]] = []
        for queue in self._queues.all():
            with queue.lock:
                found += [(due, len(found) + at, message) for at, (due, message) in enumerate(queue.later(limit))]
        return [message for _, _, message in nsmallest(limit, found)]

    def purge(self, queue: str) -> int:
        """Delete what waits, and what was handed back for later."""
        self._check_open()
        found = self._queues.queue(queue)
        with found.lock:
            return found.clear()

    def dead(self, queue: str, limit: int) -> list[DeadLetter]:
        """The dead letters, oldest first."""
        self._check_open()
        found = self._queues.queue(queue)
        with found.lock:
            return found.dead(limit)

    def requeue_dead(self, queue: str, ids: Sequence[str] | None = None) -> int:
        """Dead letters back to their queue."""
        self._check_open()
        found = self._queues.queue(queue)
        with found.lock:
            revived = [replace(message, eta=None) for message in found.exhume(ids)]
            for message in revived:
                found.put(Item(message))
        return len(revived)

    def purge_dead(self, queue: str, ids: Sequence[str] | None = None) -> int:
        """Delete dead letters."""
        self._check_open()
        found = self._queues.queue(queue)
        with found.lock:
            return len(list(found.exhume(ids)))

    def close(self) -> None:
        """Close the consumers too: what they held goes back to its queue."""
        self._closed = True
        for consumer in self._consumers:
            consumer.close()
        self._consumers = []

    def _new_consumer(self, queue: str) -> MemoryConsumer:
        return MemoryConsumer(self._queues.queue(queue), self._queues.clock)

    def _check_open(self) -> None:
        if self._closed:
            raise Closed("this broker was closed")
