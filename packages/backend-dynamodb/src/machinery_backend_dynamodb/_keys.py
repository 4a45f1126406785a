"""Every key in DynamoDB, and the names of all attributes, each made in one place.

Go's keys carry no prefix: a record has the task's id, a group's metadata the group's. What only this project keeps about a group
lies in the same table under ids that begin with it: ``<group>/machinery/…``; what it keeps about all of them under
``machinery/…``. No group is called so.
"""

from __future__ import annotations

import hashlib
from zlib import crc32

TASK_UUID = "TaskUUID"
"""S, Go's: the key of a record."""
TASK_NAME = "TaskName"
STATE = "State"
RESULTS = "Results"
"""L of M with ``Type`` and ``Value``, Go's; NULL in every state but SUCCESS."""
ERROR = "Error"
CREATED_AT = "CreatedAt"
TTL = "TTL"
"""N, Go's: Unix seconds at which DynamoDB may delete the item, where the table says so; 0: never."""
CRASHES = "Crashes"
"""N, ours: left out when 0."""
KEPT_UNTIL = "KeptUntil"
"""N, ours: Unix seconds until which an open group wants the record; a write makes that its TTL, so as not to shorten it."""
WRITER = "Writer"
"""S, ours, in final records: who wrote it, so that one whose answer was lost, and who writes again, knows that it won."""

GROUP_UUID = "GroupUUID"
"""S, Go's: the key of a group, and of all that is kept about it."""
TASK_UUIDS = "TaskUUIDs"
CHORD_TRIGGERED = "ChordTriggered"
LOCK = "Lock"
"""BOOL, Go's own mutex. Never set by us, as one left behind would hang every Go worker (protocol §13)."""
CALLBACK = "Callback"
"""S, ours, in the group's metadata: the callback's signature, empty where there is none; absent: Go made the group."""
CLAIMANT = "Claimant"
"""S, ours, in the group's metadata: who sends the callback."""

FINISHED = "Finished"
"""N, in the tally: how many members are noted."""
GENERATION = "Generation"
"""S, in the tally: which creation of the group it counts for; a part of the keys of its marks."""
RENEWED = "Renewed"
"""N, in the tally: Unix seconds at which the records of all members were last let live on."""
PROGRESS = "Progress"
"""N, in the tally: Unix milliseconds when a member last finished, or when the group was made."""
CLOSED = "Closed"
"""BOOL, in the tally: the group has ended."""


def tally_key(group_uuid: str) -> str:
    """The item that counts the finished members of a group."""
    return f"{group_uuid}/machinery/tally"


def mark_key(group_uuid: str, generation: str, task_uuid: str) -> str:
    """The item whose being there says that a member was counted."""
    return f"{group_uuid}/machinery/finished/{generation}/{task_uuid}"


LONGEST_KEY = 2048
"""Bytes in UTF-8: Amazon's limit."""

SHARDS = 8
"""Items that a list of open chords is made of. A look reads them all, and a write costs by the size of one."""

_CHORD = "open/"


def open_groups_keys(broker: str, queue: str) -> list[str]:
    """The items with the chords that have not ended, each under its `chord_name`.

    There are some for each broker (its URL without secrets) and default queue. A table may be shared by applications, and a
    worker of one must not send what follows a chord of another to its own broker.
    """
    application = hashlib.sha256(f"{broker}\n{queue}".encode()).hexdigest()[:32]
    return [f"machinery/open/{application}/{shard}" for shard in range(SHARDS)]


def open_groups_key(broker: str, queue: str, group_uuid: str) -> str:
    """The one of them that has the chord."""
    return open_groups_keys(broker, queue)[crc32(group_uuid.encode(errors="replace")) % SHARDS]


def chord_name(group_uuid: str) -> str:
    """N, in one of these items: Unix milliseconds when the chord was put on the list."""
    return _CHORD + group_uuid


def chord_of(name: str) -> str | None:
    """The chord's group whose `chord_name` it is; ``None``: it is another attribute."""
    return name.removeprefix(_CHORD) if name.startswith(_CHORD) else None
