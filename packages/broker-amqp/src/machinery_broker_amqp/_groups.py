"""Groups: Go's queue of finished members' states (protocol §4.6), and what Go lacks beside it.

===============================  =====================================================================================
queue                            holds
===============================  =====================================================================================
``<group>``                      Go's: the state of each member that has ended, as long as a record lives
``machinery.group.<group>``      the group's metadata, its callback in a header
``machinery.ended.<group>``      the record of each member that has ended, for as long as the group is open
``machinery.pulse.<group>``      one small message, replaced whenever a member ends: the group is there while it lives
``machinery.claim.<group>``      nothing; who has claimed the chord is one of its arguments, which no other can match
``machinery.closed.<group>``     metadata and claimant of a group that has ended, as long as a record lives
``machinery.open.<exchange>``    the name of each chord that was begun by those who share an exchange
===============================  =====================================================================================

None of them outlives the node, as the records do not.
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pika

from machinery.abc import GroupMeta, Signature, StoredGroup, TaskState
from machinery.errors import DecodeError, GroupNotFound
from machinery.wire import decode_group, decode_signature, decode_state, encode_group, encode_signature, encode_state
from machinery_broker_amqp._errors import DIFFERENT, NOT_FOUND, REFUSED
from machinery_broker_amqp._records import all_of
from machinery_broker_amqp._workbench import Turns

if TYPE_CHECKING:
    from typing import Any

    from machinery_broker_amqp._records import Records
    from machinery_broker_amqp._session import Got, Session
    from machinery_broker_amqp._workbench import Bench, Workshop

_REGISTRY = {"x-message-ttl": 30 * 24 * 3600 * 1000}
"""The same whatever is configured: all servers share it. Who looks takes out what has ended; this is for when nobody does."""
GO = "go"
"""The claimant of a chord that a Go worker has set off."""
_CALLBACK = "machinery_callback"
_CLAIMANT = "machinery_claimant"
_MEMBER = "machinery_member"
_SIGNATURE = "x-dead-letter-routing-key"
"""The argument that holds a claimant's name."""
_LOOKS = 24
"""How often an empty queue of a group is looked at, about a second: all who end members read the same few messages."""
_GO_READS = 5.0
"""Seconds that a Go worker may take to read a group's states."""
_BETWEEN_LOOKS = 0.05
_SHARE = 10
"""Which part of a record's life is not worth a second writing."""
_REMEMBERED = 200_000
"""Members whose groups are remembered."""
_REMEMBERED_GROUPS = 2_000
"""Groups of which it is remembered whom this process has noted."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class _Pulse:
    """When a member of an open group last ended, and who has claimed its chord."""

    at: datetime
    size: int = 0
    claimant: str = ""

    def encoded(self) -> bytes:
        at = (self.at - _EPOCH) // timedelta(microseconds=1)
        return json.dumps({"at": at, "size": self.size, "claimant": self.claimant}).encode()


def _group_queue(group: str) -> str:
    return f"machinery.group.{group}"


def _ended_queue(group: str) -> str:
    return f"machinery.ended.{group}"


def _pulse_queue(group: str) -> str:
    return f"machinery.pulse.{group}"


def _claim_queue(group: str) -> str:
    return f"machinery.claim.{group}"


def _closed_queue(group: str) -> str:
    return f"machinery.closed.{group}"


class Groups:
    """Reads and writes groups. Lives on the loop."""

    def __init__(self, workshop: Workshop, records: Records, lifetime: int, exchange: str) -> None:
        self._registry = f"machinery.open.{exchange}"
        self._workshop = workshop
        self._records = records
        self._life = {"x-expires": lifetime}
        self._mortal = {"x-expires": lifetime, "x-message-ttl": lifetime}
        self._turns = Turns()
        self._group_of: OrderedDict[str, str] = OrderedDict()
        self._noted: dict[str, set[str]] = {}
        self._told: dict[str, None] = {}

    # -- making and reading -------------------------------------------------------------------------------------------------

    async def create(self, session: Session, group: GroupMeta, callback: Signature | None) -> None:
        """Keep a group, in place of an earlier one of that id."""
        uuid = group.group_uuid
        headers = {_CALLBACK: encode_signature(callback).decode()} if callback is not None else {}
        async with self._turns.turn(uuid), self._workshop.bench(session) as bench:
            raw = bench.raw
            for name in (uuid, _ended_queue(uuid), _pulse_queue(uuid), _claim_queue(uuid), _closed_queue(uuid)):
                raw.queue_delete(name)
            raw.queue_declare(_group_queue(uuid), arguments=self._life)
            raw.queue_purge(_group_queue(uuid))
            raw.queue_declare(_ended_queue(uuid), arguments=self._life)
            await bench.publish(_group_queue(uuid), encode_group(group), headers)
            await self._beat(bench, uuid, _Pulse(datetime.now(UTC), len(group.task_uuids)))
            if callback is not None:
                raw.queue_declare(self._registry, arguments=_REGISTRY)
                await bench.publish(self._registry, uuid.encode())
        self._noted.pop(uuid, None)
        self._remember(uuid, group.task_uuids)

    async def load(self, session: Session, uuid: str) -> StoredGroup:
        """The group. Raises `GroupNotFound`."""
        pulse = await self._pulse(session, uuid)
        if pulse is not None and (kept := await self._peek(session, _group_queue(uuid))):
            stored = _stored(kept[0], pulse.claimant)
            self._remember(uuid, stored.meta.task_uuids)
            return stored
        if closed := await self._peek(session, _closed_queue(uuid)):
            return _stored(closed[0], str((closed[0].properties.headers or {}).get(_CLAIMANT, "")))
        states = [decode_state(got.body) for got in await self._counted_by_go(session, uuid)]
        if not states and uuid not in self._told:
            raise _not_found(uuid)
        self._records.remember(states)
        members = tuple(dict.fromkeys(state.task_uuid for state in states))
        self._remember(uuid, members)
        return StoredGroup(GroupMeta(uuid, members), made_by_go=True)

    async def _counted_by_go(self, session: Session, group: str) -> list[Got]:
        """The members' states in Go's queue; none while a Go worker reads them, nor after it has."""
        try:
            return await self._peek(session, group)
        except pika.exceptions.ChannelClosedByBroker as error:
            if error.reply_code != REFUSED:
                raise
            return []

    # -- ending -------------------------------------------------------------------------------------------------------------

    async def finish(self, session: Session, pairs: Sequence[tuple[str, str]]) -> list[int]:
        """Note members that have ended; returns for each how many of its group have."""
        members: dict[str, list[str]] = {}
        for group, member in pairs:
            members.setdefault(group, []).append(member)
        counts = await all_of(self._finish(session, group, ended) for group, ended in members.items())
        each = {group: iter(counted) for group, counted in zip(members, counts, strict=True)}
        return [next(each[group]) for group, _ in pairs]

    async def _finish(self, session: Session, group: str, members: Sequence[str]) -> list[int]:
        """The counts after each of a group's ``members`` that have ended."""
        async with self._turns.turn(group):
            pulse = await self._pulse(session, group)
            if pulse is None:
                # Go made the group, or it has ended. Go counts by the states of its members.
                if not await self._exists(session, _closed_queue(group)):
                    self._told[group] = None
                    await all_of(self._tell_go(session, group, member) for member in dict.fromkeys(members))
                return [0] * len(members)
            self._remember(group, members)
            noted = self._noted.setdefault(group, set())
            new = [member for member in dict.fromkeys(members) if member not in noted]
            await all_of(self._keep(session, group, member) for member in new)
            noted.update(new)
            async with self._workshop.bench(session) as bench:
                # Each use of a queue lets it live on.
                bench.raw.queue_declare(_group_queue(group), arguments=self._life)
                frame = await bench.channel.ask(bench.raw.queue_declare, _ended_queue(group), arguments=self._life)
                gos = await bench.channel.ask(
                    bench.raw.queue_declare, group, auto_delete=True, arguments=self._records.life
                )
                await self._beat(bench, group, replace(pulse, at=datetime.now(UTC)))
            ended = int(frame.method.message_count)
            if ended >= pulse.size:  # a member whose message came to two workers was noted twice
                found = await self._peek(session, _ended_queue(group))
                ended = len({_member_of(got) for got in found})
            return _counts(members, set(new), max(ended, int(gos.method.message_count)))

    async def _keep(self, session: Session, group: str, member: str) -> None:
        """Keep the record of a member that has ended, for as long as its group is open."""
        record = await self._tell_go(session, group, member)
        async with self._workshop.bench(session) as bench:
            body = b"" if record is None else encode_state(record)
            await bench.publish(_ended_queue(group), body, {_MEMBER: member})

    async def kept(self, session: Session, ids: Sequence[str]) -> dict[str, TaskState]:
        """Of these tasks, whose own records are gone, those that are kept with a group that is open."""
        groups = {self._group_of[uuid]: None for uuid in ids if uuid in self._group_of}
        wanted = set(ids)
        found: dict[str, TaskState] = {}
        for group in groups:
            async with self._turns.turn(group):
                ended = await self._peek(session, _ended_queue(group))
            found |= {
                member: decode_state(got.body) for got in ended if got.body and (member := _member_of(got)) in wanted
            }
        return found

    def _remember(self, group: str, members: Sequence[str]) -> None:
        for member in members:
            self._group_of[member] = group
            self._group_of.move_to_end(member)
        while len(self._group_of) > _REMEMBERED:
            self._group_of.popitem(last=False)
        for groups in (self._noted, self._told):
            while len(groups) > _REMEMBERED_GROUPS:
                del groups[next(iter(groups))]

    async def _tell_go(self, session: Session, group: str, member: str) -> TaskState | None:
        """Add a member's record to those that Go's workers count. Returns it."""
        record = await self._records.read(session, member)
        if record is not None:
            async with self._workshop.bench(session) as bench:
                bench.raw.queue_declare(group, auto_delete=True, arguments=self._records.life)
                await bench.publish(group, encode_state(record))
        return record

    async def claim(self, session: Session, group: str, claimant: str) -> bool:
        """True to the first who asks, and to that one each time; false when a Go worker was first. Raises `GroupNotFound`."""
        async with self._turns.turn(group):
            pulse = await self._pulse(session, group)
            if pulse is not None and pulse.claimant:
                return pulse.claimant == claimant
            if pulse is None and (closed := await self._peek(session, _closed_queue(group))):
                return (closed[0].properties.headers or {}).get(_CLAIMANT) == claimant
            if pulse is None and group not in self._told:
                raise _not_found(group)
            won = await self._compete(session, group, claimant, is_ours=pulse is not None)
            if won and pulse is not None:
                async with self._workshop.bench(session) as bench:
                    await self._beat(bench, group, replace(pulse, claimant=claimant))
            return won

    async def _compete(self, session: Session, group: str, claimant: str, *, is_ours: bool) -> bool:
        """Do as a Go worker that sets a chord off, so that no other does: read the states that they count, alone; and sign."""
        deadline = session.loop.time() + _GO_READS
        while session.loop.time() < deadline:
            channel = await session.channel()
            try:
                await channel.ask(channel.raw.basic_qos, prefetch_count=1)
                await channel.ask(channel.raw.basic_consume, group, _ignore, exclusive=True)
                if not is_ours:
                    await self._keep_gos(session, group, claimant)
                return await self._sign(session, group, claimant)
            except pika.exceptions.ChannelClosedByBroker as error:
                if error.reply_code == NOT_FOUND:
                    return await self._come_late(session, group, claimant, is_ours=is_ours)
                if error.reply_code != REFUSED:
                    raise
            finally:
                channel.close()  # and with its last reader the queue goes
            await asyncio.sleep(_BETWEEN_LOOKS)
        await self._sign(session, group, GO)
        return False

    async def _come_late(self, session: Session, group: str, claimant: str, *, is_ours: bool) -> bool:
        """Nobody counts any more: one of us has signed, a Go worker has set the chord off, or all has expired."""
        if not is_ours or await self._exists(session, _claim_queue(group)):
            return is_ours and await self._sign(session, group, claimant)
        kept = await self._peek(session, _group_queue(group))
        callback = _stored(kept[0], "").callback if kept else None
        # Go stores the callback's state soon after it has read.
        for pause in (0.0, _BETWEEN_LOOKS, 10 * _BETWEEN_LOOKS):
            await asyncio.sleep(pause)
            if callback is not None and await self._exists(session, callback.uuid):
                await self._sign(session, group, GO)
                return False
        return await self._sign(session, group, claimant)

    async def _keep_gos(self, session: Session, group: str, claimant: str) -> None:
        """Keep the members of a group that Go has made, for the one who has claimed its chord: the queue goes in a moment."""
        members = [uuid for uuid, of in self._group_of.items() if of == group]
        meta = GroupMeta(group, tuple(members), chord_triggered=True)
        async with self._workshop.bench(session) as bench:
            bench.raw.queue_declare(_closed_queue(group), arguments=self._records.life)
            await bench.publish(_closed_queue(group), encode_group(meta), {_CLAIMANT: claimant})

    async def _sign(self, session: Session, group: str, claimant: str) -> bool:
        """Whether the chord is ``claimant``'s: the first one's name is an argument of a queue, which another's does not match."""
        channel = await session.channel()
        # RabbitMQ compares only the arguments that it knows; nothing is ever put into this queue, nor leaves it.
        arguments = {**self._life, "x-dead-letter-exchange": "", _SIGNATURE: claimant}
        try:
            await channel.ask(channel.raw.queue_declare, _claim_queue(group), arguments=arguments)
        except pika.exceptions.ChannelClosedByBroker as error:
            if error.reply_code != DIFFERENT or _SIGNATURE not in error.reply_text:
                raise
            return False
        finally:
            channel.close()
        return True

    async def close(self, session: Session, uuid: str) -> None:
        """The group has ended: what belongs to it lives as long as a record from now on."""
        async with self._turns.turn(uuid):
            pulse = await self._pulse(session, uuid)
            kept = [] if pulse is None else await self._peek(session, _group_queue(uuid))
            if pulse is None or not kept:
                return
            await self._renew_members(session, decode_group(kept[0].body))
            headers = {**(kept[0].properties.headers or {}), _CLAIMANT: pulse.claimant}
            async with self._workshop.bench(session) as bench:
                raw = bench.raw
                raw.queue_declare(_closed_queue(uuid), arguments=self._records.life)
                raw.queue_purge(_closed_queue(uuid))
                await bench.publish(_closed_queue(uuid), kept[0].body, headers)
                for name in (_pulse_queue(uuid), _group_queue(uuid), _ended_queue(uuid), _claim_queue(uuid)):
                    await bench.channel.ask(raw.queue_delete, name)

    async def _renew_members(self, session: Session, group: GroupMeta) -> None:
        """Write the records of a group's members again, unless they have most of their lives before them."""
        age = (datetime.now(UTC) - group.created_at) // timedelta(milliseconds=1)
        if age * _SHARE <= self._records.life["x-expires"]:
            return
        ended = await self._peek(session, _ended_queue(group.group_uuid))
        await all_of(self._records.renew(session, decode_state(got.body)) for got in ended if got.body)

    async def idle(self, session: Session, since: datetime, limit: int) -> list[str]:
        """Open chords in which nothing happened since then, longest idle first."""
        async with self._workshop.bench(session) as bench:
            held = await bench.hold(self._registry) or []
            found: dict[str, datetime] = {}
            over: list[Got] = []
            staying: list[Got] = []
            for got in held:
                uuid = got.body.decode(errors="replace")
                pulse = None if uuid in found else await self._pulse(session, uuid)
                (over if pulse is None else staying).append(got)
                if pulse is not None:
                    found[uuid] = pulse.at
            bench.drop(over)
            bench.let_go(staying)
        return [uuid for uuid, at in sorted(found.items(), key=lambda item: item[1]) if at < since][:limit]

    # -- steps --------------------------------------------------------------------------------------------------------------

    async def _beat(self, bench: Bench, group: str, pulse: _Pulse) -> None:
        arguments = {**self._mortal, "x-max-length": 1}
        bench.raw.queue_declare(_pulse_queue(group), arguments=arguments)
        await bench.publish(_pulse_queue(group), pulse.encoded())

    async def _pulse(self, session: Session, group: str) -> _Pulse | None:
        found = await self._peek(session, _pulse_queue(group))
        if not found:
            return None
        try:
            said: Any = json.loads(found[-1].body)
            return _Pulse(_EPOCH + timedelta(microseconds=said["at"]), int(said["size"]), str(said["claimant"]))
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            raise DecodeError(f"the pulse of the group {group} cannot be read: {error}") from None

    async def _peek(self, session: Session, queue: str) -> list[Got]:
        """All messages of ``queue``, which stay there; none where there is no such queue."""
        async with self._workshop.bench(session) as bench:
            held = await self._records.hold(bench, queue, _LOOKS) or []
            bench.let_go(held)
        return held

    async def _exists(self, session: Session, queue: str) -> bool:
        async with self._workshop.bench(session) as bench:
            return await bench.count(queue) is not None


def _counts(members: Sequence[str], new: AbstractSet[str], ended: int) -> list[int]:
    """How many had ended after each of ``members``; the ``new`` ones were not noted before, ``ended`` have in all."""
    count = ended - len(new)
    left = set(new)
    counts = []
    for member in members:
        if member in left:
            left.remove(member)
            count += 1
        counts.append(count)
    return counts


def _member_of(got: Got) -> str:
    return str((got.properties.headers or {}).get(_MEMBER, ""))


def _stored(got: Got, claimant: str) -> StoredGroup:
    callback = (got.properties.headers or {}).get(_CALLBACK)
    return StoredGroup(
        replace(decode_group(got.body), chord_triggered=bool(claimant)),
        None if callback is None else decode_signature(str(callback).encode()),
    )


def _not_found(uuid: str) -> GroupNotFound:
    return GroupNotFound(
        f"there is no group {uuid}: it was never sent through this backend, it has expired, or RabbitMQ was restarted since"
    )


def _ignore(*_: Any) -> None:
    """What is pushed to a reader that only wants to be alone."""
