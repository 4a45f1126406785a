"""A consumer with a keeper beside it, as in a worker: chores are done when asked for, and leases are renewed in time."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Self

from machinery.abc import Consumer
from machinery.errors import BrokerUnavailable, Closed
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
        self._heard = 0.0
        """When the service was last told of all that is held, monotonic."""
        self._longest_silence = 0.0
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
        begin = time.monotonic()
        received = self._inner.receive(limit, timeout)
        with self._lock:
            if received:
                self._heard = min(self._heard, begin) if self._held else begin
            self._held.update({id(delivery): delivery for delivery in received})
        return received

    @property
    def longest_silence(self) -> float:
        """Seconds for which the service may not have heard of something held, at most. Beyond its lease nothing is sure."""
        with self._lock:
            return max(self._longest_silence, time.monotonic() - self._heard if self._held else 0.0)

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
        lost = settle(deliveries)
        self._note(self._heard)
        return lost

    def _keep(self) -> None:
        chores: float | None = 0.0
        renewal = 0.0
        try:
            while not self._done.wait(0.02):
                now = time.monotonic()
                if chores is not None and now >= chores:
                    chores = self._maintain(now)
                if now >= renewal and (held := self._leased()):
                    renewal = self._renew(held, now)
        except Closed:
            return

    def _maintain(self, now: float) -> float | None:
        """When to do it again; at once where the service was away, as a worker does that waits for it."""
        try:
            pause = self._inner.maintain()
        except BrokerUnavailable:
            return now
        return None if pause is None else now + pause

    def _renew(self, held: Sequence[Delivery], now: float) -> float:
        """Likewise."""
        begin = time.monotonic()
        try:
            self._inner.extend(held)
        except BrokerUnavailable:
            return now
        self._note(begin)
        return now + min(each.lease.total_seconds() for each in held if each.lease is not None) / 3

    def _note(self, heard: float) -> None:
        with self._lock:
            self._longest_silence = max(self._longest_silence, time.monotonic() - self._heard)
            self._heard = heard

    def _leased(self) -> list[Delivery]:
        with self._lock:
            return [delivery for delivery in self._held.values() if delivery.lease is not None]
