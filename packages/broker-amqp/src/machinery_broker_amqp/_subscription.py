"""One channel on which RabbitMQ pushes a queue's messages to us. Lives on the loop, but for what says otherwise.

How many it may push is the sum of what its subscriptions allow: to hold more, one is added; to hold less, some are cancelled, and
what they have pushed that nobody has looked at yet goes back (a new ``basic.qos`` does not touch a subscription that runs).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from machinery.abc import Delivery
from machinery_broker_amqp._errors import DRIVER_ERRORS, Lost
from machinery_broker_amqp._options import MOST_PREFETCHED

if TYPE_CHECKING:
    from collections.abc import Sequence
    from queue import SimpleQueue

    import pika

    from machinery_broker_amqp._session import Channel, Session

NO_LIMIT = 0
"""As ``basic.qos`` has it."""


@dataclass(slots=True, eq=False)
class Loan:
    """The handle of a delivery: by whom it was pushed, and under which number."""

    subscription: Subscription
    tag: int
    properties: pika.BasicProperties


class Subscription:
    """The messages of one queue, as they come."""

    def __init__(self, session: Session, channel: Channel, queue: str, inbox: SimpleQueue[Delivery | None]) -> None:
        self.session = session
        self.channel = channel
        self.reason: BaseException | None = None
        """Why no more will come; ``None``: they will."""
        self.total: int | None = None
        """How many may be unsettled at once; ``None``: nothing is pushed at the moment. Read by any thread."""
        self._queue = queue
        self._inbox = inbox
        self._parts: list[tuple[str, int]] = []
        self._changing = asyncio.Lock()
        self._is_halted = False
        channel.on_closed.append(self._end)
        channel.raw.add_on_cancel_callback(self._on_cancelled)

    async def allow(self, total: int) -> None:
        """From now on as many may be unsettled. Raises pika's errors."""
        total = min(total, MOST_PREFETCHED)
        async with self._changing:
            if self._is_halted or total == self.total:
                return
            if total == NO_LIMIT:
                await self._cancel_down_to(-1)
                await self._subscribe(NO_LIMIT)
            else:
                await self._cancel_down_to(-1 if self.total == NO_LIMIT else total)
                if (missing := total - self._allowed()) > 0:
                    await self._subscribe(missing)
            self.total = total

    async def give_back(self, tags: Sequence[int]) -> None:
        """These go back, and all that nobody has looked at; until `allow` nothing is pushed, or they would come at once."""
        async with self._changing:
            self.total = None
            await self._cancel_down_to(-1)
            self.settle([("nack", tag, True) for tag in tags])
            self._inbox.put(None)

    async def halt(self) -> None:
        """No more: what nobody has looked at goes back, and what is still under way too."""
        async with self._changing:
            self._is_halted = True
            await self._cancel_down_to(-1)
            self._inbox.put(None)

    def settle(self, commands: Sequence[tuple[str, int, bool]]) -> None:
        """Carry out ``(what, tag, flag)``: ``ack`` with *multiple*, ``nack`` with *requeue*."""
        raw = self.channel.raw
        if self.channel.reason is not None:  # it was lost meanwhile, and all that was unsettled goes back by itself
            return
        try:
            for what, tag, flag in commands:
                if what == "ack":
                    raw.basic_ack(tag, flag)
                else:
                    raw.basic_nack(tag, requeue=flag)
        except DRIVER_ERRORS:  # likewise
            return

    def _allowed(self) -> int:
        return sum(prefetch for _, prefetch in self._parts)

    async def _subscribe(self, prefetch: int) -> None:
        tag = f"machinery-{uuid4().hex}"
        raw = self.channel.raw
        await self.channel.ask(raw.basic_qos, prefetch_count=prefetch)
        self._parts.append((tag, prefetch))
        await self.channel.ask(raw.basic_consume, self._queue, self._on_message, consumer_tag=tag)

    async def _cancel_down_to(self, total: int) -> None:
        """Cancel subscriptions until no more than ``total`` are allowed; what they pushed, and nobody looked at, goes back."""
        cancelled = False
        while self._parts and self._allowed() > total:
            tag, _ = self._parts.pop()
            await self.channel.ask(self.channel.raw.basic_cancel, tag)
            cancelled = True
        if cancelled:
            unseen = []
            while not self._inbox.empty():
                delivery = self._inbox.get()
                if delivery is not None and delivery.handle.subscription is self:
                    unseen.append(delivery.handle.tag)
            self.settle([("nack", tag, True) for tag in unseen])

    def _on_message(self, _: Any, method: Any, properties: pika.BasicProperties, body: bytes) -> None:
        self._inbox.put(
            Delivery(body, self._queue, method.redelivered, None, None, Loan(self, method.delivery_tag, properties))
        )

    def _on_cancelled(self, _: Any) -> None:
        self.session.declared.clear()
        self._end(Lost(f"RabbitMQ has cancelled the subscription: the queue {self._queue!r} was deleted, or has moved"))
        self.channel.close()

    def _end(self, reason: BaseException) -> None:
        if self.reason is None:
            self.reason = reason
            self._inbox.put(None)
