"""One consumer of one queue. Pub/Sub pushes; what it has pushed is ours until it is settled, or was not renewed in time."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import TYPE_CHECKING, Any

from machinery.abc import Consumer, Delivery
from machinery.errors import BrokerUnavailable, Closed, MachineryError, Unsupported
from machinery_broker_gcp._client import Client
from machinery_broker_gcp._errors import DRIVER_ERRORS, is_away
from machinery_broker_gcp._names import delay_of
from machinery_broker_gcp._publishing import Publisher, waiting
from machinery_broker_gcp._resources import check_resources
from machinery_broker_gcp._stream import Stream

if TYPE_CHECKING:
    from machinery_broker_gcp._dead_letters import DeadLetters
    from machinery_broker_gcp._delays import Delays

_MOST_STREAMS = 6
"""Of one consumer; instead of one more, one takes the place of all."""
_LITTLE, _FOR_A_WHILE = 0.25, 0.25
"""Part of what is wanted for which no stream is opened, until it has been missing for so many seconds."""
_LASTING = 5.0
"""Seconds after which a stream that ends counts as one that had been well: Pub/Sub ends each now and then."""
_FRESH = 0.25
"""Part of a lease that may have passed before a message is given out; then it is renewed first."""
_ATTENDED = 0.75
"""Part of a lease within which somebody has to call us; else nobody seems to look after what we hold."""
_GOODBYE = 0.5
"""Seconds that closing, or handing back, waits for streams to end."""


@dataclass(slots=True, eq=False)
class Loan:
    """The handle of a delivery."""

    stream: Stream
    """Through which it came; it counts towards what that one may hold."""
    ack_id: str
    message: Any
    since: float
    """When it came, monotonic."""
    until: float
    """When its lease ends."""
    is_replaced: bool = False
    """A copy of it was sent elsewhere already; only the acknowledgement is missing."""


class PubsubConsumer(Consumer):
    """Receives from one queue's subscription. Made by `PubsubBroker.consumer`."""

    def __init__(
        self,
        client: Client,
        queue: str,
        name: str,
        *,
        publisher: Publisher,
        dead_letters: DeadLetters,
        delays: Delays,
        on_close: Callable[[PubsubConsumer], None],
    ) -> None:
        options = client.service.options
        self._client = client
        self._queue = queue
        self._name = name
        self._subscription = client.names.subscription(client.names.subscription_of(queue))
        self._publisher = publisher
        self._dead_letters = dead_letters
        self._delays = delays
        self._on_close = on_close
        self._keeps_dead_letters = options.dead_letters
        self._lease = options.ack_deadline
        self._term = self._lease.total_seconds()
        self._longest = options.max_extension.total_seconds() if options.max_extension is not None else float("inf")
        self._news = threading.Condition()
        """Guards all that follows."""
        self._inbox: deque[Delivery] = deque()
        self._loans: dict[str, Delivery] = {}
        """What was given out and is not settled, by acknowledgement id."""
        self._unsettled = 0
        """Those in the inbox, those on loan, and those that are being settled."""
        self._streams: list[Stream] = []
        """Those that are open. A stream that ends without having been told to is taken out by `_on_end`."""
        self._halting: list[Stream] = []
        self._limit: int | None = None
        self._error: BaseException | None = None
        self._is_exactly_once = False
        self._short_since = 0.0
        """Since when streams may hold a little less than is wanted; 0: they do not."""
        self._is_receiving = False
        self._is_paused = False
        """Something was handed back: until the next `receive` nothing is taken, or it would come straight back."""
        self._heard_of_owner = monotonic()
        self._is_stopped = False
        self._is_closed = False

    # -- receiving ----------------------------------------------------------------------------------------------------------

    def receive(self, limit: int, timeout: float) -> list[Delivery]:
        """Up to ``limit`` of what was pushed, or is within ``timeout`` seconds."""
        self._check_open()
        deadline = monotonic() + timeout
        if not self._is_stopped:
            check_resources(self._client, self._queue)
        with self._news:
            self._is_receiving = True
        try:
            while True:
                taken = self._wait(limit, deadline)
                received = self._lend(taken) if taken else []
                if received or not taken:
                    return received
        finally:
            with self._news:
                self._is_receiving = False
                self._heard_of_owner = monotonic()

    def _wait(self, limit: int, deadline: float) -> list[Delivery]:
        """What to give out; nothing once the time is over."""
        with self._news:
            while True:
                self._check_open()
                if self._is_stopped:
                    return []
                if self._error is not None:
                    error, self._error = self._error, None
                    raise error
                self._is_paused = False
                self._drop_expired(monotonic())
                self._fit(limit)
                if self._inbox:
                    return [self._inbox.popleft() for _ in range(min(limit, len(self._inbox)))]
                left = deadline - monotonic()
                if left <= 0:
                    return []
                self._news.wait(min(left, _FOR_A_WHILE) if self._short_since else left)

    def _lend(self, taken: list[Delivery]) -> list[Delivery]:
        """Give these out: those that have lain for a while, or that Pub/Sub has to confirm, once they are renewed."""
        now = monotonic()
        stale = [
            delivery for delivery in taken if self._is_exactly_once or now - delivery.handle.since > self._term * _FRESH
        ]
        lost: set[str] = set()
        if stale:
            ids = [delivery.handle.ack_id for delivery in stale]
            try:
                lost = self._client.modify(self._subscription, ids, int(self._term))
            except BaseException:
                with self._news:
                    self._inbox.extendleft(reversed(taken))
                raise
            for delivery in stale:
                delivery.handle.until = now + self._term
        received = [delivery for delivery in taken if delivery.handle.ack_id not in lost]
        with self._news:
            self._note_settled([delivery for delivery in taken if delivery.handle.ack_id in lost])
            for delivery in received:
                self._loans[delivery.handle.ack_id] = delivery
        return received

    def resize(self, limit: int) -> None:
        """At most ``limit`` will be unsettled: other streams take the place of those that are open."""
        with self._news:
            self._limit = max(1, limit)
            if self._streams and not self._is_stopped:
                self._fit(limit)

    # -- streams (with the guard held) --------------------------------------------------------------------------------------

    def _fit(self, limit: int) -> None:
        """Have open streams that may hold what is wanted now.

        What came through streams that are no longer open counts towards that too.
        """
        orphans = self._unsettled - sum(stream.unsettled for stream in self._streams)
        room = orphans + sum(stream.limit for stream in self._streams)
        wanted = self._limit or max(room, len(self._loans) + limit)
        if wanted <= room:
            self._short_since = 0.0
        elif not self._is_worth_a_stream(wanted - room, wanted):
            return
        if wanted < room or (wanted > room and len(self._streams) >= _MOST_STREAMS):
            while self._streams and (room > wanted or len(self._streams) >= _MOST_STREAMS):
                stream = self._streams.pop()
                room -= stream.limit - stream.unsettled
                self._halt(stream)
            room -= self._give_back_beyond(wanted)
        if wanted > room:
            self._streams.append(self._open(wanted - room))

    def _is_worth_a_stream(self, missing: int, wanted: int) -> bool:
        """A little is not, at once: what came through streams that have ended is settled little by little."""
        now = monotonic()
        self._short_since = self._short_since or now
        if self._limit is not None and missing < wanted * _LITTLE and now - self._short_since < _FOR_A_WHILE:
            return False
        self._short_since = 0.0
        return True

    def _open(self, limit: int) -> Stream:
        return Stream(
            self._client,
            self._subscription,
            limit=limit,
            deadline=int(self._term),
            name=self._name,
            arrived=self._on_arrival,
            ended=self._on_end,
        )

    def _halt(self, stream: Stream) -> None:
        self._halting.append(stream)
        stream.halt()

    def _halt_all(self) -> None:
        while self._streams:
            self._halt(self._streams.pop())

    def _give_back(self, deliveries: Sequence[Delivery]) -> None:
        """What was in the inbox."""
        self._note_settled(deliveries)
        self._client.give_back_soon(self._subscription, _ids(deliveries))

    def _give_back_beyond(self, limit: int) -> int:
        """Of the inbox, so that no more than ``limit`` is unsettled, if that will do; how many went back."""
        surplus = max(0, min(len(self._inbox), self._unsettled - limit))
        self._give_back([self._inbox.pop() for _ in range(surplus)][::-1])
        return surplus

    def _note_settled(self, deliveries: Sequence[Delivery]) -> None:
        """Others may be held instead."""
        self._unsettled -= len(deliveries)
        for delivery in deliveries:
            delivery.handle.stream.unsettled -= 1

    def _empty_inbox(self) -> list[Delivery]:
        emptied = list(self._inbox)
        self._inbox.clear()
        return emptied

    def _drop_expired(self, now: float) -> None:
        """What nobody has looked at in time comes again."""
        while self._inbox and self._inbox[0].handle.until <= now:
            self._note_settled([self._inbox.popleft()])

    # -- called by the streams' threads -------------------------------------------------------------------------------------

    def _on_arrival(self, stream: Stream, received: Sequence[Any], is_exactly_once: bool) -> None:
        now = monotonic()
        arrived = [self._to_delivery(each, now, stream) for each in received]
        with self._news:
            self._is_exactly_once = is_exactly_once
            stream.unsettled += len(arrived)
            self._unsettled += len(arrived)
            if self._is_stopped or self._is_paused:
                self._give_back(arrived)
                return
            if not self._is_receiving and now - self._heard_of_owner > self._term * _ATTENDED:
                # Whoever holds us does not renew: what we hold comes again, and would come to us, again and again.
                self._halt_all()
                self._give_back(arrived)
                return
            self._drop_expired(now)
            self._inbox.extend(arrived)
            if stream not in self._streams and self._limit is not None:
                self._give_back_beyond(self._limit)
            self._news.notify_all()

    def _to_delivery(self, received: Any, now: float, stream: Stream) -> Delivery:
        return Delivery(
            received.message.data,
            self._queue,
            True if received.delivery_attempt > 1 else None,
            None,
            self._lease,
            Loan(stream, received.ack_id, received.message, now, now + self._term),
            received.message.message_id,
        )

    def _on_end(self, stream: Stream, error: BaseException | None) -> None:
        with self._news:
            if stream in self._halting:
                self._halting.remove(stream)
            elif stream in self._streams:
                self._streams.remove(stream)
                was_well = stream.has_delivered or monotonic() - stream.opened_at > _LASTING
                if not (was_well and (error is None or is_away(error))):
                    self._error = self._reason(error)
                self._news.notify_all()

    def _reason(self, error: BaseException | None) -> BaseException | None:
        if error is None:
            return BrokerUnavailable(f"Pub/Sub at {self._client.service.address} ended the stream of {self._queue}")
        try:
            return self._client.translated(error, self._subscription)
        except Closed as closed:
            return closed

    # -- settling -----------------------------------------------------------------------------------------------------------

    def ack(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Done, once Pub/Sub has said so."""
        return self._settle(deliveries, lambda ours: self._client.acknowledge(self._subscription, _ids(ours)))

    def nack(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Give back, with all that nobody has looked at. Pub/Sub counts it towards the attempts of a dead-letter policy."""

        def settle(ours: Sequence[Delivery]) -> set[str]:
            with self._news:
                self._is_paused = not self._is_receiving
                self._halt_all()
                halting = list(self._halting)
                unseen = self._empty_inbox()
                self._note_settled(unseen)
                self._news.notify_all()
            _await(halting)
            return self._client.modify(self._subscription, _ids([*ours, *unseen]), 0)

        return self._settle(deliveries, settle)

    def postpone(self, deliveries: Sequence[Delivery], delay: timedelta) -> list[Delivery]:
        """Send copies to the queue's topic of delays, then acknowledge the originals."""
        eta = datetime.now(UTC) + delay

        def send(messages: Sequence[Any]) -> None:
            copies = [waiting(each.data, eta, each.attributes, each.ordering_key) for each in messages]
            self._publisher.put(delay_of(self._queue), copies)

        return self._replace(deliveries, send)

    def reject(self, deliveries: Sequence[Delivery], reason: str) -> list[Delivery]:
        """Send copies to the queue's topic of dead letters, then acknowledge the originals."""
        self._check_open()
        if not self._keeps_dead_letters:
            raise Unsupported("gcp_pub_sub.dead_letters is off: nothing keeps what was given up")
        return self._replace(deliveries, lambda messages: self._dead_letters.bury(self._queue, messages, reason))

    def extend(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Renew each for `PubsubOptions.ack_deadline`, until it was held for `PubsubOptions.max_extension`."""
        self._check_open()
        now = monotonic()
        with self._news:
            self._heard_of_owner = now
            ours = [each for each in deliveries if self._is_ours(each, now) and now - each.handle.since < self._longest]
        ids = {id(each) for each in ours}
        lost = [each for each in deliveries if id(each) not in ids]
        if ours:
            gone = self._client.modify(self._subscription, _ids(ours), int(self._term))
            lost += [each for each in ours if each.handle.ack_id in gone]
            for each in ours:
                if each.handle.ack_id not in gone:
                    each.handle.until = now + self._term
        with self._news:
            for each in lost:
                self._forget(each)
        return lost

    def maintain(self) -> float | None:
        """Send on what has waited for its time."""
        self._check_open()
        if self._is_stopped:
            return None
        return self._delays.run()

    def _replace(self, deliveries: Sequence[Delivery], send: Callable[[Sequence[Any]], None]) -> list[Delivery]:
        def settle(ours: Sequence[Delivery]) -> set[str]:
            fresh = [each for each in ours if not each.handle.is_replaced]
            if fresh:
                send([each.handle.message for each in fresh])
                for each in fresh:
                    each.handle.is_replaced = True
            return self._client.acknowledge(self._subscription, _ids(ours))

        return self._settle(deliveries, settle)

    def _settle(
        self, deliveries: Sequence[Delivery], settle: Callable[[Sequence[Delivery]], set[str]]
    ) -> list[Delivery]:
        """Those that are not ours, or are so no more. Where ``settle`` raises, all stay on loan."""
        self._check_open()
        ours: list[Delivery] = []
        lost: list[Delivery] = []
        now = monotonic()
        with self._news:
            self._heard_of_owner = now
            for delivery in deliveries:
                if self._is_ours(delivery, now):
                    del self._loans[delivery.handle.ack_id]
                    ours.append(delivery)
                else:
                    lost.append(delivery)
                    self._forget(delivery)
        if ours:
            try:
                gone = settle(ours)
            except BaseException:
                with self._news:
                    self._loans |= {each.handle.ack_id: each for each in ours}
                raise
            with self._news:
                self._note_settled(ours)
            lost += [each for each in ours if each.handle.ack_id in gone]
        return lost

    def _forget(self, delivery: Delivery) -> None:
        """It was on loan for too long, if it still counts as that: it comes again."""
        if self._loans.get(delivery.handle.ack_id) is delivery:
            del self._loans[delivery.handle.ack_id]
            self._note_settled([delivery])

    def _is_ours(self, delivery: Delivery, now: float) -> bool:
        loan = delivery.handle
        return self._loans.get(loan.ack_id) is delivery and loan.until > now

    # -- the end ------------------------------------------------------------------------------------------------------------

    def reset(self) -> None:
        """Cut the streams; the next `receive` opens others. What is on loan stays ours."""
        with self._news:
            streams, self._streams = self._streams, []
            self._halting += streams
            self._error = BrokerUnavailable(
                f"the streams from Pub/Sub at {self._client.service.address} were cut: nothing was heard of it for too long"
            )
            self._news.notify_all()
        for stream in streams:
            stream.cut()

    def stop(self) -> None:
        """Take no more, and give back what nobody has looked at."""
        with self._news:
            if self._is_stopped:
                return
            self._is_stopped = True
            self._halt_all()
            self._give_back(self._empty_inbox())
            self._news.notify_all()
        self._delays.stop()

    def close(self) -> None:
        """End the streams, and give back what is on loan, if that can be done at once."""
        self.stop()
        with self._news:
            if self._is_closed:
                return
            self._is_closed = True
            streams = list(self._halting)
            held, self._loans = list(self._loans.values()), {}
        self._delays.close()
        _await(streams)
        try:
            if held:
                self._client.modify(self._subscription, _ids(held), 0, patient=False)
        except (*DRIVER_ERRORS, MachineryError):
            pass  # then they come again when their time is over
        self._on_close(self)

    def _check_open(self) -> None:
        self._client.check_open()
        if self._is_closed:
            raise Closed(f"the consumer {self._name} of {self._queue} was closed")


def _await(streams: Sequence[Stream]) -> None:
    """Wait until they have ended, and end those that have not."""
    deadline = monotonic() + _GOODBYE
    for stream in streams:
        if not stream.wait(max(0.0, deadline - monotonic())):
            stream.cut()


def _ids(deliveries: Sequence[Delivery]) -> list[str]:
    return [delivery.handle.ack_id for delivery in deliveries]
