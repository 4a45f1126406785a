"""Which chords have not ended: a list of our own, since DynamoDB finds nothing without its key but by reading the whole table.

A few items in the groups' table hold it, among which the chords are shared out. Each chord is an attribute of its item, which
says when it was put on the list; when a member last finished says the group's tally, which is written then in any case.

A chord is put on the list before its group is written, and taken off it after it was closed: what is listed without an open
group is not shown, and taken off when it has been there for long. The list is a hint: where an item of it is full, a chord is
not listed and ends as it does without.
"""

from __future__ import annotations

from contextlib import suppress
from time import time
from typing import TYPE_CHECKING, Any

from machinery.errors import DecodeError
from machinery_backend_dynamodb import _keys as names
from machinery_backend_dynamodb._batches import Item, Wanted, read_all, read_together
from machinery_backend_dynamodb._errors import ConditionFailed, ItemTooLarge
from machinery_backend_dynamodb._items import flag, integer, is_over
from machinery_backend_dynamodb._keys import chord_name, open_groups_key, tally_key
from machinery_backend_dynamodb._values import number, text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from machinery_backend_dynamodb._client import Client

LIVES = 365 * 24 * 3600
"""Seconds that an item of the list stays after it was last written: longer than any chord in it should take."""
BEGINNING = 3600
"""Seconds within which a chord that was put on the list has been written, or never will be."""
MOST_DROPPED = 25
"""Chords without an open group that are taken off the list at one look."""


class OpenGroups:
    """The list of one application: of those that have a broker (its URL without secrets) and a default queue in common."""

    def __init__(self, client: Client, *, broker: str, queue: str) -> None:
        self._client = client
        self._table = client.options.group_metas_table
        self._broker = broker
        self._queue = queue

    def add(self, group_uuid: str) -> None:
        """Put a chord on the list that is going to be written, if there is room. Raises as `Client.call`."""
        with suppress(ItemTooLarge):
            self._change(group_uuid, "SET #chord = :at, #ttl = :until", now_in_ms())

    def remove(self, group_uuid: str, *, listed_by: int) -> None:
        """Take a chord off the list, unless it was put there after that (Unix milliseconds). Raises as `Client.call`."""
        with suppress(ConditionFailed):
            self._change(
                group_uuid,
                "SET #ttl = :until REMOVE #chord",
                listed_by,
                ConditionExpression="#chord <= :at",
            )

    def remove_lost(self, group_uuid: str) -> None:
        """Take a chord off the list that has no group, unless it may just be about to be written."""
        self.remove(group_uuid, listed_by=now_in_ms() - BEGINNING * 1000)

    def idle(self, since: datetime, limit: int) -> list[str]:
        """Up to ``limit`` open chords in which no member finished since then, longest idle first. Raises as `Client.call`."""
        before = since.timestamp() * 1000
        # What was made since then is not idle, whatever its tally says.
        listed = {uuid: at for uuid, at in self._listed().items() if at < before}
        found = read_all(self._client, self._wanted([tally_key(uuid) for uuid in listed], *_LOOKED_AT))
        now = time()
        progress: dict[str, int] = {}
        for uuid, at in listed.items():
            last = _progress(found.get(tally_key(uuid)), now)
            if last is not None:
                progress[uuid] = max(at, last)
        self._drop({uuid: at for uuid, at in listed.items() if uuid not in progress})
        idle = sorted((uuid for uuid, last in progress.items() if last < before), key=progress.__getitem__)
        return idle[: max(0, limit)]

    def _listed(self) -> dict[str, int]:
        """The chords on the list, and when each was put there (Unix milliseconds)."""
        keys = names.open_groups_keys(self._broker, self._queue)
        (found,) = read_together(self._client, [self._wanted(keys)])
        return {
            uuid: integer(item, name)
            for item in found.values()
            for name in item
            if (uuid := names.chord_of(name)) is not None
        }

    def _drop(self, ended: dict[str, int]) -> None:
        """Take chords without an open group off the list; those that were listed of late may be about to be written."""
        oldest = now_in_ms() - BEGINNING * 1000
        lost = [(uuid, at) for uuid, at in ended.items() if at <= oldest][:MOST_DROPPED]
        self._client.each(lambda one: self.remove(one[0], listed_by=one[1]), lost)

    def _change(self, group_uuid: str, changes: str, at: int, **condition: Any) -> None:
        self._client.call(
            "update_item",
            TableName=self._table,
            Key={names.GROUP_UUID: text(open_groups_key(self._broker, self._queue, group_uuid))},
            UpdateExpression=changes,
            ExpressionAttributeNames={"#chord": chord_name(group_uuid), "#ttl": names.TTL},
            ExpressionAttributeValues={":at": number(at), ":until": number(int(time()) + LIVES)},
            **condition,
        )

    def _wanted(self, keys: Sequence[str], *attributes: str) -> Wanted:
        return Wanted(self._table, names.GROUP_UUID, tuple(keys), attributes)


_LOOKED_AT = (names.PROGRESS, names.CLOSED, names.TTL)


def now_in_ms() -> int:
    """Unix milliseconds."""
    return int(time() * 1000)


def _progress(tally: Item | None, now: float) -> int | None:
    """When a member of an open group last finished (Unix milliseconds); ``None``: there is no such group."""
    try:
        if tally is None or is_over(tally, now) or flag(tally, names.CLOSED):
            return None
        return integer(tally, names.PROGRESS)
    except DecodeError:  # one that cannot be read must not hide the others
        return None
