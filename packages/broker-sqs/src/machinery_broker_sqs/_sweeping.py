"""Going through a queue by receiving from it: SQS has no other way of looking into one."""

from __future__ import annotations

import contextlib
from email.utils import parsedate_to_datetime
from time import time
from typing import TYPE_CHECKING, Any, Self

from machinery.errors import MachineryError
from machinery_broker_sqs._batches import UNAVAILABLE, carry_out
from machinery_broker_sqs._content import AT_ONCE
from machinery_broker_sqs._receiving import ORDERED_ATTRIBUTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from machinery_broker_sqs._client import Client
    from machinery_broker_sqs._queues import Queues

HELD_FOR = 60
"""Seconds for which what was looked at is kept from being received again, should we not be able to give it back."""
_SOURCE = "DeadLetterQueueSourceArn"
_WAITING = "ApproximateNumberOfMessages"

Found = dict[str, Any]


class Sweep:
    """One passage through a queue, as a context manager: at its end what was not deleted is given back."""

    def __init__(self, client: Client, queues: Queues, queue: str) -> None:
        self._client = client
        self._queues = queues
        self._queue = queue
        self._held: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(MachineryError):  # then it comes back by itself, in a minute
            self._client.give_back(self._queue, self._queues.address(self._queue), self._held)

    def batches(self) -> Iterator[list[Found]]:
        """All that waits now, ten at a time, each message once. Raises as `Client.call`.

        What is sent meanwhile is left: a dead letter that is sent again may die and be back before the passage has ended.
        """
        address = self._queues.address(self._queue)
        wait = 0
        ends = 0.0
        seen: set[str] = set()
        while True:
            answer = self._client.call(
                "receive_message",
                self._queue,
                QueueUrl=address,
                MaxNumberOfMessages=AT_ONCE,
                WaitTimeSeconds=wait,
                VisibilityTimeout=HELD_FOR,
                AttributeNames=[*ORDERED_ATTRIBUTES, _SOURCE],
                MessageAttributeNames=["All"],
            )
            found: list[Found] = answer.get("Messages") or []
            ends = ends or _answered_at(answer) + 1  # it says whole seconds
            self._held += [message["ReceiptHandle"] for message in found]
            due = [message for message in found if message["MessageId"] not in seen and _sent_at(message) <= ends]
            if due:
                wait = 0
                seen.update(message["MessageId"] for message in due)
                yield due
            elif wait or not int(self._queues.attributes(self._queue, _WAITING).get(_WAITING) or 0):
                return
            else:
                wait = 1  # so that SQS asks all of its servers

    def delete(self, messages: Sequence[Found]) -> int:
        """Delete some of what was found; how many were still there."""
        gone = 0
        for start in range(0, len(messages), AT_ONCE):
            part = messages[start : start + AT_ONCE]
            entries: list[Mapping[str, Any]] = [{"ReceiptHandle": message["ReceiptHandle"]} for message in part]
            address = self._queues.address(self._queue)
            refused = carry_out(self._client, "delete_message_batch", self._queue, address, entries)
            for at, message in enumerate(part):
                if at not in refused:
                    gone += 1
                    self._held.remove(message["ReceiptHandle"])
                elif UNAVAILABLE in refused[at]:
                    raise refused[at][UNAVAILABLE]
        return gone


def _answered_at(answer: Found) -> float:
    """When SQS answered, by its own clock, which its messages' times are of too; Unix seconds."""
    said = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date", "")
    try:
        return parsedate_to_datetime(said).timestamp()
    except ValueError:
        return time()


def _sent_at(message: Found) -> float:
    return int((message.get("Attributes") or {}).get("SentTimestamp", 0)) / 1000


def source_of(message: Found) -> str:
    """The queue that SQS itself moved a message from; empty: it did not."""
    return str((message.get("Attributes") or {}).get(_SOURCE, "")).rpartition(":")[2]
