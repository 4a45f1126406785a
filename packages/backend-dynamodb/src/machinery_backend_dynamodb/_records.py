"""Records of tasks: one item each under the task's id, with Go's attributes (protocol §2.2, §6.3).

A record is written with a condition, by an update or as one of many (`Saving`), so that what a writer did not know of stays, and
nothing final is replaced. Where the condition does not hold, DynamoDB tells what is there, and that decides. A final record says
who wrote it: a write may be made again whose answer was lost, and must not take its own record for another's.
"""

from __future__ import annotations

import os
from dataclasses import replace
from math import ceil
from time import time
from typing import TYPE_CHECKING, Any

from machinery.abc import State, TaskState
from machinery.errors import DecodeError, ResultTooLarge
from machinery_backend_dynamodb import _keys as names
from machinery_backend_dynamodb._batches import Item, Wanted, change_all, read_all, write_all
from machinery_backend_dynamodb._errors import ConditionFailed, ItemTooLarge
from machinery_backend_dynamodb._items import (
    LARGEST_ITEM,
    from_record,
    has_writer,
    is_over,
    kept_until,
    to_record,
)
from machinery_backend_dynamodb._saving import Saving
from machinery_backend_dynamodb._values import number, size_of, text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from machinery_backend_dynamodb._client import Client

LARGEST_RECORD = LARGEST_ITEM
"""Bytes, the names of the attributes among them."""

_NAMES = {
    "#state": names.STATE,
    "#results": names.RESULTS,
    "#error": names.ERROR,
    "#ttl": names.TTL,
    "#kept": names.KEPT_UNTIL,
    "#crashes": names.CRASHES,
}
_NOT_FINAL = "(attribute_not_exists(#state) OR NOT #state IN (:success, :failure))"
_NOT_OVER = "(attribute_not_exists(#ttl) OR #ttl = :zero OR #ttl > :now)"
_KEPT_FOR_LONG = "(attribute_not_exists(#kept) OR #kept >= :ttl)"
_FINAL = {":success": text(State.SUCCESS), ":failure": text(State.FAILURE), ":zero": number(0)}


class Records:
    """The records of one table."""

    def __init__(self, client: Client, lifetime: float) -> None:
        self._client = client
        self._table = client.options.task_states_table
        self._lifetime = lifetime
        self._saving_many = Saving(client)

    def over_at(self) -> int:
        """Unix seconds at which what is written now may go: whole ones, and no second too early."""
        return ceil(time() + self._lifetime)

    # -- writing -------------------------------------------------------------------------------------------------------

    def submit(self, states: Sequence[TaskState]) -> None:
        """Write records, whatever was there; what an open group keeps it keeps."""
        last = {state.task_uuid: state for state in states}
        if len(last) == 1:
            for state in last.values():
                self._submit_one(state)
            return
        kept = read_all(self._client, self._wanted(last, names.KEPT_UNTIL))
        ttl = self.over_at()
        items = {uuid: self._to_item(state, ttl, kept.get(uuid)) for uuid, state in last.items()}
        refused = [uuid for uuid, item in items.items() if size_of(item) > LARGEST_RECORD]
        for uuid in refused:
            del items[uuid]
        write_all(self._client, [(self._table, {"PutRequest": {"Item": item}}) for item in items.values()])
        if refused:
            raise _too_large(refused)

    def _submit_one(self, state: TaskState) -> None:
        ttl = self.over_at()
        item = to_record(replace(state, ttl=ttl))
        if size_of(item) > LARGEST_RECORD:
            raise _too_large([state.task_uuid])
        absent = [name for name in (names.TASK_NAME, names.CREATED_AT, names.CRASHES, names.WRITER) if name not in item]
        written = {f"#{name}": name for name in item if name not in {names.TASK_UUID, names.TTL}}
        changes = [f"#{name} = :{name}" for name in written.values()]
        try:
            self._client.call(
                "update_item",
                TableName=self._table,
                Key={names.TASK_UUID: item[names.TASK_UUID]},
                UpdateExpression=f"SET {', '.join(changes)}, #ttl = if_not_exists(#kept, :ttl)"
                + (f" REMOVE {', '.join(f'#{name}' for name in absent)}" if absent else ""),
                ConditionExpression=_KEPT_FOR_LONG,
                ExpressionAttributeNames={
                    **written,
                    **{f"#{name}": name for name in absent},
                    "#ttl": names.TTL,
                    "#kept": names.KEPT_UNTIL,
                },
                ExpressionAttributeValues={
                    **{f":{name}": item[name] for name in written.values()},
                    ":ttl": item[names.TTL],
                },
            )
        except ConditionFailed:  # kept by a group that has gone since
            self._client.call("put_item", TableName=self._table, Item=item)
        except ItemTooLarge:  # with what a group keeps there
            raise _too_large([state.task_uuid]) from None

    def save(self, states: Sequence[TaskState]) -> list[TaskState]:
        """Write records unless a final one is there; the first final record wins. Returns those now stored."""
        stored = list(states)
        refused: set[str] = set()
        here = os.urandom(8).hex()
        writers = [f"{here}.{at}" for at in range(len(states))]  # one each: of one task the first final record wins
        places: dict[str, list[int]] = {}
        for at, state in enumerate(states):
            places.setdefault(state.task_uuid, []).append(at)
        found = self._save_together(states, writers, places, stored, refused) if len(places) > 1 else {}

        def save_in_turn(of_one_task: list[int]) -> None:
            for at in of_one_task:
                try:
                    there = found.get(at)
                    stored[at] = (
                        self._beside_other(states[at], writers[at], there)
                        if there
                        else self._save_one(states[at], writers[at])
                    )
                except ItemTooLarge:
                    refused.add(states[at].task_uuid)

        self._client.each(save_in_turn, [left for left in places.values() if left])
        if refused:
            raise _too_large([uuid for uuid in places if uuid in refused])
        return stored

    def _save_together(
        self,
        states: Sequence[TaskState],
        writers: Sequence[str],
        places: dict[str, list[int]],
        stored: list[TaskState],
        refused: set[str],
    ) -> dict[int, Item]:
        """Save the first record of each task as one of many, and take those that get stored out of ``places``.

        Returns what is there instead of those that do not.
        """
        ttl = self.over_at()
        items = {uuid: to_record(replace(states[at[0]], ttl=ttl), writers[at[0]]) for uuid, at in places.items()}
        for uuid in [uuid for uuid, item in items.items() if size_of(item) > LARGEST_RECORD]:
            refused.add(uuid)
            places[uuid].pop(0)
            del items[uuid]
        found: dict[int, Item] = {}
        for uuid, outcome in self._saving_many.save(items).items():
            at = places[uuid][0]
            if outcome.stored and outcome.item:
                stored[at] = self._read_back(states[at], writers[at], outcome.item)
                places[uuid].pop(0)
            elif outcome.item:
                found[at] = outcome.item
        return found

    def _read_back(self, state: TaskState, writer: str, item: Item) -> TaskState:
        try:
            return from_record(item)
        except DecodeError:  # something that was there, and that was left alone, is not as Go and we write it
            return self._beside_other(state, writer, item)

    def _save_one(self, state: TaskState, writer: str) -> TaskState:
        item = to_record(replace(state, ttl=self.over_at()), writer)
        if size_of(item) > LARGEST_RECORD:
            raise ItemTooLarge
        try:
            answer = self._client.call("update_item", **self._saving(item))
        except ConditionFailed as failure:
            found = failure.item or self._read(state.task_uuid)
            return self._beside_other(state, writer, found) if found else self._save_one(state, writer)
        return self._read_back(state, writer, answer["Attributes"])

    def _saving(self, item: Item) -> dict[str, Any]:
        """The update that leaves alone what it does not know, where nothing final is there and nothing whose time is over."""
        changes = ["#state = :state", "#results = :results", "#error = :error", "#ttl = if_not_exists(#kept, :ttl)"]
        values = {
            **_FINAL,
            ":state": item[names.STATE],
            ":results": item[names.RESULTS],
            ":error": item[names.ERROR],
            ":ttl": item[names.TTL],
            ":now": number(int(time())),
        }
        attributes = dict(_NAMES)
        for name in (names.TASK_NAME, names.CREATED_AT):
            if name in item:
                changes.append(f"#{name} = if_not_exists(#{name}, :{name})")
                values[f":{name}"] = item[name]
                attributes[f"#{name}"] = name
        has_crashes = names.CRASHES in item
        if has_crashes:
            changes.append("#crashes = :crashes")
            values[":crashes"] = item[names.CRASHES]
        if names.WRITER in item:
            changes.append("#writer = :writer")
            values[":writer"] = item[names.WRITER]
            attributes["#writer"] = names.WRITER
        return {
            "TableName": self._table,
            "Key": {names.TASK_UUID: item[names.TASK_UUID]},
            "UpdateExpression": f"SET {', '.join(changes)}" + ("" if has_crashes else " REMOVE #crashes"),
            "ConditionExpression": f"{_NOT_FINAL} AND {_NOT_OVER} AND {_KEPT_FOR_LONG}",
            "ExpressionAttributeNames": attributes,
            "ExpressionAttributeValues": values,
            "ReturnValues": "ALL_NEW",
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }

    def _beside_other(self, state: TaskState, writer: str, found: Item) -> TaskState:
        """What is stored in the end, where ``found`` is final, or over, or not as Go and we write it."""
        while True:
            earlier = self._understood(found)
            if earlier is not None and earlier.is_completed:
                return earlier if has_writer(found, text(writer)) else earlier.as_found()
            merged = state if earlier is None else state.with_origin_of(earlier)
            item = self._to_item(merged, self.over_at(), None if earlier is None else found, writer)
            if size_of(item) > LARGEST_RECORD:
                raise ItemTooLarge
            condition = _unchanged(found)
            try:
                self._client.call("put_item", TableName=self._table, Item=item, **condition)
            except ConditionFailed as failure:
                again = failure.item or self._read(state.task_uuid)
                if not again:
                    return self._save_one(state, writer)
                found = again
            else:
                return from_record(item)

    def _understood(self, found: Item) -> TaskState | None:
        """What an item says; ``None`` where it is over or no record at all: there is nothing to keep."""
        try:
            return None if is_over(found, time()) else from_record(found)
        except DecodeError:
            return None

    def _to_item(self, state: TaskState, ttl: int, found: Item | None, writer: str = "") -> Item:
        """The whole item of a record; what an open group wants of the one that was ``found`` stays."""
        kept = 0 if found is None else kept_until(found)
        item = to_record(replace(state, ttl=max(ttl, kept)), writer)
        if kept >= ttl:
            item[names.KEPT_UNTIL] = number(kept)
        return item

    # -- reading -------------------------------------------------------------------------------------------------------

    def load(self, ids: Sequence[str]) -> list[TaskState | None]:
        """The records in the order of ``ids``. Those whose time is over are left out, though they may still be there."""
        found = read_all(self._client, self._wanted(ids))
        now = time()
        states = {uuid: from_record(item) for uuid, item in found.items() if not is_over(item, now)}
        return [states.get(uuid) for uuid in ids]

    def forget(self, ids: Sequence[str]) -> None:
        """Delete records."""
        keys = [{names.TASK_UUID: text(uuid)} for uuid in dict.fromkeys(ids)]
        write_all(self._client, [(self._table, {"DeleteRequest": {"Key": key}}) for key in keys])

    def _read(self, uuid: str) -> Item | None:
        return read_all(self._client, self._wanted([uuid])).get(uuid)

    def _wanted(self, ids: Sequence[str] | dict[str, Any], *attributes: str) -> Wanted:
        return Wanted(self._table, names.TASK_UUID, tuple(ids), attributes)

    def lives(self, ids: Sequence[str]) -> Wanted:
        """What to read so as to know how long records live."""
        return self._wanted(ids, names.TTL)

    # -- for groups ----------------------------------------------------------------------------------------------------

    def keep(self, ids: Sequence[str], until: int) -> None:
        """Let the records that are there live until then, whatever is written to them meanwhile.

        One with no room left for it, in the last bytes that an item may have, lives as it did.
        """
        # The table's name is letters, digits, '_', '-' and '.': what is configured as one is held to that.
        changed = f'UPDATE "{self._table}" SET "{names.TTL}" = ? SET "{names.KEPT_UNTIL}" = ?'  # noqa: S608 - see above
        change_all(self._client, [self._changing(changed, uuid, number(until), number(until)) for uuid in ids])

    def release(self, ids: Sequence[str], until: int) -> None:
        """Let the records that are there live until then and no longer, unless something is written to them."""
        changed = f'UPDATE "{self._table}" SET "{names.TTL}" = ? REMOVE "{names.KEPT_UNTIL}"'  # noqa: S608 - see above
        change_all(self._client, [self._changing(changed, uuid, number(until)) for uuid in ids])

    def _changing(self, changed: str, uuid: str, *values: dict[str, Any]) -> dict[str, Any]:
        # What is over stays over, and a record of Go's that lives for ever (0) goes on to.
        statement = f'{changed} WHERE "{names.TASK_UUID}" = ? AND "{names.TTL}" > ?'
        return {"Statement": statement, "Parameters": [*values, text(uuid), number(int(time()))]}


def _too_large(ids: Sequence[str]) -> ResultTooLarge:
    return ResultTooLarge(f"DynamoDB takes {LARGEST_RECORD} bytes for one record; larger were {list(ids)}", ids)


def _unchanged(found: Item) -> dict[str, Any]:
    """The condition that nobody has written to an item since it was ``found``."""
    watched = (names.STATE, names.TTL, names.KEPT_UNTIL)
    there = [name for name in watched if name in found]
    absent = [name for name in watched if name not in found]
    clauses = [f"#{name} = :{name}" for name in there] + [f"attribute_not_exists(#{name})" for name in absent]
    condition: dict[str, Any] = {
        "ConditionExpression": " AND ".join(clauses),
        "ExpressionAttributeNames": {f"#{name}": name for name in watched},
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }
    if there:
        condition["ExpressionAttributeValues"] = {f":{name}": found[name] for name in there}
    return condition
