"""Receiving from one queue, by helpers that may wait for SQS while their consumer is stopped.

What a helper brings when nobody wants it any more is given back at once. The threads are those of an executor: a program that
ends waits for a receive that is under way, so that nothing is left on loan to nobody, and for nothing else.
"""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from operator import itemgetter
from queue import Empty, SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from machinery.errors import BrokerUnavailable, MachineryError
from machinery_broker_sqs._content import AT_ONCE
from machinery_broker_sqs._queues import is_fifo

if TYPE_CHECKING:
    from machinery_broker_sqs._client import Client
    from machinery_broker_sqs._queues import Queues

SYSTEM_ATTRIBUTES = ("ApproximateReceiveCount", "SentTimestamp")
ORDERED_ATTRIBUTES = (*SYSTEM_ATTRIBUTES, "MessageGroupId", "SequenceNumber")


class Received(NamedTuple):
    """What one request brought."""

    begun: float
    """When it was made, monotonic: the loan is not over before this and the lease."""
    messages: list[dict[str, Any]]


class Round:
    """The requests that one caller waits for. Safe from any thread."""

    def __init__(self) -> None:
        self._brought: SimpleQueue[Received | Exception | None] = SimpleQueue()
        self._guard = threading.Lock()
        self._is_over = False

    @property
    def is_over(self) -> bool:
        """Whether nobody waits any longer."""
        return self._is_over

    def bring(self, what: Received | Exception) -> bool:
        """Whether somebody still waits for it."""
        with self._guard:
            if not self._is_over:
                self._brought.put(what)
            return not self._is_over

    def end(self) -> None:
        """Nobody waits any longer."""
        with self._guard:
            if not self._is_over:
                self._is_over = True
                self._brought.put(None)

    def take(self, patience: float) -> Received | Exception | None:
        """The next that is brought within ``patience`` seconds; ``None`` once the round was ended. Raises `Empty`."""
        return self._brought.get(timeout=patience)

    def rest(self) -> list[Received]:
        """What was brought and not taken, after the end."""
        found: list[Received] = []
        with contextlib.suppress(Empty):
            while True:
                what = self._brought.get_nowait()
                if isinstance(what, Received):
                    found.append(what)
        return found


class Receiver:
    """The requests of one consumer."""

    def __init__(self, client: Client, queues: Queues, queue: str, lease: int) -> None:
        self._client = client
        self._queues = queues
        self._queue = queue
        self._lease = lease
        # Of a group on a FIFO queue no more is delivered while one is on loan: so that it runs in order, only one is asked for.
        self.at_once = 1 if is_fifo(queue) else AT_ONCE
        self._order = _by_number if is_fifo(queue) else _by_time
        self._attributes = list(ORDERED_ATTRIBUTES if is_fifo(queue) else SYSTEM_ATTRIBUTES)
        self._helpers = ThreadPoolExecutor(client.options.receivers + 1, "machinery-sqs-receive")
        self._round: Round | None = None
        self._is_ended = False

    def take(self, limit: int, wait: int, requests: int) -> list[Received] | None:
        """What ``requests`` at once bring, oldest first. ``None`` when `interrupt` or `end` was called meanwhile.

        Raises what they raise, when none brings anything.
        """
        address = self._queues.address(self._queue)
        self._round = current = Round()
        if self._is_ended:
            return None
        try:
            for at in range(requests):
                count = min(self.at_once, limit - at * self.at_once)
                self._helpers.submit(self._ask, current, address, count, wait)
        except RuntimeError:  # closed meanwhile
            return None
        brought: list[Received] = []
        errors: list[Exception] = []
        silent_at = monotonic() + wait + 2 * self._client.patience  # to connect, and to hear of it
        for _ in range(requests):
            try:
                what = current.take(max(0.0, silent_at - monotonic()))
            except Empty:  # it may still answer: the helper, who can wait for longer, gives back what it brings
                current.end()
                brought += current.rest()
                errors.append(BrokerUnavailable(f"SQS at {self._client.address} does not answer"))
                break
            if what is None:
                self._return_later(address, [*brought, *current.rest()])
                return None
            if isinstance(what, Received):
                brought.append(what)
            else:
                errors.append(what)
        brought = sorted((each for each in brought if each.messages), key=self._order)
        if errors and not brought:
            raise errors[0]
        return brought

    def interrupt(self) -> None:
        """Make a waiting `take` return."""
        current = self._round
        if current is not None:
            current.end()

    def end(self) -> None:
        """Likewise, and for ever."""
        self._is_ended = True
        self.interrupt()

    def close(self) -> None:
        """Let the helpers go once they have ended what they are about."""
        self.end()
        self._helpers.shutdown(wait=False)

    def _ask(self, current: Round, address: str, count: int, wait: int) -> None:
        if current.is_over:  # all helpers were held up until now
            return
        begun = monotonic()

        def use(messages: list[dict[str, Any]]) -> None:
            if not current.bring(Received(begun, messages)):
                self._return(address, messages)

        try:
            self._client.receive(
                self._queue,
                use,
                QueueUrl=address,
                MaxNumberOfMessages=count,
                WaitTimeSeconds=wait,
                VisibilityTimeout=self._lease,
                AttributeNames=self._attributes,
                MessageAttributeNames=["All"],
            )
        except Exception as error:  # noqa: BLE001 - the one who waits for it raises it
            current.bring(error)

    def _return_later(self, address: str, brought: list[Received]) -> None:
        messages = [message for each in brought for message in each.messages]
        if messages:
            with contextlib.suppress(RuntimeError):  # closed meanwhile: their lease will bring them back
                self._helpers.submit(partial(self._return, address, messages))

    def _return(self, address: str, messages: list[dict[str, Any]]) -> None:
        if messages:
            with contextlib.suppress(MachineryError):  # then their lease brings them back
                self._client.give_back(self._queue, address, [message["ReceiptHandle"] for message in messages])


_sent = itemgetter("SentTimestamp")


def _by_time(received: Received) -> tuple[int, int]:
    first, last = received.messages[0]["Attributes"], received.messages[-1]["Attributes"]
    return int(_sent(first)), int(_sent(last))


def _by_number(received: Received) -> tuple[int, int]:
    number = int(received.messages[0]["Attributes"].get("SequenceNumber") or 0)
    return number, number
