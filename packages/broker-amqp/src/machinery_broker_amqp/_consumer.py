"""One consumer of one queue. RabbitMQ pushes; what it has pushed is ours until it is settled, or the connection is lost."""

from __future__ import annotations

import asyncio
import threading
import time
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from machinery.abc import Consumer, Delivery
from machinery_broker_amqp._subscription import Subscription

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from datetime import timedelta

    from machinery_broker_amqp._dead_letters import DeadLetters
    from machinery_broker_amqp._forwarding import Forwarding
    from machinery_broker_amqp._link import Link
    from machinery_broker_amqp._publishing import Content, Publisher
    from machinery_broker_amqp._session import Session
    from machinery_broker_amqp._topology import Topology


class AmqpConsumer(Consumer):
    """Receives from one queue, through a connection of its own. Made by `AmqpBroker.consumer`."""

    def __init__(
        self,
        link: Link,
        queue: str,
        *,
        topology: Topology,
        publisher: Publisher,
        dead_letters: DeadLetters,
        forwarding: Forwarding,
        prefetch_count: int | None,
        on_close: Callable[[AmqpConsumer], None],
    ) -> None:
        self._link = link
        self._queue = queue
        self._topology = topology
        self._publisher = publisher
        self._dead_letters = dead_letters
        self._forwarding = forwarding
        self._prefetch_count = prefetch_count
        self._on_close = on_close
        self._limit: int | None = None
        self._inbox: SimpleQueue[Delivery | None] = SimpleQueue()
        self._subscription: Subscription | None = None
        self._guard = threading.Lock()
        self._loans: dict[int, Delivery] = {}
        """What was given out and is not settled, by its tag; oldest first."""
        self._lender: Subscription | None = None
        """By whom these were pushed."""
        self._unsettled: set[int] = set()
        """The tags that were taken back from those who had them, and whose fate RabbitMQ has not been told yet."""
        self._is_stopped = False

    # -- receiving ----------------------------------------------------------------------------------------------------------

    def receive(self, limit: int, timeout: float) -> list[Delivery]:
        """Up to ``limit`` of what was pushed, or is within ``timeout`` seconds."""
        self._link.check_open()
        if self._has_ended():
            return []
        deadline = time.monotonic() + timeout
        subscription = self._subscribed(limit)
        while True:
            received = self._take(subscription, limit, max(0.0, deadline - time.monotonic()))
            if received is None:
                return []
            if self._has_ended():
                self._link.post(subscription.settle, [("nack", delivery.handle.tag, True) for delivery in received])
                self._link.post(_in_background, subscription.halt)  # it may have been made while `stop` was called
                self._link.check_open()
                return []
            if subscription.reason is not None:  # what it has pushed goes back by itself
                self._subscription = None
                raise self._link.translated(subscription.reason) from None
            if received:
                self._lend(subscription, received)
                return received
            if subscription.total is None:  # something was given back meanwhile
                self._allow(subscription, self._wanted(subscription, limit))

    def _has_ended(self) -> bool:
        return self._is_stopped or self._link.is_closed

    def _take(self, subscription: Subscription, limit: int, timeout: float) -> list[Delivery] | None:
        """What is in the inbox; ``[]`` when it is only a hint that something happened, ``None`` when nothing does in time."""
        try:
            delivery = self._inbox.get(timeout=timeout)
        except Empty:
            return None
        taken: list[Delivery] = []
        while True:
            if delivery is not None and delivery.handle.subscription is subscription:
                taken.append(delivery)
            if len(taken) >= limit:
                return taken
            try:
                delivery = self._inbox.get_nowait()
            except Empty:
                return taken

    def _lend(self, subscription: Subscription, received: Sequence[Delivery]) -> None:
        with self._guard:
            if self._lender is not subscription:
                self._lender = subscription
                self._loans = {}
                self._unsettled = set()
            for delivery in received:
                self._loans[delivery.handle.tag] = delivery

    def resize(self, limit: int) -> None:
        """At most ``limit`` will be unsettled, unless ``amqp.prefetch_count`` says how many."""
        self._limit = max(1, limit)
        subscription = self._subscription
        if subscription is not None and self._prefetch_count is None and subscription.total not in {None, self._limit}:
            self._link.post(_in_background, subscription.allow, self._limit)

    def _subscribed(self, limit: int) -> Subscription:
        subscription = self._subscription
        wanted = self._wanted(subscription, limit)
        if subscription is None:
            subscription = self._subscription = self._link.call(lambda session: self._subscribe(session, wanted))
        elif subscription.reason is not None:
            self._subscription = None
            raise self._link.translated(subscription.reason) from None
        elif subscription.total != wanted and (self._limit is None or subscription.total is None):
            self._allow(subscription, wanted)
        return subscription

    def _allow(self, subscription: Subscription, total: int) -> None:
        self._link.call(lambda _: subscription.allow(total))

    def _wanted(self, subscription: Subscription | None, limit: int) -> int:
        if self._prefetch_count is not None:
            return self._prefetch_count
        if self._limit is not None:
            return self._limit
        if subscription is None:
            return limit
        unsettled = len(self._loans) if self._lender is subscription else 0
        return max(subscription.total or 0, unsettled + limit)

    async def _subscribe(self, session: Session, total: int) -> Subscription:
        await self._topology.declare(session, [self._queue])
        subscription = Subscription(session, await session.channel(), self._queue, self._inbox)
        try:
            await subscription.allow(total)
        except BaseException:
            session.declared.clear()  # it may have been deleted; the next attempt declares it anew
            subscription.channel.close()
            raise
        return subscription

    # -- settling -----------------------------------------------------------------------------------------------------------

    def ack(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Done. Written soon; what RabbitMQ never hears of, since the connection is lost, comes again."""
        # Guarded until it is posted: another thread may not go past these, nor these past what it has taken back.
        with self._guard:
            ours, lost = self._take_back(deliveries)
            if ours:
                tags = sorted(delivery.handle.tag for delivery in ours)
                oldest = min(next(iter(self._loans), tags[-1] + 1), *self._unsettled, tags[-1] + 1)
                through = [tag for tag in tags if tag < oldest]
                commands = [("ack", through[-1], True)] if through else []
                commands += [("ack", tag, False) for tag in tags[len(through) :]]
                self._settle(ours, commands)
        return lost

    def nack(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Give back, each to its old place in the queue."""
        with self._guard:
            ours, lost = self._take_back(deliveries, for_a_while=True)
        if ours:
            subscription: Subscription = ours[0].handle.subscription
            subscription.total = None  # so that a `receive` from now on asks for more, after this
            self._link.post(_in_background, self._give_back, subscription, ours)
        return lost

    async def _give_back(self, subscription: Subscription, ours: Sequence[Delivery]) -> None:
        await subscription.give_back(sorted(delivery.handle.tag for delivery in ours))
        self._note_settled(ours)

    def postpone(self, deliveries: Sequence[Delivery], delay: timedelta) -> list[Delivery]:
        """Send copies up the ladder, then let go of the originals."""
        return self._replace(deliveries, lambda contents: self._publisher.postpone(self._queue, contents, delay))

    def reject(self, deliveries: Sequence[Delivery], reason: str) -> list[Delivery]:
        """Copies to the dead letters, then let go of the originals."""
        return self._replace(deliveries, lambda contents: self._dead_letters.bury(self._queue, contents, reason))

    def extend(self, deliveries: Sequence[Delivery]) -> list[Delivery]:  # noqa: ARG002 - there are no leases
        """Nothing to do."""
        self._link.check_open()
        return []

    def maintain(self) -> float | None:
        """Send on what has longer to wait than RabbitMQ can keep it at a time."""
        return self._forwarding.run()

    def _replace(self, deliveries: Sequence[Delivery], replace: Callable[[list[Content]], None]) -> list[Delivery]:
        with self._guard:
            ours, lost = self._take_back(deliveries, for_a_while=True)
        if ours:
            try:
                replace([(delivery.body, delivery.handle.properties) for delivery in ours])
            except BaseException:
                self._lend_again(ours)
                raise
            self._settle(ours, [("ack", delivery.handle.tag, False) for delivery in ours])
            self._note_settled(ours)
        return lost

    def _take_back(
        self, deliveries: Sequence[Delivery], *, for_a_while: bool = False
    ) -> tuple[list[Delivery], list[Delivery]]:
        """Those that were on loan, and those that were not, or are so no more.

        ``for_a_while``: until `_note_settled`, nothing is acknowledged past them. To be called with the guard held.
        """
        self._link.check_open()
        ours: list[Delivery] = []
        lost: list[Delivery] = []
        loans = self._loans if self._lender is not None and self._lender.reason is None else {}
        for delivery in deliveries:
            if loans.get(delivery.handle.tag) is delivery:
                del loans[delivery.handle.tag]
                ours.append(delivery)
                if for_a_while:
                    self._unsettled.add(delivery.handle.tag)
            else:
                lost.append(delivery)
        return ours, lost

    def _note_settled(self, deliveries: Sequence[Delivery]) -> None:
        """RabbitMQ will hear of them before it hears of whatever is settled from now on."""
        with self._guard:
            if self._lender is deliveries[0].handle.subscription:
                self._unsettled.difference_update(delivery.handle.tag for delivery in deliveries)

    def _lend_again(self, deliveries: Sequence[Delivery]) -> None:
        with self._guard:
            if self._lender is deliveries[0].handle.subscription:
                again = {**self._loans, **{delivery.handle.tag: delivery for delivery in deliveries}}
                self._loans = dict(sorted(again.items()))
                self._unsettled.difference_update(delivery.handle.tag for delivery in deliveries)

    def _settle(self, ours: Sequence[Delivery], commands: Sequence[tuple[str, int, bool]]) -> None:
        self._link.post(ours[0].handle.subscription.settle, commands)

    # -- the end ------------------------------------------------------------------------------------------------------------

    def reset(self) -> None:
        """Give the connection up; all that is on loan is lost, and comes again."""
        self._link.drop("nothing was heard of RabbitMQ for too long")

    def stop(self) -> None:
        """Take no more, and give back what nobody has looked at."""
        if self._is_stopped:
            return
        self._is_stopped = True
        self._inbox.put(None)
        subscription = self._subscription
        if subscription is not None and subscription.reason is None:
            self._link.post(_in_background, subscription.halt)

    def close(self) -> None:
        """Close the connection."""
        self._is_stopped = True
        self._link.close()
        self._inbox.put(None)
        self._on_close(self)


def _in_background(work: Callable[..., Coroutine[object, object, None]], *arguments: object) -> None:
    """Do ``work`` on this loop. Where it fails, the channel is closed, which the next `receive` tells."""
    task = asyncio.ensure_future(work(*arguments))
    _under_way.add(task)
    task.add_done_callback(_note)


def _note(task: asyncio.Future[None]) -> None:
    _under_way.discard(task)
    if not task.cancelled():
        task.exception()


_under_way: set[asyncio.Future[None]] = set()
