"""Looking into queues and putting everything back: messages are fetched, kept from others for that moment, and requeued.

RabbitMQ puts what is requeued where it was. It marks it as redelivered, which makes a worker look at its record before it runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import TYPE_CHECKING, Any

import pika

from machinery_broker_amqp._errors import NOT_FOUND, Lost
from machinery_broker_amqp._options import MOST_PREFETCHED
from machinery_broker_amqp._session import Got

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from machinery_broker_amqp._session import Channel, Session


_FETCHED_SINGLY = 50
"""Messages that are asked for one by one."""
_SILENCE = 1.0
"""Seconds after which no more are pushed."""
_LOOKS_BACK = 20
_BETWEEN_LOOKS = 0.02
"""Seconds between two looks whether a queue has back what was given back; others may have taken it at once."""


async def look(session: Session, queue: str, limit: int) -> list[Got]:
    """Up to ``limit`` messages of ``queue``, oldest first, all of them put back; none where there is no such queue."""
    held = Held(queue, limit)
    try:
        await held.fetch(session)
        await held.give_back(session)
    finally:
        held.close()
    return held.messages


async def take(session: Session, queues: Iterable[str], chosen: Callable[[Got], bool], limit: int | None = None) -> int:
    """Delete the ``chosen`` messages of ``queues``; returns how many. All are held at once, so that none slips by."""
    taken = 0
    looked_at: list[Held] = []
    try:
        for queue in queues:
            held = Held(queue, sys.maxsize if limit is None else limit - taken, chosen)
            looked_at.append(held)
            await held.fetch(session)
            await held.delete(session)
            taken += len(held.messages)
            if taken == limit:
                break
        for held in looked_at:
            await held.give_back(session)
    finally:
        for held in looked_at:
            held.close()
    return taken


async def count(session: Session, queue: str) -> int:
    """How many messages wait in ``queue``; 0 where there is no such queue."""
    channel = await session.channel()
    try:
        return await channel.count(queue) or 0
    finally:
        channel.close()


async def purge(session: Session, queue: str) -> int:
    """Delete what waits in ``queue``; returns how many that were."""
    channel = await session.channel()
    try:
        frame = await channel.ask(channel.raw.queue_purge, queue)
    except pika.exceptions.ChannelClosedByBroker as error:
        if error.reply_code != NOT_FOUND:
            raise
        return 0
    finally:
        channel.close()
    return int(frame.method.message_count)


class Held:
    """Messages of one queue that are kept from others while copies of them are sent elsewhere.

    `fetch`, `delete` and `close` run on the loop; what was not deleted goes back.
    """

    def __init__(self, queue: str, limit: int, chosen: Callable[[Got], bool] | None = None) -> None:
        self.messages: list[Got] = []
        """The chosen ones."""
        self._queue = queue
        self._limit = limit
        self._chosen = chosen
        self._channel: Channel | None = None
        self._tags: dict[int, None] = {}

    async def fetch(self, session: Session) -> None:
        """Hold messages until ``limit`` were chosen; none where there is no such queue. Raises pika's errors."""
        if self._limit <= 0:
            return
        channel = self._channel = await session.channel()
        try:
            waiting = await channel.count(self._queue)
            if waiting is None:
                return
            if min(waiting, self._limit) > _FETCHED_SINGLY:
                await self._have_pushed(channel, waiting)
            while len(self.messages) < self._limit and (got := await channel.get(self._queue)) is not None:
                self._note(got)
        except pika.exceptions.ChannelClosedByBroker as error:
            if error.reply_code != NOT_FOUND:
                raise

    def _note(self, got: Got) -> None:
        self._tags[got.tag] = None
        if self._chosen is None or self._chosen(got):
            self.messages.append(got)

    async def _have_pushed(self, channel: Channel, waiting: int) -> None:
        """Let RabbitMQ push them, many at once: one for each question and answer would take long."""
        wanted = min(waiting, self._limit if self._chosen is None else waiting, MOST_PREFETCHED)
        pushed: asyncio.Queue[Got] = asyncio.Queue()

        def on_message(_: Any, method: Any, properties: pika.BasicProperties, body: bytes) -> None:
            pushed.put_nowait(
                Got(method.delivery_tag, method.redelivered, method.routing_key, properties, body, waiting)
            )

        await channel.ask(channel.raw.basic_qos, prefetch_count=wanted)
        frame = await channel.ask(channel.raw.basic_consume, self._queue, on_message)
        with contextlib.suppress(TimeoutError):  # others have taken the rest
            for _ in range(wanted):
                self._note(await asyncio.wait_for(pushed.get(), _SILENCE))
        await channel.ask(channel.raw.basic_cancel, frame.method.consumer_tag)
        while not pushed.empty():
            self._note(pushed.get_nowait())

    async def delete(self, _: Session) -> None:
        """What was chosen is no longer needed. Raises pika's errors."""
        if not self.messages:
            return
        channel = self._channel
        if channel is None or channel.reason is not None:
            raise (channel.reason if channel else None) or Lost("the messages are no longer held")
        for got in self.messages:
            channel.raw.basic_ack(got.tag)
            del self._tags[got.tag]

    async def give_back(self, _: Session) -> None:
        """What was not deleted goes back, and the queue has it: who looks next finds it. Raises pika's errors.

        Without the look one may be quicker, who comes through another channel; a quorum queue takes things back in its own time.
        """
        channel = self._channel
        if channel is None or channel.reason is not None or not self._tags:
            return
        held = len(self._tags)
        self._let_go(channel)
        for _attempt in range(_LOOKS_BACK):
            if (await channel.count(self._queue) or 0) >= held or channel.reason is not None:
                return
            await asyncio.sleep(_BETWEEN_LOOKS)

    def close(self) -> None:
        """Let go of the channel, and of what is still held."""
        channel = self._channel
        if channel is not None and channel.reason is None:
            self._let_go(channel)
            channel.close()

    def _let_go(self, channel: Channel) -> None:
        """One after the other, so that they keep their order in quorum queues too."""
        for tag in self._tags:
            channel.raw.basic_nack(tag, requeue=True)
        self._tags.clear()
