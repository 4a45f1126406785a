"""What is to be given back and could not be, because the service was away: kept, and tried again until it is."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from machinery._worker._hooks import Hooks
    from machinery.abc import Consumer, Delivery


class Debts:
    """The hand-backs of one consumer. Safe from any thread.

    A lease would bring such a message back in the end only where it is the message's own. Where it is the consumer's, the
    message would stay with us for as long as we live.
    """

    def __init__(self, consumer: Consumer, hooks: Hooks) -> None:
        self._consumer = consumer
        self._hooks = hooks
        self._owed: deque[tuple[Sequence[Delivery], timedelta | None]] = deque()

    def __len__(self) -> int:
        return len(self._owed)

    def give_back(self, deliveries: Sequence[Delivery], delay: timedelta | None = None) -> None:
        """Give these back, now or for later. Failing is no error: it is tried again by `pay`."""
        try:
            self._settle(deliveries, delay)
        except Exception as error:  # noqa: BLE001 - a plug-in's defect must not cut short what the caller is about
            self._owed.append((deliveries, delay))
            self._hooks.report_trouble(error, f"{len(deliveries)} messages cannot be handed back yet")

    def pay(self) -> None:
        """Try again what is owed, until something fails. One caller at a time."""
        while self._owed:
            deliveries, delay = self._owed[0]
            try:
                self._settle(deliveries, delay)
            except Exception as error:  # noqa: BLE001 - likewise; said when it first failed
                self._hooks.logger.debug("still cannot hand back %d messages: %s", len(deliveries), error)
                return
            self._owed.popleft()

    def _settle(self, deliveries: Sequence[Delivery], delay: timedelta | None) -> None:
        if delay is None:
            self._consumer.nack(deliveries)
        else:
            self._consumer.postpone(deliveries, delay)
