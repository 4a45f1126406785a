"""Sends on what has longer to wait than RabbitMQ can keep it at a time (`_ladder.ONWARDS`)."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from machinery.abc import Message
from machinery.errors import PublishError, Unavailable
from machinery_broker_amqp._ladder import ONWARDS, declare_onwards
from machinery_broker_amqp._looking import Held
from machinery_broker_amqp._names import ETA, QUEUE
from machinery_broker_amqp._publishing import own_headers

if TYPE_CHECKING:
    from machinery_broker_amqp._dead_letters import DeadLetters
    from machinery_broker_amqp._link import Link
    from machinery_broker_amqp._publishing import Publisher
    from machinery_broker_amqp._session import Got, Session

EVERY = 60.0
"""Seconds between two looks."""
_AT_ONCE = 100


class Forwarding:
    """The forwarding of one broker, for the keepers of its consumers."""

    def __init__(self, link: Link, publisher: Publisher, dead_letters: DeadLetters, default_queue: str) -> None:
        self._link = link
        self._publisher = publisher
        self._dead_letters = dead_letters
        self._default_queue = default_queue
        self._next = 0.0

    def run(self) -> float:
        """Send on what is there. Returns in how many seconds to do so again. Raises `BrokerUnavailable`."""
        now = time.monotonic()
        if now < self._next:
            return self._next - now
        self._next = now + EVERY
        while self._forward():
            pass
        return EVERY

    def _forward(self) -> bool:
        held = Held(ONWARDS, _AT_ONCE)

        async def fetch(session: Session) -> None:
            channel = await session.channel()
            await declare_onwards(channel)
            channel.close()
            await held.fetch(session)

        try:
            self._link.call(fetch)
            if not held.messages:
                return False
            found = len(held.messages)
            held.messages = self._send_on(held.messages)
            self._link.call(held.delete)
        finally:
            self._link.post(held.close)
        return len(held.messages) == found

    def _send_on(self, found: list[Got]) -> list[Got]:
        """Publish them anew. Returns those that are done with: what nobody can send goes to the default queue's dead letters."""
        try:
            self._publisher.publish([_to_message(got) for got in found])
        except PublishError as error:
            refused = error.failures
        else:
            return found
        dead = [
            (got, refused[at]) for at, got in enumerate(found) if not isinstance(refused.get(at), Unavailable | None)
        ]
        for got, reason in dead:
            self._dead_letters.bury(
                self._default_queue, [(got.body, got.properties)], f"it cannot be sent on: {reason}"
            )
        return [got for at, got in enumerate(found) if not isinstance(refused.get(at), Unavailable)]


def _to_message(got: Got) -> Message:
    headers = got.properties.headers or {}
    try:
        eta = datetime.fromisoformat(str(headers.get(ETA, "")))
    except ValueError:
        eta = datetime.now(UTC)
    return Message(
        got.body, str(headers.get(QUEUE, "")), eta, got.properties.priority or 0, headers=own_headers(got.properties)
    )
