"""A consumer of a queue in memory. A loan is a number in a dictionary; who removes it first settles it."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from machinery.abc import Consumer, Delivery
from machinery.errors import Closed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import timedelta

    from machinery._clock import Clock
    from machinery.memory._queue import Item, MemoryQueue


class MemoryConsumer(Consumer):
    """Receives by waiting on the queue's condition: no polling. All state is guarded by the queue's lock."""

    def __init__(self, queue: MemoryQueue, clock: Clock) -> None:
        self._queue = queue
        self._clock = clock
        self._loans: dict[int, Item] = {}
        self._numbers = count(1)
        self._stopped = False
        self.is_closed = False

    def receive(self, limit: int, timeout: float) -> list[Delivery]:
        """Up to ``limit`` due messages, highest priority first, oldest first."""
        deadline: float | None = None
        with self._queue.lock:
            while True:
                self._check_open()
                if self._stopped:
                    self._queue.arrived.notify()  # a wake-up meant for a message must not end here
                    return []
                if items := self._queue.take(limit):
                    return [self._lend(item) for item in items]
                now = self._clock.monotonic()
                deadline = now + timeout if deadline is None else deadline
                if now >= deadline:
                    return []
                self._clock.wait(self._queue.arrived, max(0.0, min(deadline - now, self._queue.seconds_to_next())))

    def stop(self) -> None:
        """Wakes a waiting `receive`."""
        with self._queue.lock:
            self._stopped = True
            self._queue.arrived.notify_all()

    def close(self) -> None:
        """What is unsettled goes back to the head of the queue, one attempt older."""
        with self._queue.lock:
            self.is_closed = True
            self._queue.put_back(list(self._loans.values()))
            self._loans.clear()
            self._queue.arrived.notify_all()

    def ack(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Forget them."""
        return self._settle(deliveries, list)

    def nack(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Back to the head of the queue, in the order given."""
        return self._settle(deliveries, lambda items: self._queue.put_back(list(map(_uncounted, items))))

    def postpone(self, deliveries: Sequence[Delivery], delay: timedelta) -> list[Delivery]:
        """Back to the queue when ``delay`` is over."""
        due = (self._clock.now() + delay).timestamp()

        def later(items: list[Item]) -> None:
            for item in items:
                self._queue.put_later(_uncounted(item), due)

        return self._settle(deliveries, later)

    def reject(self, deliveries: Sequence[Delivery], reason: str) -> list[Delivery]:
        """To the dead letters."""

        def bury(items: list[Item]) -> None:
            for item in items:
                self._queue.bury(item, reason)

        return self._settle(deliveries, bury)

    def extend(self, deliveries: Sequence[Delivery]) -> list[Delivery]:  # noqa: ARG002 - there are no leases
        """Nothing to renew."""
        with self._queue.lock:
            self._check_open()
        return []

    def _lend(self, item: Item) -> Delivery:
        item.attempt += 1
        redelivered, item.delivered = item.delivered, True
        number = next(self._numbers)
        self._loans[number] = item
        return Delivery(item.message.body, self._queue.name, redelivered, item.attempt, None, number)

    def _settle(self, deliveries: Sequence[Delivery], settle: Callable[[list[Item]], object]) -> list[Delivery]:
        lost: list[Delivery] = []
        items: list[Item] = []
        with self._queue.lock:
            self._check_open()
            for delivery in deliveries:
                item = self._loans.pop(delivery.handle, None)
                if item is None:
                    lost.append(delivery)
                else:
                    items.append(item)
            if items:
                settle(items)
        return lost

    def _check_open(self) -> None:
        if self.is_closed:
            raise Closed("this consumer was closed")


def _uncounted(item: Item) -> Item:
    item.attempt -= 1
    return item
