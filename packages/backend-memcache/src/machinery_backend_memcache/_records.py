"""Records of tasks: items named by the task's uuid, Go's JSON (protocol §2.2, §6.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from machinery.abc import TaskState
from machinery.errors import DecodeError, ResultTooLarge
from machinery.wire import decode_state, encode_state
from machinery_backend_memcache._ends import end_in
from machinery_backend_memcache._exchange import STORED, TOO_LARGE, Item, to_delete, to_store, to_touch
from machinery_backend_memcache._keys import is_key, to_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from machinery_backend_memcache._servers import Command, Servers

OVERHEAD = 512
"""Bytes of an item that are not its value: Memcached's header, and a key of at most 250."""
KEPT = 1
"""In the flags of a record that an open group keeps: every write lets it live as long as the group. Go writes 0."""


class Records:
    """The records on some servers."""

    def __init__(self, servers: Servers, *, lifetime: float, kept_lifetime: float, largest: int) -> None:
        self._servers = servers
        self._lifetime = lifetime
        """Seconds that a record lives."""
        self._kept_lifetime = kept_lifetime
        """Seconds that it lives while an open group keeps it."""
        self.largest = largest
        """Bytes of a value."""

    def submit(self, states: Sequence[TaskState]) -> None:
        """Write records, whatever was there. Of several of one task the last stays."""
        end = end_in(self._lifetime)
        written = [(to_key(state.task_uuid), encode_state(state)) for state in states]
        fitting = [pair for pair in written if len(pair[1]) <= self.largest]
        answers = self._servers.ask([self._command(b"set", key, value, end) for key, value in fitting])
        stored = {key for (key, _), answer in zip(fitting, answers, strict=True) if answer == STORED}
        self._refuse([state.task_uuid for state, (key, _) in zip(states, written, strict=True) if key not in stored])

    def save(self, states: Sequence[TaskState]) -> list[TaskState]:
        """Write records unless a final one is there; the first final record wins. Returns those now stored.

        Two round trips: one reads what is there, one writes what is to be there if that is still so. What others were quicker
        with is done again.
        """
        waiting: dict[bytes, list[int]] = {}
        for at, state in enumerate(states):
            waiting.setdefault(to_key(state.task_uuid), []).append(at)
        stored = list(states)
        refused: set[int] = set()
        while waiting:
            found = self._servers.fetch([self._servers.place(key) for key in waiting])
            commands: list[Command] = []
            writing: list[tuple[bytes, int]] = []
            for key, positions in waiting.items():
                item = found.get(key)
                refused.difference_update(positions)
                value, last = self._settle(positions, item, stored, states, refused)
                if value:
                    commands.append(self._beside(key, value, item))
                    writing.append((key, last))
            answers = self._servers.ask(commands)
            refused.update(at for (_, at), said in zip(writing, answers, strict=True) if said.startswith(TOO_LARGE))
            lost = [
                key
                for (key, _), said in zip(writing, answers, strict=True)
                if said != STORED and not said.startswith(TOO_LARGE)
            ]
            waiting = {key: waiting[key] for key in lost}
        self._refuse([states[at].task_uuid for at in sorted(refused)])
        return stored

    def _settle(
        self,
        positions: Sequence[int],
        item: Item | None,
        stored: list[TaskState],
        states: Sequence[TaskState],
        refused: set[int],
    ) -> tuple[bytes, int]:
        """What to write for a task, and whose record that is; empty: nothing. Notes in ``stored`` what is there afterwards."""
        current = _decoded(item)
        value, last = b"", -1
        for at in positions:
            if current is not None and current.is_completed:
                stored[at] = current.as_found()
                continue
            merged = states[at] if current is None else states[at].with_origin_of(current)
            encoded = encode_state(merged)
            if len(encoded) > self.largest:
                refused.add(at)
                continue
            stored[at] = current = merged
            value, last = encoded, at
        return value, last

    def _beside(self, key: bytes, value: bytes, item: Item | None) -> Command:
        """The command that replaces ``item``, and nothing else."""
        if item is None:
            return self._command(b"add", key, value, end_in(self._lifetime))
        flags = item.flags & KEPT
        end = end_in(self._kept_lifetime if flags else self._lifetime)
        return self._command(b"cas", key, value, end, flags, item.cas)

    def load(self, ids: Sequence[str]) -> list[TaskState | None]:
        """The records in the order of ``ids``; none for an id that cannot be a key."""
        keys = [to_key(uuid) if is_key(uuid) else b"" for uuid in ids]
        found = self._servers.fetch([self._servers.place(key) for key in dict.fromkeys(keys) if key])
        items = [found.get(key) for key in keys]
        return [decode_state(item.value) if item is not None and item.value else None for item in items]

    def forget(self, ids: Sequence[str]) -> None:
        """Delete records."""
        keys = [to_key(uuid) for uuid in ids if is_key(uuid)]
        self._servers.ask([(self._servers.place(key)[0], to_delete(key)) for key in keys])

    def keep(self, ids: Iterable[str]) -> None:
        """Let the records, those too that are still to be written, live as long as an open group."""
        waiting = [to_key(uuid) for uuid in dict.fromkeys(ids)]
        while waiting:
            found = self._servers.fetch([self._servers.place(key) for key in waiting])
            end = end_in(self._kept_lifetime)
            answers = self._servers.ask([self._keeping(key, found.get(key), end) for key in waiting])
            waiting = [
                key
                for key, said in zip(waiting, answers, strict=True)
                if said != STORED and not said.startswith(TOO_LARGE)
            ]

    def _keeping(self, key: bytes, item: Item | None, end: int) -> Command:
        if item is None:  # a place for what is to come
            return self._command(b"add", key, b"", end, KEPT)
        return self._command(b"cas", key, item.value, end, KEPT, item.cas)

    def touching(self, ids: Iterable[str], end: int) -> list[Command]:
        """What lets the records live until then."""
        keys = [to_key(uuid) for uuid in ids if is_key(uuid)]
        return [(self._servers.place(key)[0], to_touch(key, end)) for key in keys]

    def expiring(self, ids: Iterable[str]) -> list[Command]:
        """What lets the records live no longer than others from now on."""
        return self.touching(ids, end_in(self._lifetime))

    def renewing(self, ids: Iterable[str]) -> list[Command]:
        """What lets records that a group keeps live on."""
        return self.touching(ids, end_in(self._kept_lifetime))

    def _command(self, verb: bytes, key: bytes, value: bytes, end: int, flags: int = 0, cas: bytes = b"") -> Command:
        return self._servers.place(key)[0], to_store(verb, key, value, end, flags, cas)

    def _refuse(self, ids: Sequence[str]) -> None:
        if ids:
            raise ResultTooLarge(
                f"memcached takes records of up to about {self.largest} bytes (its -I, our memcache.item_size_max); larger "
                f"were {list(dict.fromkeys(ids))}",
                dict.fromkeys(ids),
            )


def _decoded(item: Item | None) -> TaskState | None:
    if item is None or not item.value:
        return None
    try:
        return decode_state(item.value)
    except DecodeError:  # no record at all: nothing to keep
        return None
