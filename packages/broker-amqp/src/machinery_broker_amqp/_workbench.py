"""Channels for a backend's work on single queues: lent to one task of the loop at a time, with confirms."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pika

from machinery_broker_amqp._errors import NOT_FOUND
from machinery_broker_amqp._session import Channel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from machinery_broker_amqp._session import Got, Session

_AT_ONCE = 8
"""Channels in use at the same time: so many queues are worked on side by side."""
_PERSISTENT = 2
"""As Go has it, though what lies in these queues does not outlive the node."""


class Bench:
    """One channel on which queues are read and written, one step after the other."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.raw = channel.raw
        self._tag = 0
        self._confirmed: asyncio.Future[None] | None = None
        self._awaited = 0
        self._is_returned = False
        channel.on_closed.append(self._on_closed)
        self.raw.add_on_return_callback(self._on_return)

    async def start(self) -> None:
        """Switch confirms on."""
        await self.channel.ask(self.raw.confirm_delivery, self._on_confirm)

    async def publish(self, queue: str, body: bytes, headers: Mapping[str, Any] | None = None) -> bool:
        """Put a message into ``queue``. Whether there is such a queue. Raises what closed the channel."""
        if self.channel.reason is not None:
            raise self.channel.reason
        self._is_returned = False
        confirmed = self._confirmed = self.channel.loop.create_future()
        self._tag += 1
        self._awaited = self._tag
        self.raw.basic_publish("", queue, body, _properties(headers), mandatory=True)
        await confirmed
        return not self._is_returned

    def tell(self, exchange: str, key: str, body: bytes) -> None:
        """Tell an exchange, whoever listens."""
        self._tag += 1
        self.raw.basic_publish(exchange, key, body, _properties())

    async def hold(self, queue: str) -> list[Got] | None:
        """All messages of ``queue``, kept from others until settled; ``None``: there is none, and the channel is closed."""
        held: list[Got] = []
        try:
            while (got := await self.channel.get(queue)) is not None:
                held.append(got)
                if not got.left:
                    break
        except pika.exceptions.ChannelClosedByBroker as error:
            if error.reply_code == NOT_FOUND:
                return None
            raise
        return held

    def let_go(self, held: Sequence[Got]) -> None:
        """These go back to where they were."""
        for got in held:
            self.raw.basic_nack(got.tag, requeue=True)

    def drop(self, held: Sequence[Got]) -> None:
        """These are no longer needed."""
        for got in held:
            self.raw.basic_ack(got.tag)

    async def count(self, queue: str) -> int | None:
        """How many messages ``queue`` has; ``None``: no such queue, and the channel is closed."""
        return await self.channel.count(queue)

    def _on_confirm(self, frame: Any) -> None:
        confirmed = self._confirmed
        method = frame.method
        is_it = method.delivery_tag >= self._awaited if method.multiple else method.delivery_tag == self._awaited
        if confirmed is None or confirmed.done() or not is_it:
            return
        if type(method) is pika.spec.Basic.Ack:
            confirmed.set_result(None)
        else:
            confirmed.set_exception(pika.exceptions.NackError([]))

    def _on_return(self, *_: Any) -> None:
        self._is_returned = True

    def _on_closed(self, reason: BaseException) -> None:
        if self._confirmed is not None and not self._confirmed.done():
            self._confirmed.set_exception(reason)


def _properties(headers: Mapping[str, Any] | None = None) -> pika.BasicProperties:
    return pika.BasicProperties(content_type="application/json", delivery_mode=_PERSISTENT, headers=dict(headers or {}))


class Workshop:
    """The benches of one backend."""

    def __init__(self) -> None:
        self._session: Session | None = None
        self._free: list[Bench] = []
        self._places: asyncio.Semaphore | None = None

    @asynccontextmanager
    async def bench(self, session: Session) -> AsyncIterator[Bench]:
        """A bench of one's own for the block. A block that asks for a second one while others do the same may wait for ever."""
        if self._session is not session or self._places is None:
            self._session, self._free, self._places = session, [], asyncio.Semaphore(_AT_ONCE)
        places = self._places
        async with places:
            bench = self._take()
            if bench is None:
                bench = Bench(await session.channel())
                await bench.start()
            try:
                yield bench
            except BaseException:
                bench.channel.close()  # what is held on it goes back
                raise
            if self._session is session and bench.channel.reason is None:
                self._free.append(bench)

    def _take(self) -> Bench | None:
        while self._free:
            bench = self._free.pop()
            if bench.channel.reason is None:
                return bench
        return None


class Turns:
    """One task of the loop at a time for each name, in the order of asking."""

    def __init__(self) -> None:
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def turn(self, name: str) -> AsyncIterator[None]:
        """Alone with ``name`` for the block."""
        lock, users = self._locks.get(name) or (asyncio.Lock(), 0)
        self._locks[name] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._locks[name]
            if users == 1:
                del self._locks[name]
            else:
                self._locks[name] = (lock, users - 1)
