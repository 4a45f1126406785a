"""Dead letters: in a topic beside the queue's, with their reason in an attribute, read through a subscription of their own.

What Pub/Sub itself has moved there, by a subscription's dead-letter policy, is listed with the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from time import time
from typing import Any

from machinery.abc import DeadLetter
from machinery.errors import Unsupported
from machinery_broker_gcp._client import Client, PubsubMessage
from machinery_broker_gcp._looking import pull, purge
from machinery_broker_gcp._names import (
    DELIVERY_COUNT,
    DIED_AT,
    LONGEST_ATTRIBUTE,
    REASON,
    check_queue,
    dead_of,
    without_ours,
)
from machinery_broker_gcp._publishing import Publisher

_MOST_LOOKED_AT = 10_000
"""Letters looked at to find the oldest: in no other way does Pub/Sub say which they are."""


class DeadLetters:
    """The dead letters of one broker's queues."""

    def __init__(self, client: Client, publisher: Publisher) -> None:
        self._client = client
        self._publisher = publisher

    def bury(self, queue: str, messages: Sequence[Any], reason: str) -> None:
        """Keep copies of what died in ``queue``. Raises `MachineryError`."""
        marks = {REASON: _shortened(reason), DIED_AT: datetime.now(UTC).isoformat()}
        self._publisher.put(
            dead_of(queue),
            [PubsubMessage(data=each.data, attributes={**without_ours(each.attributes), **marks}) for each in messages],
        )

    def list(self, queue: str, limit: int) -> list[DeadLetter]:
        """Up to ``limit``, oldest first. They are on loan to us for the moment that takes."""
        subscription = self._subscription(queue)
        if limit <= 0:
            return []
        found: list[Any] = []
        try:
            for received in pull(self._client, subscription, max(limit, _MOST_LOOKED_AT)):
                found += received
        finally:
            self._client.modify(subscription, [each.ack_id for each in found], 0)
        letters = [_to_letter(each.message, queue) for each in found]
        return sorted(letters, key=lambda letter: letter.died_at)[:limit]

    def delete(self, queue: str, ids: Sequence[str] | None) -> int:
        """Delete all, or those named."""
        subscription = self._subscription(queue)
        if ids is None:
            return purge(self._client, subscription)
        return self._take(subscription, ids, lambda _: None)

    def send_again(self, queue: str, ids: Sequence[str] | None) -> int:
        """Put all there are, or those named, back into their queue; each is deleted once it is there."""

        def send(received: Sequence[Any]) -> None:
            fresh = [
                PubsubMessage(data=each.message.data, attributes=without_ours(each.message.attributes))
                for each in received
            ]
            self._publisher.put(queue, fresh)

        return self._take(self._subscription(queue), ids, send)

    def _take(self, subscription: str, ids: Sequence[str] | None, use: Any) -> int:
        """Those named; else all but what dies meanwhile: what is sent again may die at once, and there would be no end."""
        wanted, begin = None if ids is None else frozenset(ids), time()
        if wanted is not None and not wanted:
            return 0
        taken, others = 0, []
        try:
            for received in pull(self._client, subscription, 2**31 - 1):
                chosen = [
                    each
                    for each in received
                    if (
                        each.message.publish_time.seconds <= begin
                        if wanted is None
                        else each.message.message_id in wanted
                    )
                ]
                chosen_ids = {each.ack_id for each in chosen}
                others += [each.ack_id for each in received if each.ack_id not in chosen_ids]
                if chosen:
                    others += (ids_of_chosen := [each.ack_id for each in chosen])
                    use(chosen)
                    self._client.acknowledge(subscription, ids_of_chosen)
                    del others[-len(ids_of_chosen) :]
                    taken += len(chosen)
                if wanted is not None and taken >= len(wanted):
                    break
        finally:
            self._client.modify(subscription, others, 0)
        return taken

    def _subscription(self, queue: str) -> str:
        self._client.check_open()
        if not self._client.service.options.dead_letters:
            raise Unsupported("gcp_pub_sub.dead_letters is off: nothing keeps what was given up")
        return self._client.names.subscription(dead_of(check_queue(queue)))


def _to_letter(message: Any, queue: str) -> DeadLetter:
    attributes = message.attributes
    reason = attributes.get(REASON, "")
    if not reason and (attempts := attributes.get(DELIVERY_COUNT, "")):
        reason = f"Pub/Sub gave it up after {attempts} deliveries (max_delivery_attempts)"
    try:
        died_at = datetime.fromisoformat(attributes.get(DIED_AT, ""))
    except ValueError:  # Pub/Sub put it there, or somebody else
        died_at = message.publish_time.ToDatetime(UTC)
    return DeadLetter(message.message_id, message.data, queue, reason, died_at)


def _shortened(reason: str) -> str:
    encoded = reason.encode("utf-8", "replace")
    if len(encoded) <= LONGEST_ATTRIBUTE:
        return encoded.decode()
    return encoded[: LONGEST_ATTRIBUTE - 3].decode("utf-8", "ignore") + "…"
