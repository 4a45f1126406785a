"""Records of tasks: in a queue for each task, as Go has it (protocol §4.6).

Go writes one message for every state and takes one away with every look. Here the queue's last word counts, a look puts back what
it took, and a write replaces what was there: whoever has fetched a record's messages is alone with it until they are settled, so
that writers in any number of processes come one after the other. Where there is nothing to be fetched, a queue that only one
connection may have (``machinery.lock.<uuid>``) takes that part.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import OrderedDict
from typing import TYPE_CHECKING

import pika

from machinery.abc import State, TaskState
from machinery.errors import ResultTooLarge
from machinery.wire import decode_state, encode_state
from machinery_broker_amqp._errors import DRIVER_ERRORS, LOCKED, Lost
from machinery_broker_amqp._names import record_lock
from machinery_broker_amqp._publishing import LARGEST_MESSAGE
from machinery_broker_amqp._workbench import Turns, Workshop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence
    from typing import Any

    from machinery_broker_amqp._session import Channel, Got, Session
    from machinery_broker_amqp._workbench import Bench

FINISHED = "machinery.finished"
"""The exchange that is told of every final record, by the task's uuid, for those who wait."""
_FIRST_PAUSE = 0.001
"""Seconds between looks at a queue that is empty, ever longer: somebody else may hold its messages for a moment."""
_LONGEST_PAUSE = 0.05
_BETWEEN_TRIES = 0.02
"""Seconds between attempts to be alone with a record that is not there."""
_REMEMBERED = 20_000
"""Members of Go's groups whose records are remembered as they were found there: Go's readers may take them away."""


class Records:
    """Reads and writes records. Lives on the loop."""

    def __init__(self, workshop: Workshop, lifetime: int) -> None:
        self.life = {"x-message-ttl": lifetime, "x-expires": lifetime}
        """The arguments of a record's queue: Go's."""
        self._workshop = workshop
        self._turns = Turns()
        self._seen: OrderedDict[str, TaskState] = OrderedDict()

    # -- batches ------------------------------------------------------------------------------------------------------------

    async def submit(self, session: Session, states: Sequence[TaskState]) -> None:
        """PENDING in place of whatever was there."""
        await all_of(self._submit(session, state) for state in states)

    async def save(self, session: Session, states: Sequence[TaskState]) -> list[TaskState]:
        """Write records unless final ones are there; returns those now stored. Raises `ResultTooLarge`."""
        stored = await all_of(self._save(session, state) for state in states)
        too_large = [state.task_uuid for state, found in zip(states, stored, strict=True) if found is None]
        if too_large:
            raise ResultTooLarge(
                f"{len(too_large)} of {len(states)} records are too large for RabbitMQ, which takes {LARGEST_MESSAGE} bytes: "
                f"{too_large[0]}",
                too_large,
            )
        return [found for found in stored if found is not None]

    async def load(self, session: Session, ids: Sequence[str]) -> list[TaskState | None]:
        """Records in the order of ``ids``."""
        return await all_of(self._load(session, uuid) for uuid in ids)

    async def forget(self, session: Session, ids: Sequence[str]) -> None:
        """Delete records."""

        async def delete(uuid: str) -> None:
            self._seen.pop(uuid, None)
            async with self._workshop.bench(session) as bench:
                await bench.channel.ask(bench.raw.queue_delete, uuid)

        await all_of(delete(uuid) for uuid in ids)

    # -- one record ---------------------------------------------------------------------------------------------------------

    async def _submit(self, session: Session, state: TaskState) -> None:
        uuid = state.task_uuid
        self._seen.pop(uuid, None)
        async with self._turns.turn(uuid), self._workshop.bench(session) as bench:
            self._declare(bench, uuid)
            bench.raw.queue_purge(uuid)
            await bench.publish(uuid, encode_state(state))

    async def _save(self, session: Session, state: TaskState) -> TaskState | None:
        """What is stored then; ``None``: it is too large."""
        uuid = state.task_uuid
        async with self._turns.turn(uuid):
            stored: TaskState | None = await self._replace(session, uuid, lambda current: _written_over(current, state))
        if stored is not None and stored.is_completed and not stored.was_final:
            await self._tell(session, stored)
        return stored

    async def renew(self, session: Session, state: TaskState) -> None:
        """Write a final record again, whatever is there, so that it lives from now on."""
        async with self._turns.turn(state.task_uuid):
            await self._replace(session, state.task_uuid, lambda current: _renewed(current, state))

    async def _replace(
        self, session: Session, uuid: str, decide: Callable[[TaskState | None], TaskState]
    ) -> TaskState | None:
        """Put what ``decide`` makes of the record in its place, unless it is a final one that stays."""
        async with self._workshop.bench(session) as bench:
            held = await self.hold(bench, uuid)
            if held:
                return await self._write(bench, uuid, held, decide)
        async with _Alone(session, record_lock(uuid)):
            async with self._workshop.bench(session) as bench:
                held = await self.hold(bench, uuid)
                if held is not None:
                    return await self._write(bench, uuid, held, decide)
            async with self._workshop.bench(session) as bench:  # the look has closed the other one
                return await self._write(bench, uuid, [], decide)

    async def _write(
        self, bench: Bench, uuid: str, held: Sequence[Got], decide: Callable[[TaskState | None], TaskState]
    ) -> TaskState | None:
        current = last_word(got.body for got in held)
        state = decide(current)
        body = encode_state(state)
        if state.was_final or len(body) > LARGEST_MESSAGE:
            bench.let_go(held)
            return state if state.was_final else None
        if not held:
            self._declare(bench, uuid)
        while not await bench.publish(uuid, body):  # it expired in this moment
            self._declare(bench, uuid)
        bench.drop(held)
        return state

    async def _load(self, session: Session, uuid: str) -> TaskState | None:
        async with self._turns.turn(uuid):
            found = await self.read(session, uuid)
        return found or self._seen.get(uuid)

    async def read(self, session: Session, queue: str) -> TaskState | None:
        """The last word of ``queue``, which stays as it is; ``None``: there is none."""
        async with self._workshop.bench(session) as bench:
            held = await self.hold(bench, queue)
            if not held:
                return None
            try:
                return last_word(got.body for got in held)
            finally:
                bench.let_go(held)

    def remember(self, states: Iterable[TaskState]) -> None:
        """These were found elsewhere, and their own queues may be empty by now: Go's readers take away what they read."""
        for state in states:
            self._seen[state.task_uuid] = state
            self._seen.move_to_end(state.task_uuid)
        while len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)

    async def hold(self, bench: Bench, queue: str, looks: int = 12) -> list[Got] | None:
        """All of a queue's messages. Empty only when nobody else seems to hold them, after that many ``looks``."""
        held = await bench.hold(queue)
        for look in range(1, looks):
            if held or held is None:
                break
            await asyncio.sleep(min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**look) * random.uniform(0.5, 1.0))  # noqa: S311 - to take turns
            held = await bench.hold(queue)
        return held

    def _declare(self, bench: Bench, uuid: str) -> None:
        bench.raw.queue_declare(uuid, auto_delete=True, arguments=self.life)

    async def _tell(self, session: Session, state: TaskState) -> None:
        """Tell those who wait. Nobody may: then it goes nowhere."""
        # The record is stored: should telling fail, who waits looks by itself.
        with contextlib.suppress(*DRIVER_ERRORS, Lost):
            await self._tell_anybody(session, state)

    async def _tell_anybody(self, session: Session, state: TaskState) -> None:
        async with self._workshop.bench(session) as bench:
            if FINISHED not in session.declared:
                await bench.channel.ask(bench.raw.exchange_declare, FINISHED, "direct")
                session.declared.add(FINISHED)
            bench.tell(FINISHED, state.task_uuid, encode_state(state))


class _Alone:
    """A queue that no other connection may have, for a block: what keeps two processes from writing the same first record."""

    def __init__(self, session: Session, name: str) -> None:
        self._session = session
        self._name = name

    async def __aenter__(self) -> None:
        while True:
            channel = await self._session.channel()
            try:
                await channel.ask(channel.raw.queue_declare, self._name, exclusive=True, auto_delete=True)
            except pika.exceptions.ChannelClosedByBroker as error:
                if error.reply_code != LOCKED:
                    raise
                await asyncio.sleep(_BETWEEN_TRIES)
            except asyncio.CancelledError:
                _let_go(channel, self._name)  # it may have been declared by now, and would lock others out
                raise
            else:
                self._channel = channel
                return

    async def __aexit__(self, *_: object) -> None:
        _let_go(self._channel, self._name)


def _let_go(channel: Channel, lock: str) -> None:
    if channel.reason is None:
        channel.raw.queue_delete(lock)
        channel.close()


def last_word(bodies: Iterable[bytes]) -> TaskState | None:
    """The record that these messages say, oldest first: the first final one after the last PENDING. Raises `DecodeError`."""
    found: TaskState | None = None
    for body in bodies:
        state = decode_state(body)
        if found is None or state.state is State.PENDING:
            found = state
        elif not found.is_completed:
            found = state.with_origin_of(found)
    return found


def _written_over(current: TaskState | None, state: TaskState) -> TaskState:
    if current is None:
        return state
    return current.as_found() if current.is_completed else state.with_origin_of(current)


def _renewed(current: TaskState | None, state: TaskState) -> TaskState:
    """``state`` again, unless the task was sent again meanwhile."""
    return state if current is None or current.is_completed else current


async def all_of(work: Iterable[Awaitable[Any]]) -> list[Any]:
    """All results, once all have come: none is left at work when one fails."""
    results = await asyncio.gather(*work, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return list(results)
