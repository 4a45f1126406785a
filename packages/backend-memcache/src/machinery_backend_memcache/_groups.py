"""Groups and chords: Go's metadata under the group's uuid, and beside it what makes a member cost the same in any group.

Memcached changes one item at a time, and may throw out any item at any time. So what must not be half done is one item: who
claimed the chord stands in Go's metadata itself, under a key that Go passes over. What is counted is counted so that a crash or
an item thrown out can only make the count too high, or unknown (0): then the members' records are looked at, and they are the
truth. A count that is too low would let a chord wait for ever.
"""

from __future__ import annotations

import json
import math
import random
from dataclasses import dataclass, replace
from time import monotonic, sleep
from typing import TYPE_CHECKING

from machinery.abc import GroupMeta, StoredGroup
from machinery.errors import DecodeError, GroupNotFound, GroupTooLarge
from machinery.wire import decode_group, decode_signature, encode_group, encode_signature
from machinery_backend_memcache._ends import end_in
from machinery_backend_memcache._exchange import (
    NOT_FOUND,
    STORED,
    TOO_LARGE,
    Item,
    to_count,
    to_delete,
    to_store,
    to_touch,
)
from machinery_backend_memcache._keys import GroupKeys, group_keys, is_key, to_key
from machinery_backend_memcache._open_groups import progress_now

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from machinery.abc import Signature
    from machinery_backend_memcache._open_groups import OpenGroups
    from machinery_backend_memcache._records import Records
    from machinery_backend_memcache._servers import Command, Servers

MEMBER = len('"task_12345678-1234-1234-1234-123456789012",')
"""Bytes of a member with an id as Go and we make it."""
BESIDE_MEMBERS = 1024
"""Bytes of the metadata for all else: the group's id, the claimant's, the rest of Go's keys."""
ROOM_FOR_CLAIM = 800
"""Bytes of these for who claims the chord."""
LOCK_PATIENCE = 2.0
"""Seconds for which a group that Go has locked is waited for: no Go worker that lives keeps it for longer than a moment."""
CLAIMANT = "Claimant"
"""The key in the metadata that names the member which claimed the chord. Go passes over it."""


@dataclass(frozen=True, slots=True)
class _Joining:
    """Members of one group to be noted as finished, and which answers are theirs."""

    keys: GroupKeys
    server: int
    positions: list[int]
    members: list[str]
    """Each once."""


class Groups:
    """The groups on some servers."""

    def __init__(
        self, servers: Servers, records: Records, open_groups: OpenGroups, *, lifetime: float, closed_lifetime: float
    ) -> None:
        self._servers = servers
        self._records = records
        self._renewal = max(1, math.ceil(lifetime / 4))
        """Seconds after which the next member that finishes renews all that belongs to the group: now and then, not each time."""
        self._live = lifetime_kept(lifetime)
        self._closed_lifetime = closed_lifetime
        """Seconds that it lives after its end."""
        self._open = open_groups
        self.largest = largest_group(records.largest)
        """Members."""

    def create(self, group: GroupMeta, callback: Signature | None) -> None:
        """Write the group, in place of an earlier one. Its metadata comes last: whoever sees it sees all."""
        keys, meta, ours = self._checked(group, callback)
        server, _ = self._servers.place(keys.meta)
        self._records.keep(group.task_uuids)
        end = end_in(self._live)
        commands = [to_delete(keys.finished(member)) for member in group.task_uuids]
        commands += [
            to_store(b"set", keys.ours, ours, end),
            to_store(b"set", keys.count, b"0", end),
            to_store(b"set", keys.kept, b"", end_in(self._renewal)),
            to_store(b"set", keys.progress, progress_now(), end) if callback is not None else to_delete(keys.progress),
            to_store(b"set", keys.meta, meta, end),
        ]
        answers = self._servers.ask([(server, command) for command in commands])
        if any(said.startswith(TOO_LARGE) for said in answers):
            raise GroupTooLarge(
                f"the group of {len(group.task_uuids)} is too large: memcached at {self._servers.addresses[server]} takes "
                "smaller items than memcache.item_size_max says; raise its -I"
            )
        if callback is not None:
            self._open.add(keys)

    def _checked(self, group: GroupMeta, callback: Signature | None) -> tuple[GroupKeys, bytes, bytes]:
        count = len(group.task_uuids)
        for member in group.task_uuids:
            to_key(member)
        meta = encode_group(group)
        if count > self.largest or len(meta) + ROOM_FOR_CLAIM > self._records.largest:
            raise GroupTooLarge(
                f"a group of {count} is too large: memcached keeps the ids of a group in one item, which has room for about "
                f"{self.largest} members (its -I, our memcache.item_size_max)"
            )
        ours = encode_signature(callback) if callback is not None else b""
        if len(ours) > self._records.largest:
            raise GroupTooLarge(f"the callback of the group is too large for memcached: it has {len(ours)} bytes")
        return group_keys(group.group_uuid), meta, ours

    def load(self, group_uuid: str) -> StoredGroup:
        """The group."""
        keys = _keys_of(group_uuid)
        server, _ = self._servers.place(keys.meta)
        found = self._servers.fetch([(server, keys.meta), (server, keys.ours)])
        meta, ours = found.get(keys.meta), found.get(keys.ours)
        if meta is None:
            raise _not_found(group_uuid)
        callback = decode_signature(ours.value) if ours is not None and ours.value else None
        return StoredGroup(decode_group(meta.value), callback, made_by_go=ours is None)

    # -- joining -------------------------------------------------------------------------------------------------------------

    def finish(self, pairs: Sequence[tuple[str, str]]) -> list[int]:
        """Note members as finished, in one round trip to each server; now and then let their groups live on.

        They are counted first and marked in the same breath; a member that was marked before is then taken off the count again.
        """
        joinings = self._joinings(pairs)
        end = end_in(self._live)
        answers = iter(self._servers.ask([command for joining in joinings for command in self._marking(joining, end)]))
        counts = [0] * len(pairs)
        mending: list[tuple[_Joining, list[bool], Command]] = []
        for joining in joinings:
            count, due, _ = next(answers), next(answers), next(answers)
            fresh = [next(answers) == STORED for _ in joining.members]
            if count == NOT_FOUND:
                self._unmark(joining, fresh)
                continue
            if all(fresh):
                _number(joining, int(count), fresh, pairs, counts)
            else:
                known = fresh.count(False)
                mending.append((joining, fresh, (joining.server, to_count(b"decr", joining.keys.count, known))))
            if due == STORED:
                self._renew(joining.keys)
        for (joining, fresh, _), count in zip(mending, self._servers.ask([each[2] for each in mending]), strict=True):
            if count != NOT_FOUND:
                _number(joining, int(count), fresh, pairs, counts)
        return counts

    def _joinings(self, pairs: Sequence[tuple[str, str]]) -> list[_Joining]:
        by_group: dict[str, list[int]] = {}
        for at, (group_uuid, _) in enumerate(pairs):
            if is_key(group_uuid):
                by_group.setdefault(group_uuid, []).append(at)
        joinings = []
        for group_uuid, positions in by_group.items():
            keys = group_keys(group_uuid)
            server, _ = self._servers.place(keys.meta)
            joinings.append(_Joining(keys, server, positions, list(dict.fromkeys(pairs[at][1] for at in positions))))
        return joinings

    def _marking(self, joining: _Joining, end: int) -> list[Command]:
        keys = joining.keys
        commands = [
            to_count(b"incr", keys.count, len(joining.members)),
            to_store(b"add", keys.kept, b"", end_in(self._renewal)),
            to_store(b"replace", keys.progress, progress_now(), end),
            *[to_store(b"add", keys.finished(member), b"", end) for member in joining.members],
        ]
        return [(joining.server, command) for command in commands]

    def _unmark(self, joining: _Joining, fresh: Sequence[bool]) -> None:
        """There is no such group of ours, so leave nothing of it behind."""
        keys = [
            joining.keys.finished(member) for member, is_fresh in zip(joining.members, fresh, strict=True) if is_fresh
        ]
        self._servers.ask([(joining.server, to_delete(key)) for key in [*keys, joining.keys.kept]])

    def _renew(self, keys: GroupKeys) -> None:
        """Let all that belongs to the group live on."""
        members = self._members(keys)
        self._servers.ask([*self._touching(keys, members, end_in(self._live)), *self._records.renewing(members)])

    def _touching(self, keys: GroupKeys, members: Iterable[str], end: int) -> list[Command]:
        ours = [keys.meta, keys.ours, keys.count, *[keys.finished(member) for member in members]]
        server, _ = self._servers.place(keys.meta)
        return [(server, to_touch(key, end)) for key in ours]

    def _members(self, keys: GroupKeys) -> tuple[str, ...]:
        item = self._meta(keys)
        try:
            return decode_group(item.value).task_uuids if item is not None else ()
        except DecodeError:
            return ()

    def _meta(self, keys: GroupKeys) -> Item | None:
        return self._servers.fetch([self._servers.place(keys.meta)]).get(keys.meta)

    # -- claiming ------------------------------------------------------------------------------------------------------------

    def claim(self, group_uuid: str, claimant: str) -> bool:
        """Whether ``claimant`` is the one to send the callback, or what its failure sets off.

        Who claims writes its name into the metadata, if these are still what it has read.
        """
        keys = _keys_of(group_uuid)
        give_up_on_lock = monotonic() + LOCK_PATIENCE
        while True:
            item = self._meta(keys)
            if item is None:
                raise _not_found(group_uuid)
            meta = decode_group(item.value)
            if meta.chord_triggered:
                winner = _claimant_in(item.value)
                if winner:
                    return winner == claimant
                if not self._has_failed(meta):
                    return False  # a Go worker was the one
            elif meta.lock and monotonic() < give_up_on_lock:
                sleep(random.uniform(0.005, 0.015))  # noqa: S311 - Go is about to trigger it; so that not all look at once
                continue
            if self._write_claim(keys, item, meta, claimant):
                return True

    def _has_failed(self, meta: GroupMeta) -> bool:
        """Whether a member of a chord that Go triggered has failed: then Go sends nothing, and somebody else is to tell."""
        try:
            members = self._records.load(meta.task_uuids)
        except DecodeError:  # Go workers cannot read it either
            return False
        return any(state is not None and state.is_failure for state in members)

    def _write_claim(self, keys: GroupKeys, item: Item, meta: GroupMeta, claimant: str) -> bool:
        # A lock that a dead Go worker left would make the living wait for ever.
        claimed = encode_group(replace(meta, chord_triggered=True, lock=False))
        value = b'%b,"%b":%b}' % (claimed[:-1], CLAIMANT.encode(), json.dumps(claimant).encode())
        server, _ = self._servers.place(keys.meta)
        command = to_store(b"cas", keys.meta, value, end_in(self._live), item.flags, item.cas)
        (said,) = self._servers.ask([(server, command)])
        if said.startswith(TOO_LARGE):
            raise GroupTooLarge(f"the group {meta.group_uuid} has no room for who claims it in memcached")
        return said == STORED

    # -- ending --------------------------------------------------------------------------------------------------------------

    def idle(self, since: datetime, limit: int) -> list[str]:
        """Up to ``limit`` open chords in which no member finished since then, longest idle first."""
        return self._open.idle(since, limit)

    def close(self, group_uuid: str) -> None:
        """Let the group, its counts and its members' records expire."""
        if not is_key(group_uuid):
            return
        keys = group_keys(group_uuid)
        members = self._members(keys)
        end = end_in(self._closed_lifetime)
        server, _ = self._servers.place(keys.meta)
        # It outlives the count, so that nothing that is still to come renews what has ended.
        outliving = to_store(b"set", keys.kept, b"", end_in(self._closed_lifetime + 2))
        commands = [(server, to_delete(keys.progress)), *self._touching(keys, members, end)]
        if members:
            commands.append((server, outliving))
        self._servers.ask([*commands, *self._records.expiring(members)])


def _keys_of(group_uuid: str) -> GroupKeys:
    if not is_key(group_uuid):
        raise _not_found(group_uuid)
    return group_keys(group_uuid)


def lifetime_kept(lifetime: float) -> float:
    """Seconds that what belongs to a group is given when it is renewed, which is a quarter of its time later at most."""
    return lifetime + max(1, math.ceil(lifetime / 4)) + 1


def largest_group(largest_record: int) -> int:
    """How many members, with ids as Go and we make them, the metadata has room for."""
    return max(1, (largest_record - BESIDE_MEMBERS) // MEMBER)


def _number(
    joining: _Joining, count: int, fresh: Sequence[bool], pairs: Sequence[tuple[str, str]], counts: list[int]
) -> None:
    """Note for each pair of a group how many are finished with it: those that were before, and the new ones one by one."""
    new = {member for member, is_fresh in zip(joining.members, fresh, strict=True) if is_fresh}
    count -= len(new)
    for at in joining.positions:
        member = pairs[at][1]
        if member in new:
            new.discard(member)
            count += 1
        counts[at] = count


def _claimant_in(meta: bytes) -> str:
    try:
        found, _ = json.JSONDecoder().raw_decode(meta.decode())
    except ValueError:
        return ""
    claimant = found.get(CLAIMANT) if isinstance(found, dict) else None
    return claimant if isinstance(claimant, str) else ""


def _not_found(group_uuid: str) -> GroupNotFound:
    return GroupNotFound(
        f"there is no group {group_uuid!r}: it was never sent, or its metadata has expired, or memcached has thrown it out to "
        "make room or was restarted"
    )
