"""Publishing: messages by topic, in calls as large as Pub/Sub takes, and what was refused by position."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from machinery.abc import Message
from machinery.errors import BrokerUnavailable, ConfigError, MachineryError, MessageTooLarge, PublishError, Unsupported
from machinery_broker_gcp._client import PUBLISH, Client, Publish, PubsubMessage
from machinery_broker_gcp._names import ETA, ORDERING_KEY, check_queue, delay_of, without_ours

MESSAGES_AT_ONCE = 1000
"""Messages in one call, by Pub/Sub's limits."""
BYTES_AT_ONCE = 10_000_000
"""Bytes in one call, likewise."""
LARGEST_MESSAGE = 9_980_000
"""Bytes of a body: what fits into one call, with room for the names and attributes beside it."""
LONGEST_KEY = 1024
"""Bytes of an ordering key, by Pub/Sub's limits."""
_OVERHEAD = 16
"""Bytes that a message costs in a call besides its own, at most."""


class Publisher:
    """Sends. Safe from any thread."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def publish(self, messages: Sequence[Message]) -> None:
        """Messages of core. Raises as `machinery.abc.Broker.publish`."""
        now = datetime.now(UTC)
        failures: dict[int, Exception] = {}
        accepted: dict[str, list[tuple[int, Any]]] = defaultdict(list)
        for position, message in enumerate(messages):
            try:
                topic, content = _to_content(message, now)
            except (ConfigError, MessageTooLarge, Unsupported) as error:
                failures[position] = error
                continue
            accepted[topic].append((position, content))
        for topic, contents in accepted.items():
            failures |= self._send(topic, contents)
        if not failures:
            return
        first = failures[min(failures)]
        if len(failures) == len(messages) and all(isinstance(each, BrokerUnavailable) for each in failures.values()):
            raise first
        kind = MessageTooLarge if all(isinstance(each, MessageTooLarge) for each in failures.values()) else PublishError
        raise kind(f"{len(failures)} of {len(messages)} messages were refused; the first: {first}", failures)

    def put(self, topic: str, contents: Sequence[Any]) -> None:
        """What is Pub/Sub's already, to a topic of that short name. Raises `MachineryError` unless all of it was accepted."""
        for error in self.try_to_put(topic, contents).values():
            raise error

    def try_to_put(self, topic: str, contents: Sequence[Any]) -> dict[int, Exception]:
        """As `put`; returns by position what was not accepted."""
        return self._send(topic, list(enumerate(contents)))

    def _send(self, topic: str, contents: Sequence[tuple[int, Any]]) -> dict[int, Exception]:
        """Send in order. Once a call fails for want of the service, the rest is not tried."""
        name = self._client.names.topic(topic)
        failures: dict[int, Exception] = {}
        away: BrokerUnavailable | None = None
        for batch in _batches(contents):
            if away is None:
                try:
                    self._client.call(PUBLISH, Publish(topic=name, messages=[content for _, content in batch]))
                    continue
                except BrokerUnavailable as error:
                    reason: MachineryError = error
                    away = error
                except (ConfigError, Unsupported) as error:
                    reason = error
            else:
                reason = away
            failures |= dict.fromkeys([position for position, _ in batch], reason)
        return failures


def _to_content(message: Message, now: datetime) -> tuple[str, Any]:
    """The topic and what goes there. What is due is as Go writes it: no attributes (protocol §5.2)."""
    queue = check_queue(message.queue)
    if len(message.body) > LARGEST_MESSAGE:
        raise MessageTooLarge(
            f"a message of {len(message.body)} bytes is too large: Pub/Sub takes {LARGEST_MESSAGE}; keep what is large elsewhere "
            "and send where it is"
        )
    if not message.body:
        raise Unsupported("a message without a body says nothing, and Pub/Sub takes none")
    key = message.ordering_key
    if len(key.encode()) > LONGEST_KEY:
        raise Unsupported(f"an ordering key of {len(key.encode())} bytes is too long: Pub/Sub takes {LONGEST_KEY}")
    if message.eta is None or message.eta <= now:
        return queue, PubsubMessage(data=message.body, ordering_key=key)
    return delay_of(queue), waiting(message.body, message.eta, {}, key)


def waiting(body: bytes, eta: datetime, attributes: Mapping[str, str], ordering_key: str) -> Any:
    """What waits until ``eta`` in a queue's topic of delays."""
    marks = {ETA: eta.astimezone(UTC).isoformat()}
    if ordering_key:
        marks[ORDERING_KEY] = ordering_key
    return PubsubMessage(data=body, attributes={**without_ours(attributes), **marks})


def due(message: Any) -> Any:
    """What waited, as it goes to its queue."""
    return PubsubMessage(
        data=message.data,
        attributes=without_ours(message.attributes),
        ordering_key=message.attributes.get(ORDERING_KEY, "") or message.ordering_key,
    )


def _batches(contents: Sequence[tuple[int, Any]]) -> Iterator[list[tuple[int, Any]]]:
    """In calls as Pub/Sub takes them: of its size, and each with one ordering key. Those of one key stay in order."""
    by_key: dict[str, list[tuple[int, Any]]] = defaultdict(list)
    for position, content in contents:
        by_key[content.ordering_key].append((position, content))
    for same in by_key.values():
        yield from _batches_of_one_key(same)


def _batches_of_one_key(contents: Sequence[tuple[int, Any]]) -> Iterator[list[tuple[int, Any]]]:
    batch: list[tuple[int, Any]] = []
    size = LONGEST_KEY  # for the topic's name
    for position, content in contents:
        more = content.ByteSize() + _OVERHEAD
        if batch and (len(batch) >= MESSAGES_AT_ONCE or size + more > BYTES_AT_ONCE):
            yield batch
            batch, size = [], LONGEST_KEY
        batch.append((position, content))
        size += more
    if batch:
        yield batch
