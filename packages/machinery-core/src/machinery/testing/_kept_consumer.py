"""A consumer with a keeper beside it, as in a worker: chores are done when asked for, and leases are renewed in time."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Self

from machinery.abc import Consumer
from machinery.errors import Closed
from machinery.testing._expectations import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import timedelta

    from machinery.abc import Delivery


class KeptConsumer(Consumer):
    """Passes every call on. As a context manager it keeps the consumer for the block, and closes it at the end."""

    def __init__(self, inner: Consumer) -> None:
        self._inner = inner
        self._held: dict[int, Delivery] = {}
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._keeper = threading.Thread(target=self._keep)

    def __enter__(self) -> Self:
        self._keeper.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._keeper.join(PATIENCE)
        self._inner.close()

    def receive(self, limit: int, timeout: float) -> list[Delivery]:
        received = self._inner.receive(limit, timeout)
        with self._lock:
            self._held.update({id(delivery): delivery for delivery in received})
        return received

    def resize(self, limit: int) -> None:
        self._inner.resize(limit)

    def stop(self) -> None:
        self._inner.stop()

    def reset(self) -> None:
        self._inner.reset()

    def close(self) -> None:
        self._inner.close()

    def ack(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        return self._settle(deliveries, self._inner.ack)

    def nack(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        return self._settle(deliveries, self._inner.nack)

    def postpone(self, deliveries: Sequence[Delivery], delay: timedelta) -> list[Delivery]:
        return self._settle(deliveries, lambda those: self._inner.postpone(those, delay))

    def reject(self, deliveries: Sequence[Delivery], reason: str) -> list[Delivery]:
        return self._settle(deliveries, lambda those: self._inner.reject(those, reason))

    def extend(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        return self._inner.extend(deliveries)

    def maintain(self) -> float | None:
        return self._inner.maintain()

    def _settle(
        self, deliveries: Sequence[Delivery], settle: Callable[[Sequence[Delivery]], list[Delivery]]
    ) -> list[Delivery]:
        with self._lock:
            for delivery in deliveries:
                self._held.pop(id(delivery), None)
        return settle(deliveries)

    def _keep(self) -> None:
        chores: float | None = 0.0
        renewal = 0.0
        try:
            while not self._done.wait(0.02):
                now = time.monotonic()
                if chores is not None and now >= chores:
                    pause = self._inner.maintain()
                    chores = None if pause is None else now + pause
                if now >= renewal and (held := self._leased()):
                    self._inner.extend(held)
                    renewal = now + min(each.lease.total_seconds() for each in held if each.lease is not None) / 3
        except Closed:
            return

    def _leased(self) -> list[Delivery]:
        with self._lock:
            return [delivery for delivery in self._held.values() if delivery.lease is not None]
