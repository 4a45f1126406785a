"""One connection to RabbitMQ while it lives, and its channels, to be awaited. All of it runs on the loop of its `Link`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any, NamedTuple

import pika
from pika import spec
from pika.adapters.asyncio_connection import AsyncioConnection

from machinery_broker_amqp._errors import DIFFERENT, DRIVER_ERRORS, LOCKED, NOT_FOUND, REFUSED, Lost

if TYPE_CHECKING:
    from collections.abc import Callable


_EXPECTED = frozenset({REFUSED, NOT_FOUND, LOCKED, DIFFERENT})
"""Codes with which RabbitMQ closes a channel of ours by way of an answer: what is not there, locked, or different."""


class _Answers(logging.Filter):
    """Leaves out of pika's log that a channel of ours was closed by way of an answer; whoever asked tells what it means."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to log it."""
        arguments = record.args if isinstance(record.args, tuple) else ()
        return not (len(arguments) == 3 and arguments[0] in getattr(arguments[2], "machinery_expects", ()))  # noqa: PLR2004


logging.getLogger("pika.channel").addFilter(_Answers())


class Got(NamedTuple):
    """A message that was fetched from a queue and is not settled yet."""

    tag: int
    redelivered: bool
    routing_key: str
    properties: pika.BasicProperties
    body: bytes
    left: int
    """How many messages the queue has besides."""


class Session:
    """A connection that was opened. Once `reason` is set, it is lost, with all its channels."""

    def __init__(self, connection: AsyncioConnection, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.reason: BaseException | None = None
        """Why it was lost; ``None``: it lives."""
        self.blocked = ""
        """Why RabbitMQ takes no messages at the moment; empty: it does."""
        self.declared: set[str] = set()
        """What was declared through it, by the names of those who declare."""
        self.on_lost: list[Callable[[BaseException], None]] = []
        self._connection = connection
        self._closed = asyncio.Event()
        connection.add_on_connection_blocked_callback(self._on_blocked)
        connection.add_on_connection_unblocked_callback(self._on_unblocked)

    @property
    def version(self) -> str:
        """What the server says of itself, such as ``RabbitMQ 3.10.8``."""
        said = self._connection.server_properties or {}
        return f"{said.get('product', 'a server')} {said.get('version', 'of unknown version')}"

    async def channel(self) -> Channel:
        """A new channel."""
        self._check()
        opened: asyncio.Future[Any] = self.loop.create_future()
        forget = self._fail_when_lost(opened)
        self._connection.channel(on_open_callback=_setter(opened))
        try:
            channel = Channel(await opened, self.loop)
        finally:
            forget()
        self.on_lost.append(channel.lost)
        channel.on_closed.append(lambda _: self._forget(channel.lost))
        return channel

    def drop(self, why: str) -> None:
        """Give the connection up at once, without a word to RabbitMQ."""
        self.lost(None, Lost(why))
        with contextlib.suppress(*DRIVER_ERRORS):
            transport = self._connection._transport  # noqa: SLF001 - pika has no other way to end a connection that does not answer
            if transport is not None:
                transport.abort()

    async def close(self) -> None:
        """Close it as the protocol has it: what was written before arrives."""
        with contextlib.suppress(*DRIVER_ERRORS):
            if self.reason is None:
                self._connection.close()
                await self._closed.wait()

    def lost(self, _: Any, reason: BaseException) -> None:
        """It is closed, whoever closed it."""
        self._closed.set()
        if self.reason is None:
            self.reason = reason
            told, self.on_lost = self.on_lost, []
            for callback in told:
                callback(reason)

    def _check(self) -> None:
        if self.reason is not None:
            raise self.reason

    def _fail_when_lost(self, future: asyncio.Future[Any]) -> Callable[[], None]:
        def fail(reason: BaseException) -> None:
            if not future.done():
                future.set_exception(reason)

        self.on_lost.append(fail)
        return lambda: self._forget(fail)

    def _forget(self, callback: Callable[[BaseException], None]) -> None:
        if callback in self.on_lost:
            self.on_lost.remove(callback)

    def _on_blocked(self, _: Any, frame: Any) -> None:
        self.blocked = frame.method.reason or "no reason given"

    def _on_unblocked(self, *_: Any) -> None:
        self.blocked = ""


class Channel:
    """A channel whose methods can be awaited. Once `reason` is set, it is closed."""

    def __init__(self, raw: Any, loop: asyncio.AbstractEventLoop) -> None:
        self.raw = raw
        """pika's."""
        self.reason: BaseException | None = None
        self.on_closed: list[Callable[[BaseException], None]] = []
        self.loop = loop
        self._waiting: set[asyncio.Future[Any]] = set()
        self._getting: asyncio.Future[Any] | None = None
        raw.add_on_close_callback(lambda _, reason: self.lost(reason))
        raw.machinery_expects = _EXPECTED
        raw.add_callback(self._on_empty, [spec.Basic.GetEmpty], one_shot=False)

    async def ask(self, method: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Call one of pika's methods that take a ``callback``, and await the answer. Raises what closed the channel."""
        answer = self._expect()
        method(*arguments, callback=_setter(answer), **named)
        return await self._await(answer)

    async def get(self, queue: str) -> Got | None:
        """Fetch one message, to be settled; ``None`` when there is none."""
        answer = self._getting = self._expect()

        def on_message(_: Any, method: Any, properties: pika.BasicProperties, body: bytes) -> None:
            if not answer.done():
                answer.set_result(
                    Got(
                        method.delivery_tag,
                        method.redelivered,
                        method.routing_key,
                        properties,
                        body,
                        method.message_count,
                    )
                )

        self.raw.basic_get(queue, on_message)
        found: Got | None = await self._await(answer)
        return found

    async def count(self, queue: str) -> int | None:
        """How many messages wait in ``queue``; ``None``: there is no such queue, and the channel is closed."""
        try:
            frame = await self.ask(self.raw.queue_declare, queue, passive=True)
        except pika.exceptions.ChannelClosedByBroker as error:
            if error.reply_code == NOT_FOUND:
                return None
            raise
        return int(frame.method.message_count)

    def close(self) -> None:
        """Close it. What was fetched and not settled goes back."""
        if self.reason is None:
            with contextlib.suppress(*DRIVER_ERRORS):
                self.raw.close()

    def _expect(self) -> asyncio.Future[Any]:
        if self.reason is not None:
            raise self.reason
        answer: asyncio.Future[Any] = self.loop.create_future()
        self._waiting.add(answer)
        return answer

    async def _await(self, answer: asyncio.Future[Any]) -> Any:
        try:
            return await answer
        finally:
            self._waiting.discard(answer)

    def _on_empty(self, _: Any) -> None:
        if self._getting is not None and not self._getting.done():
            self._getting.set_result(None)

    def lost(self, reason: BaseException) -> None:
        """It is closed, whoever closed it: pika does not say so of a connection that we have given up."""
        if self.reason is not None:
            return
        self.reason = reason
        for answer in self._waiting:
            if not answer.done():
                answer.set_exception(reason)
        for callback in self.on_closed:
            callback(reason)


def _setter(future: asyncio.Future[Any]) -> Callable[[Any], None]:
    """A callback that gives ``future`` its result, unless it has one."""

    def set_result(result: Any) -> None:
        if not future.done():
            future.set_result(result)

    return set_result
