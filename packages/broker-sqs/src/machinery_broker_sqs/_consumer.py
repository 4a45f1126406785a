"""One consumer of one queue. What it has received is ours for a lease, which is renewed, and until it is settled."""

from __future__ import annotations

import contextlib
import logging
import math
import threading
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic
from typing import TYPE_CHECKING, Any

from machinery.abc import Consumer, Delivery
from machinery.errors import BrokerUnavailable, Closed, MachineryError
from machinery_broker_sqs._batches import UNAVAILABLE, carry_out
from machinery_broker_sqs._content import AT_ONCE, COPY, decode_body, said, with_ours
from machinery_broker_sqs._errors import is_loan_over, text_of
from machinery_broker_sqs._options import LONGEST_LEASE
from machinery_broker_sqs._publishing import Letter, to_delay
from machinery_broker_sqs._queues import is_fifo
from machinery_broker_sqs._receiving import Receiver

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from machinery_broker_sqs._client import Client
    from machinery_broker_sqs._dead_letters import DeadLetters
    from machinery_broker_sqs._publishing import Publisher
    from machinery_broker_sqs._queues import Queues
    from machinery_broker_sqs._receiving import Received

LOOK_AGAIN = 1.0
"""Seconds between two looks where SQS is not to wait."""
_JUST_BEGUN = 0.05
"""Seconds that may be gone of a receive's time when SQS is asked: they do not cost it a whole second of waiting."""
_LOGGER = logging.getLogger("machinery.sqs")


@dataclass(slots=True, eq=False)
class Loan:
    """What a delivery's handle is."""

    receipt: str
    text: str
    attributes: Mapping[str, Any]
    group: str
    received: float
    """Monotonic."""
    ends: float
    """Likewise: from then on it may be another's."""
    is_copied: bool = False
    """A copy is on its way to where it goes: only the original is left to be deleted."""


class SqsConsumer(Consumer):
    """Receives from one queue. Made by `SqsBroker.consumer`."""

    def __init__(
        self,
        client: Client,
        queues: Queues,
        queue: str,
        *,
        publisher: Publisher,
        dead_letters: DeadLetters,
        on_close: Callable[[SqsConsumer], None],
    ) -> None:
        self._client = client
        self._queues = queues
        self._queue = queue
        self._publisher = publisher
        self._dead_letters = dead_letters
        self._on_close = on_close
        self._lease = client.options.receive_visibility_timeout
        self._term = self._lease.total_seconds()
        self._receiver = Receiver(client, queues, queue, int(self._term))
        self._guard = threading.Lock()
        self._loans: dict[int, Delivery] = {}
        """What was given out and is not settled, by its identity."""
        self._renewal = threading.Lock()
        """Leases are renewed or ended: a renewal that arrives behind what ends a lease would hide the message anew."""
        self._is_busy = False
        """The last request brought all it was asked for: the next time, several are made at once."""
        self._stopped = threading.Event()
        self._is_closed = False

    # -- receiving ----------------------------------------------------------------------------------------------------------

    def receive(self, limit: int, timeout: float) -> list[Delivery]:
        """Up to ``limit``, ten in a request; several requests at once while the queue is full."""
        self._check_open()
        deadline = monotonic() + timeout
        while not self._stopped.is_set():
            left = max(0.0, deadline - monotonic())
            several = self._is_busy and limit > self._receiver.at_once
            wait = 0 if several else self._wait_within(left)
            requests = self._requests(limit) if several else 1
            brought = self._receiver.take(limit, wait, requests)
            if brought is None:
                return self._interrupted()
            count = sum(len(each.messages) for each in brought)
            self._is_busy = count > self._receiver.at_once or (not several and count == self._receiver.at_once)
            if count:
                return self._lend(brought)
            if several:
                continue
            if left <= 0 or (wait and deadline - monotonic() < 1):
                return []
            if not wait:
                self._stopped.wait(min(LOOK_AGAIN, max(0.0, deadline - monotonic())))
        return []

    def _wait_within(self, left: float) -> int:
        """Whole seconds that SQS is to wait. A loan is reckoned from the request, so waiting must use up little of it."""
        return int(min(left + _JUST_BEGUN, self._client.options.poll, max(1.0, self._term / 2)))

    def _requests(self, limit: int) -> int:
        return min(self._client.options.receivers, math.ceil(limit / self._receiver.at_once))

    def _interrupted(self) -> list[Delivery]:
        if not self._stopped.is_set():
            raise BrokerUnavailable(f"the connection to SQS at {self._client.address} was given up")
        return []

    def _lend(self, brought: Sequence[Received]) -> list[Delivery]:
        lent = [self._to_delivery(message, each.begun) for each in brought for message in each.messages]
        with self._guard:
            self._loans.update({id(delivery): delivery for delivery in lent})
        return lent

    def _to_delivery(self, message: Mapping[str, Any], begun: float) -> Delivery:
        text = message["Body"]
        system = message.get("Attributes") or {}
        attributes = message.get("MessageAttributes") or {}
        redelivered: bool | None = system.get("ApproximateReceiveCount", "1") != "1"
        if not redelivered and said(attributes, COPY):
            redelivered = None
        loan = Loan(
            message["ReceiptHandle"], text, attributes, system.get("MessageGroupId", ""), begun, begun + self._term
        )
        body = decode_body(text, attributes) if attributes else text.encode()
        return Delivery(body, self._queue, redelivered, None, self._lease, loan)

    # -- settling -----------------------------------------------------------------------------------------------------------

    def ack(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Delete, ten in a request. One whose lease is over is deleted too, unless somebody else has it by now."""
        return self._settle(deliveries, self._delete)

    def nack(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Let others have these at once. SQS counts it as received all the same."""
        return self._settle(deliveries, lambda ours: self._end_leases(ours, 0), in_time=True)

    def postpone(self, deliveries: Sequence[Delivery], delay: timedelta) -> list[Delivery]:
        """Send copies, to be delivered later, and delete the originals: so SQS begins to count anew.

        On FIFO queues a copy would go behind all others of its group: there the original is kept back instead, for 12 hours at
        most, and its next delivery is counted.
        """
        if is_fifo(self._queue):
            seconds = max(0, math.ceil(delay.total_seconds()))
            return self._settle(deliveries, lambda ours: self._end_leases(ours, seconds), in_time=True)
        wait = to_delay(delay)

        def replace(ours: Sequence[Delivery]) -> set[int]:
            self._copy(ours, wait)
            return self._delete(ours)

        return self._settle(deliveries, replace, in_time=True)

    def reject(self, deliveries: Sequence[Delivery], reason: str) -> list[Delivery]:
        """Copies to the queue that the redrive policy names, then the originals away. Without one: dropped, and logged."""

        def bury(ours: Sequence[Delivery]) -> set[int]:
            self._bury(ours, reason)
            return self._delete(ours)

        return self._settle(deliveries, bury, in_time=True)

    def extend(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Renew leases, ten in a request; together they last for 12 hours at most."""
        self._check_open()
        with self._renewal:
            now = monotonic()
            with self._guard:
                ours = [each for each in deliveries if self._loans.get(id(each)) is each and each.handle.ends > now]
            gone = self._change_visibility(ours, int(self._term))
        kept = {id(each) for each in ours}
        for at, delivery in enumerate(ours):
            if at in gone:
                kept.discard(id(delivery))
            else:
                loan: Loan = delivery.handle
                loan.ends = min(now + self._term, loan.received + LONGEST_LEASE.total_seconds())
        return [each for each in deliveries if id(each) not in kept]

    def _settle(
        self,
        deliveries: Sequence[Delivery],
        act: Callable[[Sequence[Delivery]], set[int]],
        *,
        in_time: bool = False,
    ) -> list[Delivery]:
        """Have ``act`` end these loans; it answers at which positions they were over.

        ``in_time``: only while the lease lasts, unless a copy is on its way: then the original is one too many.
        """
        self._check_open()
        ours: list[Delivery] = []
        lost: list[Delivery] = []
        now = monotonic()
        with self._guard:
            for delivery in deliveries:
                if self._loans.get(id(delivery)) is not delivery:
                    lost.append(delivery)
                    continue
                del self._loans[id(delivery)]
                loan: Loan = delivery.handle
                (lost if in_time and loan.ends <= now and not loan.is_copied else ours).append(delivery)
        if not ours:
            return lost
        try:
            gone = act(ours)
        except BaseException:
            with self._guard:
                self._loans.update({id(delivery): delivery for delivery in ours})
            raise
        return [*lost, *(ours[at] for at in sorted(gone))] if gone else lost

    def _delete(self, ours: Sequence[Delivery]) -> set[int]:
        return self._in_batches(
            "delete_message_batch", [{"ReceiptHandle": delivery.handle.receipt} for delivery in ours]
        )

    def _end_leases(self, ours: Sequence[Delivery], seconds: int) -> set[int]:
        with self._renewal:
            return self._change_visibility(ours, seconds)

    def _change_visibility(self, ours: Sequence[Delivery], seconds: int) -> set[int]:
        now = monotonic()
        longest = LONGEST_LEASE.total_seconds() - 1
        return self._in_batches(
            "change_message_visibility_batch",
            [
                {
                    "ReceiptHandle": delivery.handle.receipt,
                    "VisibilityTimeout": max(0, min(seconds, int(longest - (now - delivery.handle.received)))),
                }
                for delivery in ours
            ],
        )

    def _in_batches(self, operation: str, entries: Sequence[Mapping[str, Any]]) -> set[int]:
        """At which positions SQS says that the loan is over. Raises as `Client.call`."""
        if not entries:
            return set()
        address = self._queues.address(self._queue)
        starts = range(0, len(entries), AT_ONCE)

        def ask(start: int) -> dict[int, Mapping[str, Any]]:
            return carry_out(self._client, operation, self._queue, address, entries[start : start + AT_ONCE])

        gone: set[int] = set()
        for start, refused in zip(starts, self._client.each(ask, starts), strict=True):
            for at, failed in refused.items():
                if UNAVAILABLE in failed:
                    raise failed[UNAVAILABLE]
                if not is_loan_over(failed):
                    _LOGGER.warning("SQS refuses to settle a message of %s: %s", self._queue, text_of(failed))
                gone.add(start + at)
        return gone

    def _copy(self, ours: Sequence[Delivery], wait: int) -> None:
        waiting = [delivery.handle for delivery in ours if not delivery.handle.is_copied]
        letters = [Letter(loan.text, with_ours(loan.text, loan.attributes, **{COPY: "1"}), wait) for loan in waiting]
        self._note_copied(waiting, self._publisher.send(self._queue, letters))

    def _bury(self, ours: Sequence[Delivery], reason: str) -> None:
        target = self._queues.dead_letters_of(self._queue)
        if not target:
            for delivery in ours:
                _LOGGER.error(
                    "a message of %s is given up and dropped, as the queue has no redrive policy that names a queue for dead "
                    "letters (%s): %r",
                    self._queue,
                    reason,
                    delivery.body,
                )
            return
        waiting = [delivery.handle for delivery in ours if not delivery.handle.is_copied]
        letters = [
            self._dead_letters.to_letter(self._queue, loan.text, loan.attributes, loan.group, reason)
            for loan in waiting
        ]
        self._note_copied(waiting, self._publisher.send(target, letters))

    def _note_copied(self, loans: Sequence[Loan], refused: Mapping[int, Exception]) -> None:
        for at, loan in enumerate(loans):
            loan.is_copied = at not in refused
        for error in refused.values():
            raise error

    # -- the end ------------------------------------------------------------------------------------------------------------

    def reset(self) -> None:
        """Give a receive up that waits; what it brings goes back. What is on loan stays on loan."""
        self._receiver.interrupt()

    def stop(self) -> None:
        """Receive no more; what a request still brings goes back."""
        self._stopped.set()
        self._receiver.end()

    def close(self) -> None:
        """Give back what is unsettled, if SQS is there to take it; else its lease brings it back."""
        if self._is_closed:
            return
        self.stop()
        with self._guard:
            now = monotonic()
            left = [delivery for delivery in self._loans.values() if delivery.handle.ends > now]
            self._loans = {}
            self._is_closed = True
        with contextlib.suppress(MachineryError):
            self._end_leases(left, 0)
        self._receiver.close()
        self._on_close(self)

    def _check_open(self) -> None:
        self._client.check_open()
        if self._is_closed:
            raise Closed(f"this consumer of {self._queue} was closed")
