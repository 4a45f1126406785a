"""Which chords have not ended: a list of our own, since Memcached cannot list what it holds.

One item holds the ids of chords, one after the other, to which a new one is appended. What says that a chord is open is another
item, beside the group: when a member last finished. It goes when the group is closed, and the id is taken off the list when that
has grown. The list is a hint like the counts: where it was thrown out, or is full, chords end as they do without it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from machinery_backend_memcache._ends import NEVER
from machinery_backend_memcache._exchange import NOT_STORED, STORED, to_store
from machinery_backend_memcache._keys import group_keys

if TYPE_CHECKING:
    from datetime import datetime

    from machinery_backend_memcache._exchange import Item
    from machinery_backend_memcache._keys import GroupKeys
    from machinery_backend_memcache._servers import Servers

SLACK = 16
"""Ids of chords that have ended may stand in the list: as many as of open ones, and this many more."""
_TRIES = 3


class OpenGroups:
    """The list of one application."""

    def __init__(self, servers: Servers, key: bytes) -> None:
        self._servers = servers
        self._server, self._key = servers.place(key)

    def add(self, keys: GroupKeys) -> None:
        """Put a chord on the list, whose `GroupKeys.progress` is there already."""
        line = keys.meta + b"\n"
        for attempt in range(_TRIES):
            said = self._write(b"append", line)
            if said == NOT_STORED:
                said = self._write(b"add", line)
            if said == STORED:
                return
            if said != NOT_STORED or attempt:  # neither was possible twice: it is there, and full
                self._shorten(*self._read(), force=True)

    def idle(self, since: datetime, limit: int) -> list[str]:
        """Up to ``limit`` open chords in which no member finished since then, longest idle first."""
        item, ids, progress = self._read()
        self._shorten(item, ids, progress)
        before = since.timestamp() * 1000
        found = sorted((uuid for uuid, last in progress.items() if last < before), key=progress.__getitem__)
        return found[: max(0, limit)]

    def _read(self) -> tuple[Item | None, list[str], dict[str, int]]:
        """The list, the ids in it, and those of open chords with the milliseconds when a member last finished."""
        item = self._servers.fetch([(self._server, self._key)]).get(self._key)
        ids = list(filter(None, item.value.decode(errors="replace").split("\n"))) if item is not None else []
        keys = {uuid: group_keys(uuid) for uuid in dict.fromkeys(ids)}
        found = self._servers.fetch([(self._servers.place(each.meta)[0], each.progress) for each in keys.values()])
        progress: dict[str, int] = {}
        for uuid, each in keys.items():
            last = found.get(each.progress)
            if last is not None and last.value.isdigit():
                progress[uuid] = int(last.value)
        return item, ids, progress

    def _shorten(self, item: Item | None, ids: list[str], progress: dict[str, int], *, force: bool = False) -> None:
        """Take ended chords off the list. Who was quicker with it has done so, or has added one; then it is left for later."""
        if item is not None and (force or len(ids) > 2 * len(progress) + SLACK):
            left = b"".join([uuid.encode() + b"\n" for uuid in progress])
            self._write(b"cas", left, item.cas)

    def _write(self, verb: bytes, value: bytes, cas: bytes = b"") -> bytes:
        (said,) = self._servers.ask([(self._server, to_store(verb, self._key, value, NEVER, 0, cas))])
        return said


def progress_now() -> bytes:
    """What `GroupKeys.progress` holds when a member finishes now."""
    return b"%d" % (time.time() * 1000)
