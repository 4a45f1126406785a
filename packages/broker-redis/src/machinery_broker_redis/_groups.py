"""Groups and chords: Go's metadata under the group's uuid, and beside it what makes a member cost the same in any group."""

from __future__ import annotations

import base64
import os
import random
from dataclasses import replace
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from machinery.abc import GroupMeta, Signature, StoredGroup
from machinery.errors import BackendUnavailable, DecodeError, GroupNotFound
from machinery.wire import decode_group, decode_signature, encode_group, encode_signature
from machinery_broker_redis._connections import Evaluation
from machinery_broker_redis._keys import CHORD_MUTEX, OPEN_GROUPS, group_keys
from machinery_broker_redis._scripts import script

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from machinery_broker_redis._client import Client
    from machinery_broker_redis._connections import Command
    from machinery_broker_redis._keys import GroupKeys
    from machinery_broker_redis._records import Records

MUTEX_LIVES = 8000
"""Milliseconds, Go's: no holder of its mutex keeps it for longer."""
_PATIENCE = 10.0
"""Seconds to wait for Go's mutex: longer than it lives."""
_NO_GROUP, _GO_HOLDS_THE_MUTEX, _GO_WAS_THE_ONE = -1, -2, -3
"""What the script `claim_chord` answers when there is no yes or no."""
_GROUP_WAS_NOT_FOUND = "there is no group {!r}: it was never sent, or its metadata has expired"


class Groups:
    """The groups of one database."""

    def __init__(self, client: Client, records: Records, *, lifetime: int, closed_lifetime: int) -> None:
        self._client = client
        self._records = records
        self._lifetime = lifetime
        """Milliseconds that a group lives after a member last finished."""
        # They are renewed when a quarter of the group's time has passed: now and then, and not with every member.
        self._records_live = lifetime + lifetime // 4 + 1
        self._closed_lifetime = closed_lifetime
        """Milliseconds that it lives after its end."""

    def create(self, group: GroupMeta, callback: Signature | None) -> None:
        """Write the group, in place of an earlier one."""
        keys = group_keys(group.group_uuid)
        names = (keys.meta, keys.ours, keys.finished, keys.claimant)
        written = (self._lifetime, encode_group(group), encode_signature(callback) if callback else b"")
        commands: list[Command | Evaluation] = list(self._records.keeping(group.task_uuids, self._records_live))
        if callback is not None:
            commands.append(Evaluation(script("touch_groups"), (OPEN_GROUPS,), ("", self._lifetime, group.group_uuid)))
        self._client.ask([*commands, Evaluation(script("create_group"), names, written)])

    def load(self, group_uuid: str) -> StoredGroup:
        """The group."""
        keys = group_keys(group_uuid)
        meta, callback = self._client.ask([("GET", keys.meta), ("HGET", keys.ours, "callback")])
        if meta is None:
            raise GroupNotFound(_GROUP_WAS_NOT_FOUND.format(group_uuid))
        return StoredGroup(
            decode_group(meta), decode_signature(callback) if callback else None, made_by_go=callback is None
        )

    def finish(self, pairs: Sequence[tuple[str, str]]) -> list[int]:
        """Note members as finished, and let their groups live on, in one round trip; now and then their records too."""
        by_group: dict[str, list[int]] = {}
        for at, (group_uuid, _) in enumerate(pairs):
            by_group.setdefault(group_uuid, []).append(at)
        commands: list[Command | Evaluation] = [
            self._finishing(group_uuid, [pairs[at][1] for at in positions])
            for group_uuid, positions in by_group.items()
        ]
        commands.append(Evaluation(script("touch_groups"), (OPEN_GROUPS,), ("XX", self._lifetime, *by_group)))
        counts = [0] * len(pairs)
        for (group_uuid, positions), (due, *noted) in zip(
            by_group.items(), [reply or [0] for reply in self._client.ask(commands)[:-1]], strict=True
        ):
            for at, count in zip(positions, noted, strict=False):
                counts[at] = count
            if due:
                self._client.ask(self._records.keeping(self._members(group_uuid), self._records_live))
        return counts

    def _members(self, group_uuid: str) -> tuple[str, ...]:
        meta = self._client.call("GET", group_uuid)
        return decode_group(meta).task_uuids if meta is not None else ()

    def _finishing(self, group_uuid: str, members: list[str]) -> Evaluation:
        keys = group_keys(group_uuid)
        return Evaluation(script("finish"), (keys.meta, keys.ours, keys.finished), (self._lifetime, *members))

    def claim(self, group_uuid: str, claimant: str) -> bool:
        """Whether ``claimant`` is the one to send the callback, or what its failure sets off."""
        keys = group_keys(group_uuid)
        deadline = monotonic() + _PATIENCE
        read, wanted = b"", b""
        while monotonic() < deadline:
            answer = self._claim_now(keys, claimant, read, wanted)
            if isinstance(answer, bytes):  # written by neither Go nor us: what the script cannot read, we can
                meta = decode_group(answer)
                if meta.chord_triggered:
                    return self._claim_from_go(keys, claimant)
                read, wanted = answer, encode_group(_triggered(meta))
            elif answer == _NO_GROUP:
                raise GroupNotFound(_GROUP_WAS_NOT_FOUND.format(group_uuid))
            elif answer == _GO_WAS_THE_ONE:
                return self._claim_from_go(keys, claimant)
            elif answer >= 0:
                return bool(answer)
            else:
                sleep(random.uniform(0.02, 0.06))  # noqa: S311 - so that those who wait do not all come back at once
        raise BackendUnavailable(f"{CHORD_MUTEX} at {self._client.address} is held for longer than a Go worker does")

    def _claim_from_go(self, keys: GroupKeys, claimant: str) -> bool:
        """A Go worker was the one. Where a member has failed it sends nothing, and tells nobody: then somebody else is to."""
        try:
            members = self._records.load(self._members(keys.meta))
        except DecodeError:  # Go workers cannot read it either
            return False
        if not any(state is not None and state.is_failure for state in members):
            return False
        arguments = (claimant, self._lifetime, "", "", 1)  # Go's mutex is for who triggers, and that has happened
        return bool(self._client.run(script("claim_chord"), (keys.meta, keys.claimant), *arguments) == 1)

    def _claim_now(self, keys: GroupKeys, claimant: str, read: bytes, wanted: bytes) -> Any:
        arguments = (claimant, self._lifetime, read, wanted, 0)
        if not self._client.is_cluster:
            return self._client.run(script("claim_chord"), (keys.meta, keys.claimant, CHORD_MUTEX), *arguments)
        value = base64.b64encode(os.urandom(16))
        if self._client.call("SET", CHORD_MUTEX, value, "NX", "PX", MUTEX_LIVES) is None:
            return _GO_HOLDS_THE_MUTEX
        try:
            return self._client.run(script("claim_chord"), (keys.meta, keys.claimant), *arguments)
        finally:
            self._client.run(script("release"), (CHORD_MUTEX,), value)

    def open(self, idle_for: timedelta, limit: int) -> list[str]:
        """Open groups in which no member finished for that long."""
        if limit <= 0:
            return []
        idle = round(idle_for.total_seconds() * 1000)
        found = self._client.run(script("open_groups"), (OPEN_GROUPS,), idle, limit, self._lifetime)
        return [group_uuid.decode() for group_uuid in found]

    def close(self, group_uuid: str) -> None:
        """Let the group, its counts and its members' records expire."""
        keys = group_keys(group_uuid)
        names = (keys.meta, keys.ours, keys.finished, keys.claimant)
        meta = self._client.run(script("close_group"), names, self._closed_lifetime)
        members = decode_group(meta).task_uuids if meta is not None else ()
        self._client.ask([*self._records.expiring(members), ("ZREM", OPEN_GROUPS, group_uuid)])


def _triggered(meta: GroupMeta) -> GroupMeta:
    return replace(meta, chord_triggered=True)
