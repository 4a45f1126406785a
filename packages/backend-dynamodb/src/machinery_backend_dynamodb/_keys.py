"""Every key in DynamoDB, and the names of all attributes, each made in one place.

Go's keys carry no prefix: a record has the task's id, a group's metadata the group's. What only this project keeps about a group
lies in the same table under ids that begin with it: ``<group>/machinery/…``, which no group is called.
"""

from __future__ import annotations

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
CLOSED = "Closed"
"""BOOL, in the tally: the group has ended."""


def tally_key(group_uuid: str) -> str:
    """The item that counts the finished members of a group."""
    return f"{group_uuid}/machinery/tally"


def mark_key(group_uuid: str, generation: str, task_uuid: str) -> str:
    """The item whose being there says that a member was counted."""
    return f"{group_uuid}/machinery/finished/{generation}/{task_uuid}"
