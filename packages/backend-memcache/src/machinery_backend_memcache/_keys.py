"""Every key in Memcached, each made in one place, and which of several servers has it.

Go's keys carry no prefix: a record or a group's metadata is the item named by its uuid (protocol §2.4). What only this project
keeps about a group stands under names that begin with the group's, on the server that has the group.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from zlib import crc32

from machinery.errors import EncodeError

LONGEST_KEY = 250
"""Bytes: what Memcached and Go's client take."""

_FORBIDDEN = re.compile(rb"[\x00-\x20\x7f]")
"""What would end a key on the wire; Go's client refuses the same."""


def to_key(name: str) -> bytes:
    """The key of that name. Raises `EncodeError` for a name that Memcached cannot have as a key."""
    try:
        key = name.encode()
    except UnicodeEncodeError as error:
        raise EncodeError(f"the id {name!r} cannot be a key of Memcached: {error}") from None
    if not 0 < len(key) <= LONGEST_KEY or _FORBIDDEN.search(key):
        raise EncodeError(
            f"the id {name!r} cannot be a key of Memcached: it must have 1 to {LONGEST_KEY} bytes, and neither spaces nor "
            "control characters"
        )
    return key


def open_groups_key(broker: str, queue: str) -> bytes:
    """Ids of chords, a line each: those that have not ended, and some that have.

    There is one for each broker (its URL without secrets) and default queue. A Memcached may be shared by applications, and a
    worker of one must not send what follows a chord of another to its own broker.
    """
    return b"machinery:open_groups:" + hashlib.sha256(f"{broker}\n{queue}".encode()).hexdigest()[:32].encode()


def is_key(name: str) -> bool:
    """Whether Memcached can have a key of that name: under another there is nothing to be read."""
    try:
        to_key(name)
    except EncodeError:
        return False
    return True


def server_of(key: bytes, count: int) -> int:
    """The position of the server that has ``key`` among ``count`` in the order of the URL, as Go's client picks it."""
    return crc32(key) % count


@dataclass(frozen=True, slots=True)
class GroupKeys:
    """The keys of one group."""

    meta: bytes
    """Go's metadata; once a Python worker claimed the chord, with its claimant."""
    ours: bytes
    """The callback (a signature, or empty) of a group made here."""
    count: bytes
    """How many members are noted as finished."""
    progress: bytes
    """Of an open chord: Unix milliseconds when a member last finished, or when it was made."""
    kept: bytes
    """Empty. Runs out when the lives of all that belongs to the group are to be renewed."""

    def finished(self, member: str) -> bytes:
        """Empty. Is there when ``member`` is noted as finished. Raises `EncodeError`."""
        return _beside(self.meta, b"finished:" + to_key(member))


@lru_cache(maxsize=1024)
def group_keys(group_uuid: str) -> GroupKeys:
    """The keys of the group. Raises `EncodeError`."""
    meta = to_key(group_uuid)
    return GroupKeys(meta, *[_beside(meta, what) for what in (b"group", b"count", b"progress", b"kept")])


def _beside(meta: bytes, what: bytes) -> bytes:
    """The key of something beside the group's metadata; one that would be too long is replaced by what it hashes to."""
    key = meta + b":machinery:" + what
    return key if len(key) <= LONGEST_KEY else b"machinery:" + hashlib.sha256(key).hexdigest().encode()
