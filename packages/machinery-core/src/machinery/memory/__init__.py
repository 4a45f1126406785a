"""``memory://``: broker, result backend and lock inside one process, and the yardstick of every contract test.

Nothing outlives the process and no other process sees it. ``memory://`` is private to the object built from it;
``memory://name`` is one store for all objects of the process that name it, for as long as the process lives.
"""

from machinery.memory._backend import MemoryBackend
from machinery.memory._broker import MemoryBroker, MemoryQueues
from machinery.memory._consumer import MemoryConsumer
from machinery.memory._lock import MemoryLock, MemoryLocks
from machinery.memory._records import MemoryRecords

__all__ = [
    "MemoryBackend",
    "MemoryBroker",
    "MemoryConsumer",
    "MemoryLock",
    "MemoryLocks",
    "MemoryQueues",
    "MemoryRecords",
]
