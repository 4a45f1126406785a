"""Groups and chords: Go's metadata under the group's id, and beside it what makes a member cost the same in any group.

The metadata is Go's, with the callback, and who sends it, in attributes of ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from machinery.abc import GroupMeta, Signature, StoredGroup
from machinery.errors import DecodeError, GroupNotFound, GroupTooLarge
from machinery.wire import decode_signature, encode_signature
from machinery_backend_dynamodb import _keys as names
from machinery_backend_dynamodb._batches import write_all
from machinery_backend_dynamodb._client import Pauses
from machinery_backend_dynamodb._errors import ConditionFailed, ItemTooLarge
from machinery_backend_dynamodb._finishing import Finishing, longest_key
from machinery_backend_dynamodb._group_items import GroupItems
from machinery_backend_dynamodb._items import LARGEST_ITEM, flag, from_meta, members_of, string, to_meta
from machinery_backend_dynamodb._keys import tally_key
from machinery_backend_dynamodb._open_groups import now_in_ms
from machinery_backend_dynamodb._values import size_of, text

if TYPE_CHECKING:
    from datetime import datetime

    from machinery_backend_dynamodb._client import Client
    from machinery_backend_dynamodb._open_groups import OpenGroups
    from machinery_backend_dynamodb._records import Records

LARGEST_GROUP = 9_000
"""Members whose ids, of 41 letters as made here, surely fit into one item of 400 KB, with some room for the callback."""

GO_PATIENCE = 1.0
"""Seconds to wait for a Go worker that has set ``Lock``: it needs milliseconds, and one that is dead never lets go."""


class Groups:
    """The groups of one table."""

    def __init__(
        self, client: Client, records: Records, open_groups: OpenGroups, *, lifetime: float, closed_lifetime: float
    ) -> None:
        self._client = client
        self._records = records
        self._open = open_groups
        self._items = GroupItems(client)
        self._finishing = Finishing(client, self._items, records, lifetime=lifetime, closed_lifetime=closed_lifetime)

    # -- creating and reading ------------------------------------------------------------------------------------------

    def create(self, group: GroupMeta, callback: Signature | None) -> None:
        """Write the group, in place of an earlier one."""
        until = self._finishing.over_at()
        meta = to_meta(group, "" if callback is None else encode_signature(callback).decode(), until)
        size = size_of(meta)
        if len(group.task_uuids) > LARGEST_GROUP or size > LARGEST_ITEM:
            raise GroupTooLarge(
                f"a group of {len(group.task_uuids)} is too large: DynamoDB keeps at most {LARGEST_GROUP} members, whose ids "
                f"make, with the callback, at most {LARGEST_ITEM} bytes (these: {size})"
            )
        longest = longest_key(group.group_uuid, group.task_uuids)
        if longest > names.LONGEST_KEY:
            raise GroupTooLarge(
                f"the ids of the group {group.group_uuid!r:.200} and of its members are too long: DynamoDB takes "
                f"{names.LONGEST_KEY} bytes for a key, and one that is made of both has {longest}"
            )
        if callback is not None:
            self._open.add(group.group_uuid)
        self._records.keep(group.task_uuids, until)
        try:
            tally = self._finishing.new_tally(group.group_uuid, until)
            puts = [{"PutRequest": {"Item": item}} for item in (tally, meta)]
            write_all(self._client, [(self._items.table, put) for put in puts])
        except ItemTooLarge as error:
            raise GroupTooLarge(f"a group of {len(group.task_uuids)} is too large for DynamoDB: {error}") from None

    def load(self, group_uuid: str) -> StoredGroup:
        """The group."""
        item = self._items.read(group_uuid)
        if item is None:
            raise _not_found(group_uuid)
        callback = string(item, names.CALLBACK)
        return StoredGroup(
            from_meta(item),
            decode_signature(callback.encode()) if callback else None,
            made_by_go=callback is None,
        )

    def finish(self, pairs: Sequence[tuple[str, str]]) -> list[int]:
        """Note members as finished, and let their groups live on."""
        return self._finishing.finish(pairs)

    # -- ending --------------------------------------------------------------------------------------------------------

    def claim(self, group_uuid: str, claimant: str) -> bool:
        """Whether ``claimant`` is the one to send the callback, or what its failure sets off."""
        pauses = Pauses(min(GO_PATIENCE, self._client.patience))
        while True:
            found = self._items.read(group_uuid, names.CHORD_TRIGGERED, names.LOCK, names.CLAIMANT)
            if found is None:
                raise _not_found(group_uuid)
            recorded = string(found, names.CLAIMANT)
            if recorded is not None:
                return recorded == claimant
            is_triggered = flag(found, names.CHORD_TRIGGERED)
            if is_triggered and not self._is_left_to_us(group_uuid):
                return False
            if not is_triggered and flag(found, names.LOCK) and pauses.take():
                continue  # a Go worker is about to be the one
            with suppress(ConditionFailed):  # somebody was quicker
                self._claim(group_uuid, claimant, is_triggered=is_triggered)
                return True

    def _claim(self, group_uuid: str, claimant: str, *, is_triggered: bool) -> None:
        triggered = (
            "#triggered = :true" if is_triggered else "(attribute_not_exists(#triggered) OR #triggered <> :true)"
        )
        self._client.call(
            "update_item",
            TableName=self._items.table,
            Key={names.GROUP_UUID: text(group_uuid)},
            UpdateExpression="SET #triggered = :true, #claimant = :claimant",
            ConditionExpression=f"attribute_exists(#group) AND attribute_not_exists(#claimant) AND {triggered}",
            ExpressionAttributeNames={
                "#group": names.GROUP_UUID,
                "#triggered": names.CHORD_TRIGGERED,
                "#claimant": names.CLAIMANT,
            },
            ExpressionAttributeValues={":true": {"BOOL": True}, ":claimant": text(claimant)},
        )

    def _is_left_to_us(self, group_uuid: str) -> bool:
        """A Go worker was the one. Where a member has failed it sends nothing, and tells nobody: then somebody else is to."""
        meta = self._items.read(group_uuid, names.TASK_UUIDS)
        try:
            members = [] if meta is None else self._records.load(members_of(meta))
        except DecodeError:  # Go workers cannot read it either
            return False
        return any(state is not None and state.is_failure for state in members)

    def close(self, group_uuid: str) -> None:
        """Let the group, its count and its members' records expire."""
        meta = self._items.read(group_uuid, names.TASK_UUIDS, names.CALLBACK)
        if meta is None:
            self._open.remove_lost(group_uuid)
            return
        until = self._records.over_at()
        self._items.set_ttl(tally_key(group_uuid), until, closed=True)
        self._records.release(members_of(meta), until)
        self._items.set_ttl(group_uuid, until)
        if string(meta, names.CALLBACK):
            self._open.remove(group_uuid, listed_by=now_in_ms())

    def idle(self, since: datetime, limit: int) -> list[str]:
        """Up to ``limit`` open chords in which no member finished since then, longest idle first."""
        return self._open.idle(since, limit)


def _not_found(group_uuid: str) -> GroupNotFound:
    return GroupNotFound(f"there is no group {group_uuid!r}: it was never sent, or its metadata has expired")
