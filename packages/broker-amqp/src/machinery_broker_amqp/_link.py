"""One connection for one purpose: made when it is needed, made again when it was lost, served by a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import os
import random
import threading
import time
from concurrent import futures
from typing import TYPE_CHECKING, Any, TypeVar

from pika.adapters.asyncio_connection import AsyncioConnection

from machinery.errors import Closed, Unavailable
from machinery_broker_amqp._errors import DRIVER_ERRORS, Lost, translate
from machinery_broker_amqp._session import Session

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import pika

    from machinery_broker_amqp._options import Service

T = TypeVar("T")

FIRST_PAUSE = 0.05
"""Seconds between two attempts to connect, twice as many after each; half of each pause is left to chance."""
LONGEST_PAUSE = 5.0
CLOSING = 2.0
"""Seconds that closing may take: what was written before has arrived by then, or the connection is dead."""
MARGIN = 5.0
"""Seconds that a call may take beyond what its steps may: the loop's own."""


class Link:
    """A connection and the thread that serves it. `call` and `post` are for any thread, the rest is for that thread's loop.

    After a fork the child makes its own.
    """

    def __init__(self, service: Service, purpose: str, unavailable: type[Unavailable]) -> None:
        self.service = service
        self._purpose = purpose
        self._unavailable = unavailable
        self._guard = threading.Lock()
        self._closed = False
        self._start_afresh()

    def _start_afresh(self) -> None:
        self._session: Session | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connecting: asyncio.Task[Session] | None = None
        self._failures = 0
        self._next_try = 0.0
        self._process = os.getpid()

    @property
    def session(self) -> Session | None:
        """The connection of the moment, of this process. Its `Session.reason` says whether it lives."""
        return self._session if self._process == os.getpid() else None

    # -- from any thread ----------------------------------------------------------------------------------------------------

    def call(self, work: Callable[[Session], Awaitable[T]], *, timeout: float | None = None) -> T:
        """What ``work`` returns, done on a living connection. Raises our errors, and the `Unavailable` family after ``timeout``.

        ``timeout``: seconds; left out: as long as it takes to connect, and to be answered.
        """
        loop = self._started()
        limit = self.service.answer_timeout if timeout is None else timeout
        future = asyncio.run_coroutine_threadsafe(self._do(work, limit), loop)
        try:
            return future.result(limit + self.service.connect_timeout + MARGIN)
        except futures.TimeoutError:
            future.cancel()
            raise self.translated(TimeoutError("its connection's thread is stuck")) from None
        except futures.CancelledError:
            raise Closed("it was closed") from None

    def post(self, callback: Callable[..., object], *arguments: Any) -> bool:
        """Have ``callback`` called on the loop soon. False: there is none, since nothing was ever connected or all is closed."""
        loop = self._loop
        if loop is None or self._process != os.getpid():
            return False
        try:
            loop.call_soon_threadsafe(callback, *arguments)
        except RuntimeError:  # it was closed just now
            return False
        return True

    def drop(self, why: str) -> None:
        """Give the connection up, for one that does not answer."""
        self.post(self._drop, why)

    def check_open(self) -> None:
        """Raise `Closed` after `close`."""
        if self._closed:
            raise Closed(f"this {self._purpose} was closed")

    @property
    def is_closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        """Close the connection and end the thread."""
        with self._guard:
            if self._closed:
                return
            self._closed = True
            loop, self._loop = self._loop, None
        if loop is None or self._process != os.getpid():
            return
        with contextlib.suppress(futures.TimeoutError, futures.CancelledError):
            asyncio.run_coroutine_threadsafe(self._shut(), loop).result(CLOSING + 1)
        loop.call_soon_threadsafe(loop.stop)
        if threading.current_thread() is not self._thread:
            self._thread.join(CLOSING)

    def translated(self, error: BaseException) -> Exception:
        """What to raise instead of ``error``."""
        if isinstance(error, TimeoutError) and self.session is not None and self.session.blocked:
            return self._unavailable(
                f"RabbitMQ at {self.service.address} takes no messages at the moment ({self.session.blocked}); it goes on by "
                "itself once it has memory and disk again"
            )
        return translate(error, self._unavailable, self.service.address)

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._guard:
            self.check_open()
            if self._process != os.getpid():
                self._start_afresh()  # the parent's socket is left alone
            if self._loop is None:
                loop = self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=_serve, args=(loop,), name=f"machinery-amqp-{self._purpose}", daemon=True
                )
                self._thread.start()
            return self._loop

    # -- on the loop --------------------------------------------------------------------------------------------------------

    async def _do(self, work: Callable[[Session], Awaitable[T]], limit: float) -> T:
        try:
            session = await asyncio.wait_for(self.connected(), self.service.connect_timeout)
            return await asyncio.wait_for(work(session), limit)
        except asyncio.CancelledError:
            raise
        except DRIVER_ERRORS as error:
            raise self.translated(error) from None
        except Lost as error:
            raise self.translated(error) from None

    async def connected(self) -> Session:
        """A living connection. Those who ask while one is made share the attempt."""
        if self.session is not None and self.session.reason is None:
            return self.session
        if self._connecting is None or self._connecting.done():
            self._connecting = asyncio.ensure_future(self._connect())
            self._connecting.add_done_callback(_note)
        return await asyncio.shield(self._connecting)

    async def _connect(self) -> Session:
        await asyncio.sleep(max(0.0, self._next_try - time.monotonic()))
        self._next_try = time.monotonic() + FIRST_PAUSE * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, hides nothing
        failure: BaseException = Lost("no address to connect to")
        for node in self.service.nodes:
            try:
                session = self._session = await self._open(node)
            except (*DRIVER_ERRORS, Lost) as error:
                failure = error
            else:
                self._failures = 0
                return session
        self._failures += 1
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(self._failures, 30))
        self._next_try = time.monotonic() + pause * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, hides nothing
        raise failure

    async def _open(self, node: pika.ConnectionParameters) -> Session:
        loop = asyncio.get_running_loop()
        opened: asyncio.Future[AsyncioConnection] = loop.create_future()
        ended: list[BaseException] = []
        session: Session | None = None

        def on_close(connection: Any, reason: BaseException) -> None:
            ended.append(reason)
            if session is not None:
                session.lost(connection, reason)

        def on_done(result: Any) -> None:
            if opened.done():
                if isinstance(result, AsyncioConnection) and result.is_open:
                    result.close()
            elif isinstance(result, BaseException):
                opened.set_exception(result)
            else:
                opened.set_result(result)

        named = copy.copy(node)
        named.client_properties = {
            **(node.client_properties or {}),
            "connection_name": f"{self.service.options.client_name} {self._purpose}",
        }
        workflow = AsyncioConnection.create_connection([named], on_done, custom_ioloop=loop)
        try:
            connection = await asyncio.wait_for(opened, self.service.connect_timeout)
        except (TimeoutError, asyncio.CancelledError):
            with contextlib.suppress(*DRIVER_ERRORS):
                workflow.abort()
            raise
        connection.add_on_close_callback(on_close)
        session = Session(connection, loop)
        if ended:
            session.lost(connection, ended[0])
        return session

    def _drop(self, why: str) -> None:
        if self.session is not None:
            self.session.drop(why)

    async def _shut(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
        if self.session is not None:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self.session.close(), CLOSING)
            if self.session.reason is None:
                self.session.drop("closed")


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        while tasks := asyncio.all_tasks(loop):  # whoever waits for one of them is told
            for task in tasks:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.close()


def _note(task: asyncio.Task[Session]) -> None:
    """Look at the outcome: nobody else may, when all who asked have given up."""
    if not task.cancelled():
        task.exception()
