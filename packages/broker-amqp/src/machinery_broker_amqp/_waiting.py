"""Waiting for final records: told of them by the exchange `FINISHED`, each to a queue of our own that is bound with its uuid."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from machinery.errors import DecodeError
from machinery.wire import decode_state
from machinery_broker_amqp._errors import DRIVER_ERRORS
from machinery_broker_amqp._records import FINISHED

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from machinery.abc import TaskState
    from machinery_broker_amqp._session import Channel, Session


_SHORTEST_PAUSE = 0.01
"""Seconds between two looks, however often is asked for."""


class Waiting:
    """All who wait through one backend. Lives on the loop."""

    def __init__(self, load: Callable[[Session, Sequence[str]], Awaitable[list[TaskState | None]]]) -> None:
        self._load = load
        self._ear: _Ear | None = None
        self._opening: asyncio.Lock | None = None

    async def wait(
        self, session: Session, ids: Sequence[str], longest: float, interval: float
    ) -> list[TaskState | None]:
        """The records once all are final, or ``longest`` seconds are over."""
        if longest <= 0 or not ids:
            return await self._load(session, ids)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + longest
        found: dict[str, TaskState | None] = dict.fromkeys(ids)
        running = set(found)
        all_final = asyncio.Event()

        def on_final(state: TaskState) -> None:
            found[state.task_uuid] = state
            running.discard(state.task_uuid)
            if not running:
                all_final.set()

        ear = await self._listen(session)
        wanted = list(found)
        try:
            await ear.bind(wanted, on_final)
            while True:
                looked_for = list(running)
                for uuid, state in zip(looked_for, await self._load(session, looked_for), strict=True):
                    if state is not None and state.is_completed:
                        on_final(state)
                    elif uuid in running:  # else it was told of meanwhile
                        found[uuid] = state
                left = deadline - loop.time()
                if not running or left <= 0:
                    return [found[uuid] for uuid in ids]
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(all_final.wait(), min(left, max(interval, _SHORTEST_PAUSE)))
        finally:
            ear.unbind(wanted, on_final)

    async def _listen(self, session: Session) -> _Ear:
        if self._opening is None:
            self._opening = asyncio.Lock()
        async with self._opening:
            if self._ear is None or self._ear.channel.reason is not None or self._ear.session is not session:
                ear = _Ear(session, await session.channel())
                await ear.open()
                self._ear = ear
            return self._ear


class _Ear:
    """The queue in which we are told."""

    def __init__(self, session: Session, channel: Channel) -> None:
        self.session = session
        self.channel = channel
        self._queue = ""
        self._listeners: dict[str, list[Callable[[TaskState], None]]] = {}

    async def open(self) -> None:
        raw = self.channel.raw
        await self.channel.ask(raw.exchange_declare, FINISHED, "direct")
        frame = await self.channel.ask(raw.queue_declare, "", exclusive=True, auto_delete=True)
        self._queue = frame.method.queue
        await self.channel.ask(raw.basic_consume, self._queue, self._on_message, auto_ack=True)

    async def bind(self, ids: Sequence[str], listener: Callable[[TaskState], None]) -> None:
        """From now on ``listener`` is told of these."""
        raw = self.channel.raw
        for uuid in ids:
            if uuid not in self._listeners:
                raw.queue_bind(self._queue, FINISHED, routing_key=uuid)
            self._listeners.setdefault(uuid, []).append(listener)
        await self.channel.ask(raw.queue_bind, self._queue, FINISHED, routing_key=ids[-1])

    def unbind(self, ids: Sequence[str], listener: Callable[[TaskState], None]) -> None:
        """And no more."""
        for uuid in ids:
            listeners = self._listeners.get(uuid, [])
            if listener in listeners:
                listeners.remove(listener)
            if not listeners and uuid in self._listeners:
                del self._listeners[uuid]
                if self.channel.reason is None:
                    with contextlib.suppress(*DRIVER_ERRORS):
                        self.channel.raw.queue_unbind(self._queue, FINISHED, routing_key=uuid, callback=_ignore)

    def _on_message(self, _: Any, __: Any, ___: Any, body: bytes) -> None:
        try:
            state = decode_state(body)
        except DecodeError:  # somebody else's: the next look tells
            return
        for listener in list(self._listeners.get(state.task_uuid, ())):
            listener(state)


def _ignore(_: Any) -> None:
    """There is no *no-wait* for unbinding."""
