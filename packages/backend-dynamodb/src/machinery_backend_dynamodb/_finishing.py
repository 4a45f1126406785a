"""Counting the finished members of groups: exactly, each once, at the same cost in any group.

A *tally* beside the group's metadata counts; a *mark* says of one member that it was counted. Marks and count are one
transaction, on condition that nobody has counted since the tally was read: so the count that results is known, and none of these
items grows.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from time import time
from typing import TYPE_CHECKING

from machinery.errors import BackendUnavailable
from machinery_backend_dynamodb import _keys as names
from machinery_backend_dynamodb._batches import MOST_READ, Item, read_together
from machinery_backend_dynamodb._client import Pauses
from machinery_backend_dynamodb._errors import CONDITION_FAILED, TransactionCanceled
from machinery_backend_dynamodb._items import expiry_in, flag, integer, is_over, members_of, string
from machinery_backend_dynamodb._keys import mark_key, tally_key
from machinery_backend_dynamodb._open_groups import now_in_ms
from machinery_backend_dynamodb._values import number, text

if TYPE_CHECKING:
    from machinery_backend_dynamodb._client import Client
    from machinery_backend_dynamodb._group_items import GroupItems
    from machinery_backend_dynamodb._records import Records

AT_ONCE = MOST_READ - 1
"""Members counted in one transaction: with the tally it has 100 actions, Amazon's limit."""

TURNS = 64
"""Locks among which the groups are shared out, so that threads of one process do not spoil each other's transactions."""


@dataclass(frozen=True, slots=True)
class Tally:
    """How far a group of ours has come."""

    finished: int
    generation: str
    renewed: int
    closed: bool


class Finishing:
    """The tallies and marks of one table."""

    def __init__(
        self, client: Client, items: GroupItems, records: Records, *, lifetime: float, closed_lifetime: float
    ) -> None:
        self._client = client
        self._items = items
        self._records = records
        self._lifetime = lifetime
        """Seconds that a group lives after a member last finished."""
        # All is renewed when a quarter of that time has passed: now and then, and not with every member.
        self._kept_for = max(1.25 * lifetime, closed_lifetime)
        self._turns = [threading.Lock() for _ in range(TURNS)]

    def over_at(self) -> int:
        """Unix seconds at which an open group may go, unless a member finishes."""
        return ceil(time() + self._kept_for)

    def new_tally(self, group_uuid: str, until: int) -> Item:
        """The tally of a group that begins; marks of an earlier one of that id do not count."""
        return {
            names.GROUP_UUID: text(tally_key(group_uuid)),
            names.FINISHED: number(0),
            names.GENERATION: text(_new_generation()),
            names.RENEWED: number(int(time())),
            names.PROGRESS: number(now_in_ms()),
            names.TTL: number(until),
        }

    def finish(self, pairs: Sequence[tuple[str, str]]) -> list[int]:
        """Note members as finished, and let their groups live on."""
        members: dict[str, dict[str, int]] = {}
        for group_uuid, uuid in pairs:
            members.setdefault(group_uuid, {})[uuid] = 0
        self._client.each(lambda group_uuid: self._finish(group_uuid, members[group_uuid]), list(members))
        return [members[group_uuid][uuid] for group_uuid, uuid in pairs]

    def _finish(self, group_uuid: str, counts: dict[str, int]) -> None:
        ids = list(counts)
        with self._turn(group_uuid):
            for start in range(0, len(ids), AT_ONCE):
                some = ids[start : start + AT_ONCE]
                counts.update(zip(some, self._finish_some(group_uuid, some), strict=True))

    def _finish_some(self, group_uuid: str, members: list[str]) -> list[int]:
        key = tally_key(group_uuid)
        found, records = read_together(self._client, [self._items.wanted(key), self._records.lives(members)])
        tally = _to_tally(found.get(key))
        renewed = False
        if tally is not None and not tally.closed:
            renewed = self._let_live(group_uuid, tally, records)
        left = members
        pauses = Pauses(self._client.patience)
        while tally is not None and left:
            try:
                self._count(group_uuid, tally, left, renewed=renewed)
            except TransactionCanceled as canceled:
                counted = [code == CONDITION_FAILED for code in canceled.codes[1:]]
                left = [uuid for uuid, is_counted in zip(left, counted, strict=True) if not is_counted]
                if canceled.codes[0] == CONDITION_FAILED and not pauses.take():
                    raise BackendUnavailable(
                        f"others finish members of the group {group_uuid} all the time; DynamoDB at {self._client.address} "
                        "did not get round to ours"
                    ) from None
                tally = _to_tally(self._items.read(key))
            else:
                return _running(members, set(left), tally.finished)
        return [0 if tally is None else tally.finished] * len(members)

    def _count(self, group_uuid: str, tally: Tally, members: list[str], *, renewed: bool) -> None:
        """Mark members and count them, if nobody has counted since. Raises `TransactionCanceled`, the tally's code first."""
        until = number(self.over_at())
        changes = ["#finished = :after"]
        values = {
            ":before": number(tally.finished),
            ":after": number(tally.finished + len(members)),
            ":generation": text(tally.generation),
        }
        attributes = {"#finished": names.FINISHED, "#generation": names.GENERATION}
        if not tally.closed:  # only its end is waited for: what comes late must not prolong it
            changes += ["#ttl = :until", "#progress = :progress"]
            values |= {":until": until, ":progress": number(now_in_ms())}
            attributes |= {"#ttl": names.TTL, "#progress": names.PROGRESS}
        if renewed:
            changes.append("#renewed = :now")
            values[":now"] = number(int(time()))
            attributes["#renewed"] = names.RENEWED
        counting = {
            "TableName": self._items.table,
            "Key": {names.GROUP_UUID: text(tally_key(group_uuid))},
            "UpdateExpression": f"SET {', '.join(changes)}",
            "ConditionExpression": "#finished = :before AND #generation = :generation",
            "ExpressionAttributeNames": attributes,
            "ExpressionAttributeValues": values,
        }
        marks = [
            {
                "TableName": self._items.table,
                "Item": {names.GROUP_UUID: text(mark_key(group_uuid, tally.generation, uuid)), names.TTL: until},
                "ConditionExpression": "attribute_not_exists(#group)",
                "ExpressionAttributeNames": {"#group": names.GROUP_UUID},
            }
            for uuid in members
        ]
        self._client.call(
            "transact_write_items", TransactItems=[{"Update": counting}, *[{"Put": one} for one in marks]]
        )

    def _let_live(self, group_uuid: str, tally: Tally, records: dict[str, Item]) -> bool:
        """Let the records of those that finish live as long as the group; now and then all. Whether it was all."""
        now = time()
        until = self.over_at()
        short = [uuid for uuid, item in records.items() if 0 < expiry_in(item) < now + self._lifetime]
        if tally.renewed > now - self._lifetime / 4:
            self._records.keep(short, until)
            return False
        meta = self._items.read(group_uuid, names.TASK_UUIDS)
        if meta is not None:
            self._records.keep(list({*short, *members_of(meta)}), until)
            self._items.set_ttl(group_uuid, until)
        return True

    @contextmanager
    def _turn(self, group_uuid: str) -> Iterator[None]:
        """Only this thread of the process counts members of the group."""
        lock = self._turns[hash(group_uuid) % TURNS]
        if not lock.acquire(timeout=self._client.patience):
            raise BackendUnavailable(
                f"DynamoDB at {self._client.address} is so slow that members of the group {group_uuid} are still being counted"
            )
        try:
            yield
        finally:
            lock.release()


def longest_key(group_uuid: str, members: Sequence[str]) -> int:
    """Bytes of the longest key that a group of these members needs: that of a mark."""
    generation = _new_generation()
    return max(len(text(mark_key(group_uuid, generation, uuid))["S"].encode()) for uuid in ("", *members))


def _new_generation() -> str:
    return os.urandom(6).hex()


def _to_tally(item: Item | None) -> Tally | None:
    if item is None or is_over(item, time()):
        return None
    return Tally(
        integer(item, names.FINISHED),
        string(item, names.GENERATION) or "",
        integer(item, names.RENEWED),
        flag(item, names.CLOSED),
    )


def _running(members: list[str], new: set[str], before: int) -> list[int]:
    """How many members were noted after each of ``members``, of which those in ``new`` were noted now."""
    counts: list[int] = []
    for uuid in members:
        before += uuid in new
        counts.append(before)
    return counts
