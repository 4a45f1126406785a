"""How messages wait: on a ladder of queues whose messages expire.

Rung ``n`` is a queue in which a message stays for 2ⁿ milliseconds, and an exchange of the same name before it. A message
carries one header for each rung from its highest down: ``1``, stay here, or ``0``, pass by. What expires on a rung goes to the
exchange of the rung below, and from the lowest to the exchange `OUT`, where every queue is bound with its own name: so any number
of delays of any length, to the millisecond, need 32 queues, and RabbitMQ does all of it by itself. It keeps a message's priority
and its routing key, which is its queue's name.

Rungs are quorum queues, the only ones that let go of what has expired no sooner than the next queue has confirmed it: what a
classic queue sends on is lost when the node dies before it is written. A message may come twice instead.

What has longer to wait than all rungs together waits in a queue of its own (`BEYOND`), and is found in another then (`ONWARDS`),
from which a worker's keeper sends it up again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from machinery_broker_amqp._options import UNLIMITED_DELIVERIES

if TYPE_CHECKING:
    from machinery_broker_amqp._session import Channel, Session

OUT = "machinery.delay.out"
"""The exchange that what has waited long enough leaves by."""
RUNGS = 32
LONGEST = 2**RUNGS - 1
"""Milliseconds that a message can be on the ladder: 49.7 days."""
ONWARDS = "machinery.delay.onwards"
"""The queue in which those are found that have to go up again."""
BEYOND = "machinery.delay.beyond"
"""The queue from which they go there."""
_BEYOND_MS = 2**31
"""How long they stay there: 24.9 days."""


class Ladder:
    """One of the two ladders: for what was sent with an ETA, and for what was handed back for later."""

    def __init__(self, name: str) -> None:
        self.name = name

    def rung(self, number: int) -> str:
        """The name of a rung's queue and exchange."""
        return f"{self.name}.{number:02d}"

    async def standing(self, session: Session) -> list[str]:
        """The names of the rungs that exist, in the order in which messages pass them. Raises pika's errors."""
        found: list[str] = []
        channel = await session.channel()
        try:
            for number in range(RUNGS):
                if await channel.count(self.rung(number)) is None:
                    break
                found.insert(0, self.rung(number))
        finally:
            channel.close()
        return found

    def names(self, milliseconds: int) -> tuple[str, ...]:
        """What `declare` declares for a wait of that many ``milliseconds``."""
        top = min(milliseconds, LONGEST).bit_length()
        rungs = tuple(self.rung(number) for number in range(top))
        return (*rungs, BEYOND) if milliseconds > LONGEST else rungs

    def way(self, milliseconds: int, queue: str) -> tuple[str, str, dict[str, str]]:
        """Exchange, routing key and headers to arrive in ``queue`` after that many ``milliseconds`` (1 at least)."""
        if milliseconds > LONGEST:
            return "", BEYOND, {}
        top = milliseconds.bit_length() - 1
        digits = f"{milliseconds:b}"
        return self.rung(top), queue, {_header(top - place): digit for place, digit in enumerate(digits)}

    async def declare(self, session: Session, milliseconds: int) -> None:
        """Declare all that a wait of that many ``milliseconds`` needs. Raises pika's errors."""
        missing = [name for name in self.names(milliseconds) if name not in session.declared]
        if not missing:
            return
        channel = await session.channel()
        try:
            for name in missing:
                if name == BEYOND:
                    await _declare_beyond(channel)
                else:
                    await self._declare_rung(channel, int(name.rpartition(".")[2]))
                session.declared.add(name)
        finally:
            channel.close()

    async def _declare_rung(self, channel: Channel, number: int) -> None:
        name, raw = self.rung(number), channel.raw
        below = self.rung(number - 1) if number else OUT
        await channel.ask(raw.exchange_declare, name, "headers", durable=True)
        await channel.ask(raw.queue_declare, name, durable=True, arguments=_arguments(2**number, below))
        stay, pass_by = ({"x-match": "all", _header(number): digit} for digit in "10")
        await channel.ask(raw.queue_bind, name, name, routing_key="", arguments=stay)
        await channel.ask(raw.exchange_bind, below, name, routing_key="", arguments=pass_by)


def _header(number: int) -> str:
    return f"machinery_rung_{number:02d}"


def _arguments(milliseconds: int, further: str) -> dict[str, Any]:
    """Of a queue in which messages stay for so long, and go further then, once they have arrived there."""
    return {
        "x-queue-type": "quorum",
        "x-message-ttl": milliseconds,
        "x-dead-letter-exchange": further,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",  # which that strategy wants; there is no limit that could be reached
        "x-delivery-limit": UNLIMITED_DELIVERIES,  # looks count
    }


async def declare_onwards(channel: Channel) -> None:
    """Declare the queue of what has to go up again. Raises pika's errors."""
    await channel.ask(channel.raw.queue_declare, ONWARDS, durable=True, arguments={"x-queue-type": "classic"})


async def _declare_beyond(channel: Channel) -> None:
    await declare_onwards(channel)
    await channel.ask(channel.raw.queue_bind, ONWARDS, OUT, routing_key=ONWARDS)
    arguments = {**_arguments(_BEYOND_MS, OUT), "x-dead-letter-routing-key": ONWARDS}
    await channel.ask(channel.raw.queue_declare, BEYOND, durable=True, arguments=arguments)


DELAYED = Ladder("machinery.delay")
POSTPONED = Ladder("machinery.postponed")
