"""Sending: ten messages, or as many as fit, in one request; those of one queue one after the other, to keep the order."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from machinery.errors import DelayTooLong, MachineryError, MessageTooLarge, PublishError, Unavailable, Unsupported
from machinery_broker_sqs._batches import UNAVAILABLE, carry_out
from machinery_broker_sqs._content import AT_ONCE, LARGEST_MESSAGE, encode_body, size_of, to_id
from machinery_broker_sqs._errors import BatchTooLarge, is_of_size, text_of
from machinery_broker_sqs._queues import is_fifo

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from machinery.abc import Message
    from machinery_broker_sqs._client import Client
    from machinery_broker_sqs._queues import Queues

LONGEST_DELAY = timedelta(minutes=15)
"""SQS's."""


@dataclass(frozen=True, slots=True)
class Letter:
    """One message as SQS takes it."""

    text: str
    attributes: Mapping[str, Any]
    delay: int = 0
    """Seconds; on FIFO queues none."""
    group: str = ""
    """Of FIFO queues; empty: one of its own."""
    dedup_id: str = ""
    """Of FIFO queues; empty: a new one."""

    @property
    def size(self) -> int:
        """Bytes."""
        return size_of(self.text, self.attributes)

    def entry(self, queue: str) -> dict[str, Any]:
        """The entry of a batch. A delay is always said: else the queue's own would hold."""
        made: dict[str, Any] = {"MessageBody": self.text}
        if self.attributes:
            made["MessageAttributes"] = self.attributes
        if is_fifo(queue):
            own = uuid4().hex if not (self.group and self.dedup_id) else ""
            made["MessageGroupId"] = to_id(self.group) if self.group else own
            made["MessageDeduplicationId"] = to_id(self.dedup_id) if self.dedup_id else own
        else:
            made["DelaySeconds"] = self.delay
        return made


class Publisher:
    """Sends letters. Safe from any thread."""

    def __init__(self, client: Client, queues: Queues) -> None:
        self._client = client
        self._queues = queues

    def publish(self, messages: Sequence[Message]) -> None:
        """`Broker.publish`."""
        refused: dict[int, Exception] = {}
        by_queue: dict[str, list[tuple[int, Letter]]] = defaultdict(list)
        now = datetime.now(UTC)
        for position, message in enumerate(messages):
            try:
                by_queue[message.queue].append((position, _to_letter(message, now)))
            except PublishError as error:
                refused[position] = error
        parts = [(queue, letters) for queue, letters in by_queue.items() if letters]
        for (_, letters), found in zip(parts, self._client.each(self._send_part, parts), strict=True):
            refused.update({letters[at][0]: error for at, error in found.items()})
        if refused:
            raise _summary(dict(sorted(refused.items())), len(messages))

    def _send_part(self, part: tuple[str, list[tuple[int, Letter]]]) -> dict[int, Exception]:
        queue, letters = part
        return self.send(queue, [letter for _, letter in letters])

    def send(self, queue: str, letters: Sequence[Letter]) -> dict[int, Exception]:
        """Put letters on a queue, in order. Returns what was not accepted, by position; the others were. Raises `Closed`."""
        refused: dict[int, Exception] = {}
        batches = deque(_batches(letters))
        while batches:
            batch = batches.popleft()
            entries = [letters[at].entry(queue) for at in batch]
            try:
                found = carry_out(self._client, "send_message_batch", queue, self._queues.address(queue), entries)
            except BatchTooLarge as error:  # the queue, or another kind of SQS, takes less
                if len(batch) > 1:
                    middle = len(batch) // 2
                    batches.extendleft((batch[middle:], batch[:middle]))
                else:
                    size = letters[batch[0]].size
                    refused[batch[0]] = MessageTooLarge(f"SQS refuses a message of {size} bytes: {error}")
            except MachineryError as error:  # what comes after it must not go before it
                if not isinstance(error, Unavailable):
                    self._client.check_open()
                refused.update(dict.fromkeys(range(batch[0], len(letters)), error))
                break
            else:
                refused.update({batch[at]: _to_error(failed, letters[batch[at]]) for at, failed in found.items()})
        return refused


def _to_letter(message: Message, now: datetime) -> Letter:
    """Raises `DelayTooLong`, `MessageTooLarge`."""
    delay = 0
    if message.eta is not None and message.eta > now:
        if is_fifo(message.queue):
            raise DelayTooLong(
                f"{message.queue} is a FIFO queue, which holds no single message back; leave the ETA out, or use a standard queue"
            )
        if message.eta - now > LONGEST_DELAY:
            raise DelayTooLong(f"SQS holds a message back for 15 minutes at most, not until {message.eta.isoformat()}")
        delay = to_delay(message.eta - now)
    text, attributes = encode_body(message.body)
    letter = Letter(text, attributes, delay, message.ordering_key, message.dedup_id)
    if letter.size > LARGEST_MESSAGE:
        raise MessageTooLarge(
            f"SQS takes messages of {LARGEST_MESSAGE} bytes at most, and this one has {letter.size}; keep large data "
            "elsewhere, and send where it is"
        )
    return letter


def to_delay(span: timedelta) -> int:
    """Whole seconds, rounded up, as far as SQS goes."""
    return min(math.ceil(max(0.0, span.total_seconds())), int(LONGEST_DELAY.total_seconds()))


def _batches(letters: Sequence[Letter]) -> Iterator[list[int]]:
    """The positions of letters that go together."""
    batch: list[int] = []
    size = 0
    for at, letter in enumerate(letters):
        if batch and (len(batch) == AT_ONCE or size + letter.size > LARGEST_MESSAGE):
            yield batch
            batch, size = [], 0
        batch.append(at)
        size += letter.size
    if batch:
        yield batch


def _to_error(failed: Mapping[str, Any], letter: Letter) -> Exception:
    error = failed.get(UNAVAILABLE)
    if isinstance(error, Exception):
        return error
    words = text_of(failed)
    if is_of_size(words):
        return MessageTooLarge(f"SQS refuses a message of {letter.size} bytes: {words}")
    return Unsupported(f"SQS refuses this message: {words}")


def _summary(refused: Mapping[int, Exception], count: int) -> Exception:
    reasons = list(refused.values())
    if len(refused) == count and all(isinstance(reason, Unavailable) for reason in reasons):
        return reasons[0]
    text = f"{len(refused)} of {count} messages were refused; the first: {reasons[0]}"
    for kind in (DelayTooLong, MessageTooLarge):
        if all(isinstance(reason, kind) for reason in reasons):
            return kind(text, refused)
    return PublishError(text, refused)
