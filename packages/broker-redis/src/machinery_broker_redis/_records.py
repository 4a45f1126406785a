"""Records of tasks: strings named by the task's uuid, Go's JSON (protocol §2.2, §3.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from machinery.abc import TaskState
from machinery.errors import DecodeError, ResultTooLarge
from machinery.wire import decode_state, decode_time, encode_state
from machinery_broker_redis._client import AT_ONCE
from machinery_broker_redis._connections import Evaluation
from machinery_broker_redis._keys import record_channel
from machinery_broker_redis._scripts import script

if TYPE_CHECKING:
    from collections.abc import Sequence

    from machinery_broker_redis._client import Client
    from machinery_broker_redis._connections import Command

LARGEST_RECORD = 512 * 1024 * 1024
"""Bytes: what Redis takes for one string."""

CHUNK = 200
"""Records in one call of the script: it holds up everybody else for about a millisecond."""

_LEFT_ALONE = b"="
_STATE = b'"State":"'
_CREATED_AT = b'"CreatedAt":"'


_Part = TypeVar("_Part")


class Records:
    """The records of one database."""

    def __init__(self, client: Client, lifetime: int) -> None:
        self._client = client
        self._lifetime = lifetime
        """Milliseconds that a record lives."""
        # A cluster keeps every record in a slot of its own, and all keys of a script must lie in one.
        self._chunk = 1 if client.is_cluster else CHUNK

    def submit(self, states: Sequence[TaskState]) -> None:
        """Write records, whatever was there."""
        self._client.ask_in_turn(self._submission(some) for some in self._chunks(states))

    def _submission(self, states: Sequence[TaskState]) -> Evaluation:
        keys = tuple([state.task_uuid for state in states])
        return Evaluation(script("submit"), keys, (self._lifetime, len(states), *map(encode_state, states)))

    def save(self, states: Sequence[TaskState]) -> list[TaskState]:
        """Write records unless a final one is there; the first final record wins. Returns those now stored."""
        parts = [_take_apart(state) for state in states]
        fitting = [at for at, part in enumerate(parts) if len(part[0]) + len(part[2]) <= LARGEST_RECORD]
        stored = list(states)
        chunks = self._chunks(fitting)
        replies = self._client.ask(
            [self._saving([states[at] for at in some], [parts[at] for at in some]) for some in chunks]
        )
        for some, reply in zip(chunks, replies, strict=True):
            for at, answer in zip(some, reply, strict=True):
                if answer is not None:
                    stored[at] = self._as_stored(states[at], answer)
        if len(fitting) < len(states):
            refused = [state.task_uuid for at, state in enumerate(states) if at not in set(fitting)]
            raise ResultTooLarge(f"Redis takes {LARGEST_RECORD} bytes for one record; larger were {refused}", refused)
        return stored

    def _saving(self, states: Sequence[TaskState], parts: Sequence[tuple[Any, ...]]) -> Evaluation:
        arguments: list[Any] = [self._lifetime, self.channel_of("")]
        for part in parts:
            arguments += part
        return Evaluation(script("save"), tuple([state.task_uuid for state in states]), tuple(arguments))

    def _as_stored(self, state: TaskState, answer: bytes) -> TaskState:
        if answer[:1] == _LEFT_ALONE:
            return self._beside_other(state, answer[1:])
        return TaskState(
            state.task_uuid,
            state.task_name,
            state.state,
            state.results,
            state.error,
            decode_time(answer.decode()),
            state.ttl,
            state.crashes,
        )

    def _beside_other(self, state: TaskState, found: bytes) -> TaskState:
        """What is stored in the end, where the record ``found`` is final, or not as Go and we write it.

        The script reads only what it surely understands; here everything that decodes is understood.
        """
        while True:
            try:
                earlier = decode_state(found)
            except DecodeError:  # no record at all: nothing to keep
                merged = state
            else:
                if earlier.is_completed:
                    return earlier.as_found()
                merged = state.with_origin_of(earlier)
            channel = self.channel_of(state.task_uuid) if state.is_completed else ""
            if self._client.run(
                script("replace"), (state.task_uuid,), found, encode_state(merged), self._lifetime, channel
            ):
                return merged
            again = self._client.call("GET", state.task_uuid)
            if not again:
                return self.save([state])[0]
            found = again

    def load(self, ids: Sequence[str], within: float | None = None) -> list[TaskState | None]:
        """The records in the order of ``ids``. ``within``: see `Client.send`."""
        if self._client.is_cluster:
            found = self._client.ask([("GET", uuid) for uuid in ids], within)
        else:
            chunks = [ids[start : start + AT_ONCE] for start in range(0, len(ids), AT_ONCE)]
            found = [one for some in self._client.ask([("MGET", *chunk) for chunk in chunks], within) for one in some]
        return self.decoded(found)

    def decoded(self, found: Sequence[bytes | None]) -> list[TaskState | None]:
        """What is stored, as records; an empty string is a place that an open group keeps."""
        return [decode_state(one) if one else None for one in found]

    def forget(self, ids: Sequence[str]) -> None:
        """Delete records."""
        self._client.ask([("UNLINK", uuid) for uuid in ids])

    def keeping(self, ids: Sequence[str], milliseconds: int) -> list[Evaluation]:
        """What lets the records, those too that are still to be written, live for so long from now on."""
        return [Evaluation(script("keep"), tuple(some), (milliseconds,)) for some in self._chunks(ids)]

    def expiring(self, ids: Sequence[str]) -> list[Command]:
        """What lets the records live no longer than others from now on."""
        return [("PEXPIRE", uuid, self._lifetime) for uuid in ids]

    def _chunks(self, whole: Sequence[_Part]) -> list[Sequence[_Part]]:
        return [whole[start : start + self._chunk] for start in range(0, len(whole), self._chunk)]

    def channel_of(self, task_uuid: str) -> str:
        """The channel on which the final record of the task is published."""
        return record_channel(self._client.database, task_uuid)


def _take_apart(state: TaskState) -> tuple[bytes, bytes, bytes, int, int]:
    """A record as the script takes it: in three parts around its creation time, so that it need not look for it."""
    record = encode_state(state)
    created = record.rfind(_CREATED_AT) + len(_CREATED_AT)
    end = record.index(b'"', created)
    prefix = record.index(_STATE) + len(_STATE)
    return record[:created], record[created:end], record[end:], prefix, int(state.is_completed)
