"""Dead letters: in the queue that a queue's redrive policy names, with their reason in an attribute.

SQS moves messages there too, those that were received too often: they have no reason, and tell their queue in their own way.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from machinery.abc import DeadLetter
from machinery_broker_sqs._content import (
    COPY,
    KEY,
    QUEUE,
    REASON,
    decode_body,
    said,
    to_id,
    to_text,
    with_ours,
)
from machinery_broker_sqs._publishing import Letter
from machinery_broker_sqs._sweeping import Sweep, source_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from machinery_broker_sqs._client import Client
    from machinery_broker_sqs._publishing import Publisher
    from machinery_broker_sqs._queues import Queues
    from machinery_broker_sqs._sweeping import Found

_LONGEST_REASON = 20_000
"""Characters that are kept."""
_OURS = (QUEUE, REASON, KEY, COPY)


class DeadLetters:
    """The dead letters of one broker's queues."""

    def __init__(self, client: Client, queues: Queues, publisher: Publisher) -> None:
        self._client = client
        self._queues = queues
        self._publisher = publisher

    def to_letter(self, queue: str, text: str, attributes: Mapping[str, Any], group: str, reason: str) -> Letter:
        """What is to be kept of a message that died in ``queue``. In a group of its own: none is behind another."""
        ours = {QUEUE: queue, REASON: to_text(reason[:_LONGEST_REASON]), KEY: group}
        return Letter(text, with_ours(text, attributes, **ours))

    def listed(self, queue: str, limit: int) -> list[DeadLetter]:
        """Up to ``limit``, in the order in which SQS gives them, which is about that of their deaths."""
        target = self._queues.require_dead_letters_of(queue)
        found: list[DeadLetter] = []
        if limit <= 0:
            return found
        with self._sweep(target) as sweep:
            for batch in self._batches(sweep, queue):
                found += [_to_dead_letter(message, queue) for message in batch]
                if len(found) >= limit:
                    break
        return sorted(found, key=lambda letter: letter.died_at)[:limit]

    def delete(self, queue: str, ids: Sequence[str] | None) -> int:
        """Delete all, or those named."""
        target = self._queues.require_dead_letters_of(queue)
        wanted = None if ids is None else set(ids)
        deleted = 0
        if wanted is not None and not wanted:
            return 0
        with self._sweep(target) as sweep:
            for batch in self._batches(sweep, queue):
                deleted += sweep.delete(_named(batch, wanted))
                if wanted is not None and not wanted:
                    break
        return deleted

    def send_again(self, queue: str, ids: Sequence[str] | None) -> int:
        """Put all, or those named, back into their queue; each is deleted once it is there."""
        target = self._queues.require_dead_letters_of(queue)
        wanted = None if ids is None else set(ids)
        sent = 0
        if wanted is not None and not wanted:
            return 0
        with self._sweep(target) as sweep:
            for batch in self._batches(sweep, queue):
                chosen = _named(batch, wanted)
                refused = self._publisher.send(queue, [_to_fresh_letter(message) for message in chosen])
                sweep.delete([message for at, message in enumerate(chosen) if at not in refused])
                for error in refused.values():
                    raise error
                sent += len(chosen)
                if wanted is not None and not wanted:
                    break
        return sent

    def _sweep(self, target: str) -> Sweep:
        return Sweep(self._client, self._queues, target)

    def _batches(self, sweep: Sweep, queue: str) -> Iterator[list[Found]]:
        """The letters of one queue: several may have their dead letters in one place."""
        for batch in sweep.batches():
            yield [message for message in batch if _queue_of(message) in {queue, ""}]


def _attributes(message: Found) -> Mapping[str, Any]:
    found: Mapping[str, Any] = message.get("MessageAttributes") or {}
    return found


def _queue_of(message: Found) -> str:
    return said(_attributes(message), QUEUE) or source_of(message)


def _named(batch: Sequence[Found], wanted: set[str] | None) -> list[Found]:
    """Those that are wanted, which they then are no more; ``None``: all."""
    if wanted is None:
        return [*batch]
    chosen = [message for message in batch if message["MessageId"] in wanted]
    wanted.difference_update(message["MessageId"] for message in chosen)
    return chosen


def _to_fresh_letter(message: Found) -> Letter:
    attributes = _attributes(message)
    kept = {name: value for name, value in attributes.items() if name not in _OURS}
    group = said(attributes, KEY) or message["Attributes"].get("MessageGroupId", "")
    return Letter(message["Body"], kept, group=to_id(group) if group else "", dedup_id=uuid4().hex)


def _to_dead_letter(message: Found, queue: str) -> DeadLetter:
    attributes, system = _attributes(message), message["Attributes"]
    reason = said(attributes, REASON)
    if not reason:
        reason = "received too often (the queue's redrive policy)" if source_of(message) else "not known"
    died_at = datetime.fromtimestamp(int(system["SentTimestamp"]) / 1000, UTC)
    return DeadLetter(message["MessageId"], decode_body(message["Body"], attributes), queue, reason, died_at)
