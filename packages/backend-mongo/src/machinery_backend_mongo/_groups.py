"""Groups and chords: Go's metadata in ``group_metas``, and what Go lacks beside it.

Go's trigger says yes to everybody who asks (protocol §10.10). Ours is Go's own update, ``chord_triggered`` from false to true,
but it looks whether it was this one that made it true, and writes down whose it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bson import ObjectId

from machinery.abc import GroupMeta, Signature, StoredGroup
from machinery.errors import DecodeError, GroupNotFound, GroupTooLarge
from machinery_backend_mongo._collections import ALIVE, DELETE_AT, IS_ALIVE, KEPT_UNTIL, in_future
from machinery_backend_mongo._documents import callback_of, from_meta, members_of, to_meta
from machinery_backend_mongo._indexes import IDLE_SINCE
from machinery_backend_mongo._progress import Progress
from machinery_backend_mongo._records import LARGEST_RECORD

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from machinery_backend_mongo._client import Client
    from machinery_backend_mongo._collections import Document, Pipeline
    from machinery_backend_mongo._records import Records

LARGEST_GROUP = 250_000
"""Members: their ids, of 41 characters, fill 13 of the 16 MiB of the one document that Go's format has for a group."""
_MADE_BY_US = "callback"


class Groups:
    """The groups of one database."""

    def __init__(self, client: Client, records: Records, *, lifetime: int, closed_lifetime: int) -> None:
        self._client = client
        self._records = records
        self._progress = Progress(client, lifetime)
        self._lifetime = lifetime
        """Milliseconds that a group lives after a member last finished."""
        # What is large is renewed when a quarter of the group's time has passed: now and then, and not with every member.
        self._kept = lifetime + lifetime // 4 + 1
        self._closed_lifetime = closed_lifetime
        """Milliseconds that it lives after its end."""

    def create(self, group: GroupMeta, callback: Signature | None) -> None:
        """Write the group, in place of an earlier one."""
        if len(group.task_uuids) > LARGEST_GROUP:
            raise GroupTooLarge(
                f"a group of {len(group.task_uuids)} is too large: MongoDB keeps at most {LARGEST_GROUP} members"
            )
        meta = to_meta(group, callback)
        if len(meta.raw) > LARGEST_RECORD:
            raise GroupTooLarge(
                f"the ids of {len(group.task_uuids)} members and the callback have {len(meta.raw)} bytes, which is too large for "
                f"one document of MongoDB's ({LARGEST_RECORD}); send several groups, or a smaller callback"
            )
        self._records.keep(group.task_uuids, self._kept)
        until = in_future(self._kept)
        written: Pipeline = [{"$replaceWith": {"$mergeObjects": [{"$literal": meta}, {DELETE_AT: until}]}}]
        progress: Document = {
            "_id": {"$literal": group.group_uuid},
            "run": str(ObjectId()),
            "finished": 0,
            "moved": 0,
            "recent": [],
            "closed": False,
            KEPT_UNTIL: until,
            DELETE_AT: in_future(self._lifetime),
        }
        if callback is not None:
            progress[IDLE_SINCE] = "$$NOW"
        with self._client.writes() as store:
            where = {"_id": group.group_uuid}
            store.metas.update_one(where, written, upsert=True)
            store.groups.update_one(where, [{"$replaceWith": progress}], upsert=True)

    def load(self, group_uuid: str) -> StoredGroup:
        """The group."""
        with self._client.calls() as store:
            meta = store.metas.find_one({"_id": group_uuid, **ALIVE})
            if meta is None or (_MADE_BY_US in meta and not self._is_alive(group_uuid)):
                raise _not_found(group_uuid)
        return StoredGroup(from_meta(meta), callback_of(meta), made_by_go=_MADE_BY_US not in meta)

    def _is_alive(self, group_uuid: str) -> bool:
        with self._client.calls() as store:
            return store.groups.find_one({"_id": group_uuid, **IS_ALIVE}, {"_id": 1}) is not None

    def finish(self, pairs: Sequence[tuple[str, str]]) -> list[int]:
        """Note members as finished, and let their groups live on; now and then their records too."""
        members: dict[str, dict[str, None]] = {}
        for group_uuid, task_uuid in pairs:
            members.setdefault(group_uuid, {})[task_uuid] = None
        noted = self._progress.note({group_uuid: list(ids) for group_uuid, ids in members.items()})
        for group in noted.values():
            if not group["closed"] and group[DELETE_AT] > group[KEPT_UNTIL]:
                self._prolong(group)
        return [noted[group_uuid]["finished"] if group_uuid in noted else 0 for group_uuid, _ in pairs]

    def _prolong(self, group: Document) -> None:
        """Let what is large of a group, its members' records above all, live on with it."""
        where, until = {"_id": group["_id"]}, in_future(self._kept)
        with self._client.calls() as store:
            meta = store.metas.find_one_and_update(where, [{"$set": {DELETE_AT: until}}], {"task_uuids": 1})
        if meta is None:
            return
        self._records.keep(members_of(meta), self._kept)
        self._progress.prolong(group["run"], until)
        with self._client.calls() as store:
            store.groups.update_one(where | {"run": group["run"]}, [{"$set": {KEPT_UNTIL: until}}])

    # ------------------------------------------------------------------------------------------------------ claiming

    def claim(self, group_uuid: str, claimant: str) -> bool:
        """Whether ``claimant`` is the one to send the callback, or what its failure sets off."""
        with self._client.calls() as store:
            if not self._is_alive(group_uuid):
                meta = store.metas.find_one({"_id": group_uuid, **ALIVE}, {"_id": 1, _MADE_BY_US: 1})
                if meta is None or _MADE_BY_US in meta:
                    raise _not_found(group_uuid)
            claimed = {"$set": {"chord_triggered": True, "claimant": claimant}}
            if store.metas.update_one({"_id": group_uuid, "chord_triggered": {"$ne": True}}, claimed).modified_count:
                return True
            found = store.metas.find_one({"_id": group_uuid}, {"claimant": 1})
        if found is None:
            raise _not_found(group_uuid)
        if "claimant" in found:
            return bool(found["claimant"] == claimant)
        return self._claim_from_go(group_uuid, claimant)

    def _claim_from_go(self, group_uuid: str, claimant: str) -> bool:
        """A Go worker was the one. Where a member has failed it sends nothing, and tells nobody: then somebody else is to."""
        where = {"_id": group_uuid}
        with self._client.calls() as store:
            meta = store.metas.find_one(where, {"task_uuids": 1})
        try:
            members = self._records.load(members_of(meta or {}))
        except DecodeError:  # Go workers cannot read it either
            return False
        if not any(state is not None and state.is_failure for state in members):
            return False
        with self._client.calls() as store:
            unclaimed = {**where, "claimant": {"$exists": False}}
            if store.metas.update_one(unclaimed, {"$set": {"claimant": claimant}}).modified_count:
                return True
            found = store.metas.find_one(where, {"claimant": 1})
        return found is not None and bool(found.get("claimant") == claimant)

    # -------------------------------------------------------------------------------------------------- opened, ended

    def open(self, idle_for: timedelta, limit: int) -> list[str]:
        """Open chords in which no member finished for that long, by the server's clock."""
        if limit <= 0:
            return []
        before = {"$subtract": ["$$NOW", round(idle_for.total_seconds() * 1000)]}
        idle = {
            IDLE_SINCE: {"$type": "date"},
            "$expr": {"$and": [{"$lt": [f"${IDLE_SINCE}", before]}, IS_ALIVE["$expr"]]},
        }
        with self._client.calls() as store:
            found = store.groups.find(idle, {"_id": 1}).sort(IDLE_SINCE, 1).limit(limit)
            return [group["_id"] for group in found]

    def close(self, group_uuid: str) -> None:
        """Let the group, its counts and its members' records expire."""
        where, until = {"_id": group_uuid}, in_future(self._closed_lifetime)
        with self._client.calls() as store:
            ended: Pipeline = [{"$set": {"closed": True, DELETE_AT: until}}, {"$unset": [IDLE_SINCE, KEPT_UNTIL]}]
            group = store.groups.find_one_and_update(where, ended, {"run": 1, "moved": 1})
            meta = store.metas.find_one_and_update(where, [{"$set": {DELETE_AT: until}}], {"task_uuids": 1})
        if group is not None and group["moved"]:
            self._progress.prolong(group["run"], until)
        if meta is not None:
            self._records.release(members_of(meta))


def _not_found(group_uuid: str) -> GroupNotFound:
    return GroupNotFound(f"there is no group {group_uuid!r}: it was never sent, or its metadata has expired")
