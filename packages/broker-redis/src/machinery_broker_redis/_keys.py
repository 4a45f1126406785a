"""Every key and channel in Redis, each made in one place.

Go's keys carry no prefix: a queue is the list of its name, a record or a group's metadata the string named by its uuid. What only
this project keeps about one of them stands under names that begin with it, in the same cluster hash slot:
``{machinery_tasks}:machinery:inflight:…`` beside ``machinery_tasks``. Public locks are about nothing of Go's and stand alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

CHORD_MUTEX = "TriggerChordMutex"
"""Go's one lock for all chords of a database (protocol §3.5)."""

OPEN_GROUPS = "machinery:open_groups"
"""ZSET: groups with a callback that have not ended, scored by the server's milliseconds when a member last finished."""


POSTPONING_QUEUES = "machinery:postponing_queues"
"""SET: names of the queues of which messages were handed back for later, so that these can be listed."""


def beside(name: str) -> str:
    """What the names of our keys beside the key ``name`` begin with; in the slot of ``name`` wherever `has_own_slot`."""
    return f"{name}:machinery:" if _tag(name) else f"{{{name}}}:machinery:"


def has_own_slot(name: str) -> bool:
    """Whether keys can be placed in the slot of ``name``: not where it holds braces that Redis takes for no hash tag."""
    return bool(_tag(name)) or not {"{", "}"} & set(name)


def _tag(name: str) -> str:
    """The hash tag in ``name``, as Redis reads it: between the first brace and the next closing one; empty is none."""
    _, opened, rest = name.partition("{")
    tag, closed, _ = rest.partition("}")
    return tag if opened and closed else ""


@dataclass(frozen=True, slots=True)
class QueueKeys:
    """The keys of one queue."""

    queue: str
    """LIST, Go's: what waits, oldest first."""
    workers: str
    """ZSET: its consumers, scored by the server's milliseconds of their last sign of life."""
    sequence: str
    """Counter: numbers what was claimed, so that its order is known."""
    attempts: str
    """HASH: SHA-1 of a body → how often it was delivered to a consumer that died with it."""
    postponed: str
    """ZSET: what was handed back for later, each as ``<number>:<body>``, scored by the server's milliseconds when it is due."""
    dead: str
    """ZSET: ids of dead letters, scored by the server's milliseconds when they died."""
    dead_bodies: str
    """HASH: id of a dead letter → its body."""
    dead_reasons: str
    """HASH: id of a dead letter → why it died."""
    claimed: str
    """What the names of the two keys of a consumer begin with."""

    def inflight(self, consumer: str) -> str:
        """HASH: number → body of what ``consumer`` holds."""
        return f"{self.claimed}inflight:{consumer}"

    def taken(self, consumer: str) -> str:
        """LIST: what a blocking receive of ``consumer`` took; its next claim moves it on to `inflight`."""
        return f"{self.claimed}taken:{consumer}"


@lru_cache(maxsize=1024)
def queue_keys(queue: str) -> QueueKeys:
    """The keys of ``queue``."""
    ours = beside(queue)
    return QueueKeys(
        queue=queue,
        workers=ours + "workers",
        sequence=ours + "sequence",
        attempts=ours + "attempts",
        postponed=ours + "postponed",
        dead=ours + "dead",
        dead_bodies=ours + "dead:bodies",
        dead_reasons=ours + "dead:reasons",
        claimed=ours,
    )


def moving_key(delayed: str) -> str:
    """ZSET: what is on its way from the delayed tasks to its queue, scored by when (ms) another may take the way over."""
    return beside(delayed) + "moving"


@dataclass(frozen=True, slots=True)
class GroupKeys:
    """The keys of one group."""

    meta: str
    """String, Go's: the metadata."""
    ours: str
    """HASH: ``callback`` (a signature, or empty) of a group made here."""
    finished: str
    """SET: uuids of the members noted as finished."""
    claimant: str
    """String: uuid of the member that sends the callback."""


def group_keys(group_uuid: str) -> GroupKeys:
    """The keys of the group."""
    ours = beside(group_uuid)
    return GroupKeys(meta=group_uuid, ours=ours + "group", finished=ours + "finished", claimant=ours + "claimant")


def hold_key(key: str) -> str:
    """HASH: the public lock ``key``. Go's locks lie under their keys as they are (``machinery_lock_…``)."""
    return f"machinery:lock:{key}"


def record_channel(database: int, task_uuid: str) -> str:
    """The channel on which a task's final record is published. Channels know no databases, so the name says which."""
    return f"machinery:final:{database}:{task_uuid}"
