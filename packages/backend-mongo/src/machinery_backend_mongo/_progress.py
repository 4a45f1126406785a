"""How far groups have come: counted exactly, one small step for each member, whatever dies in between.

A group has one small document in ``machinery_groups``, of which this matters here:

===========  ==========================================================================================================
``run``      tells this group from an earlier one of its id
``recent``   finished members that stand here only, `MANY` or a few more at most
``moved``    how many were moved from there to ``machinery_members``
``finished``   how many there are in all
===========  ==========================================================================================================

A member is noted in ``recent`` and counted in one step, which takes place only if nothing was moved since one has looked among
those that were. What is moved is written there first. So at every moment, also after a crash, a member stands in at least one of
the two exactly when it has been counted, and is counted once. While a group has fewer than `MANY` finished members there is
nothing to look for, and a member costs one call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pymongo import InsertOne, ReturnDocument, UpdateOne
from pymongo.errors import BulkWriteError

from machinery_backend_mongo._collections import AT_ONCE, DELETE_AT, IS_ALIVE, KEPT_UNTIL, in_future, in_turn
from machinery_backend_mongo._errors import DUPLICATE_KEY, first_of_bulk, of_code

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from machinery_backend_mongo._client import Client
    from machinery_backend_mongo._collections import Document, Pipeline

MANY = 100
"""Members that may stand in a group's own document: about 4 KiB, which each further member writes anew."""
_SEEN = {"recent": 0}


class Progress:
    """The counts of the groups of one database."""

    def __init__(self, client: Client, lifetime: int) -> None:
        self._client = client
        self._lifetime = lifetime
        """Milliseconds that a group lives after a member last finished."""

    def note(self, members_of: Mapping[str, Sequence[str]]) -> dict[str, Document]:
        """Note members of groups as finished. Returns the groups' documents; those that are not there are left out."""
        noted = self._note_side_by_side(members_of) if len(members_of) > 1 else {}
        for group_uuid, members in members_of.items():
            if group_uuid not in noted and (found := self._note(group_uuid, members)) is not None:
                noted[group_uuid] = found
        return noted

    def _note_side_by_side(self, members_of: Mapping[str, Sequence[str]]) -> dict[str, Document]:
        """Groups of which nothing was moved, in two calls for all of them."""
        noted: dict[str, Document] = {}
        small = {group_uuid: members for group_uuid, members in members_of.items() if len(members) <= MANY}
        for some in in_turn(list(small)):
            with self._client.calls() as store:
                store.groups.bulk_write(
                    [UpdateOne(_where(group_uuid, 0), self._noting(small[group_uuid])) for group_uuid in some],
                    ordered=False,
                )
            with self._client.calls() as store:
                for found in store.groups.find({"_id": {"$in": list(some)}, **IS_ALIVE}, batch_size=len(some) + 1):
                    group_uuid = found["_id"]
                    if not found["moved"] and set(found["recent"]).issuperset(small[group_uuid]):
                        self._relieve(found)
                        noted[group_uuid] = found
        return noted

    def _note(self, group_uuid: str, members: Sequence[str]) -> Document | None:
        noted: Document | None = None
        for start in range(0, len(members), AT_ONCE):
            noted = self._note_some(group_uuid, members[start : start + AT_ONCE])
            if noted is None:
                return None
        return noted

    def _note_some(self, group_uuid: str, members: Sequence[str]) -> Document | None:
        noted = self._advance(_where(group_uuid, 0), members)
        while noted is None:
            with self._client.calls() as store:
                found = store.groups.find_one({"_id": group_uuid, **IS_ALIVE}, _SEEN)
            if found is None:
                return None
            unknown = self._not_moved(found["run"], members)
            if not unknown:
                return found
            noted = self._advance({**_where(group_uuid, found["moved"]), "run": found["run"]}, unknown)
        if noted["finished"] - noted["moved"] >= MANY:
            self._relieve(noted)
        return noted

    def _advance(self, where: Document, members: Sequence[str]) -> Document | None:
        """The group after these members were noted; ``None``: it is not as ``where`` says."""
        with self._client.calls() as store:
            return store.groups.find_one_and_update(
                where, self._noting(members), projection=_SEEN, return_document=ReturnDocument.AFTER
            )

    def _noting(self, members: Sequence[str]) -> Pipeline:
        given = {"$literal": list(members)}
        is_listed = {"$ne": [{"$type": "$idle_since"}, "missing"]}
        return [
            {
                "$set": {
                    "finished": {"$add": ["$finished", {"$size": {"$setDifference": [given, "$recent"]}}]},
                    "recent": {"$setUnion": ["$recent", given]},
                    "idle_since": {"$cond": [is_listed, "$$NOW", "$$REMOVE"]},
                    DELETE_AT: {"$cond": ["$closed", f"${DELETE_AT}", in_future(self._lifetime)]},
                }
            }
        ]

    def _not_moved(self, run: str, members: Sequence[str]) -> list[str]:
        keys = [_key(run, uuid) for uuid in members]
        with self._client.calls() as store:
            moved = {
                each["_id"] for each in store.members.find({"_id": {"$in": keys}}, {"_id": 1}, batch_size=len(keys) + 1)
            }
        return [uuid for uuid, key in zip(members, keys, strict=True) if key not in moved]

    def _relieve(self, group: Document) -> None:
        """Move a group's recent members away where they are many. Somebody else may do it at the same moment."""
        with self._client.calls() as store:
            found = group if "recent" in group else store.groups.find_one({"_id": group["_id"]})
            if found is None or len(found["recent"]) < MANY:
                return
            run, recent = found["run"], found["recent"]
            until = found.get(KEPT_UNTIL, found[DELETE_AT])
            written = [InsertOne({"_id": _key(run, uuid), DELETE_AT: until}) for uuid in recent]
            try:
                store.members.bulk_write(written, ordered=False)
            except BulkWriteError as error:
                details = error.details
                refused = [each for each in details.get("writeErrors", ()) if each["code"] != DUPLICATE_KEY]
                if refused or details.get("writeConcernErrors"):
                    raise of_code(*first_of_bulk(details), self._client.address) from None
            given = {"$literal": recent}
            moving: Pipeline = [
                {
                    "$set": {
                        "moved": {"$add": ["$moved", len(recent)]},
                        "recent": {"$setDifference": ["$recent", given]},
                    }
                }
            ]
            # Members are only added to what stands there while ``moved`` stays: all of these stand there still.
            store.groups.update_one({"_id": group["_id"], "run": run, "moved": found["moved"]}, moving)

    def prolong(self, run: str, delete_at: object) -> None:
        """What was moved of a group lives until then: an instant, or an expression for one."""
        with self._client.calls() as store:
            store.members.update_many(
                {"_id": {"$gte": _key(run, ""), "$lt": f"{run}{_AFTER_SEPARATOR}"}}, [{"$set": {DELETE_AT: delete_at}}]
            )


_SEPARATOR, _AFTER_SEPARATOR = "/", "0"
"""A character, and the one that follows it."""


def _where(group_uuid: str, moved: int) -> Document:
    return {"_id": group_uuid, "moved": moved, **IS_ALIVE}


def _key(run: str, task_uuid: str) -> str:
    return f"{run}{_SEPARATOR}{task_uuid}"
