"""Records of tasks: Go's documents in ``tasks``, and what makes the first final one win (protocol §6.1, §10.13)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from bson import ObjectId
from pymongo import ReturnDocument, UpdateOne
from pymongo.errors import BulkWriteError, OperationFailure

from machinery.abc import State, TaskState
from machinery.errors import DecodeError, ResultTooLarge
from machinery_backend_mongo._collections import ALIVE, AT_ONCE, DELETE_AT, KEPT_UNTIL, in_future, in_turn
from machinery_backend_mongo._documents import (
    ZERO_TEXT,
    ZERO_TIME,
    from_date,
    from_record,
    results_are,
    to_date,
    to_record,
)
from machinery_backend_mongo._errors import DUPLICATE_KEY, first_of_bulk, is_of_one_record, is_too_large, of_code
from machinery_backend_mongo._values import to_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from machinery_backend_mongo._client import Client
    from machinery_backend_mongo._collections import Document, Pipeline

LARGEST_DOCUMENT = 16 * 1024 * 1024
"""Bytes: MongoDB's limit, ``maxBsonObjectSize``."""
LARGEST_RECORD = LARGEST_DOCUMENT - 4096
"""Bytes: what a record may have, so that its name and its instants find room beside it."""
LARGEST_BATCH = 48_000_000
"""Bytes of records in one command: one message of MongoDB's, so that what a call may take is enough on a slow line too."""

WRITER = "writer"
"""A field of ours in final records: who has won, where several write at once."""
_BRIEF = {"task_name": 1, "created_at": 1, "state": 1, WRITER: 1}
_FINAL = [str(state) for state in State if state.is_final]
_NEVER = datetime(9999, 12, 31, tzinfo=UTC)
_IS_FINAL: Document = {
    "$and": [{"$in": ["$state", _FINAL]}, {"$gt": [{"$ifNull": [f"${DELETE_AT}", _NEVER]}, "$$NOW"]}]
}
"""A final record is there, and has not ended. Asked within the update and not in its filter: MongoDB finds by its id alone
what is wanted twice as fast."""


class Records:
    """The records of one database."""

    def __init__(self, client: Client, lifetime: int) -> None:
        self._client = client
        self._lifetime = lifetime
        """Milliseconds that a record lives after its last write."""

    # ------------------------------------------------------------------------------------------------------- writing

    def submit(self, states: Sequence[TaskState]) -> None:
        """Write records, whatever was there."""
        refused: list[str] = []
        for start in range(0, len(states), AT_ONCE):
            some = states[start : start + AT_ONCE]
            pipelines = [self._replacing(state, _fresh_origin(state)) for state in some]
            for portion in _portions(self._fitting(some, pipelines, refused), pipelines):
                pending = portion
                while pending:
                    updates = [UpdateOne({"_id": some[at].task_uuid}, pipelines[at][1], upsert=True) for at in pending]
                    _, failed = self._in_bulk(updates)
                    refused += [some[pending[place]].task_uuid for place, code in failed.items() if is_too_large(code)]
                    pending = [pending[place] for place, code in failed.items() if code == DUPLICATE_KEY]
        _raise_for(refused)

    def save(self, states: Sequence[TaskState]) -> list[TaskState]:
        """Write records unless a final one is there; the first final record wins. Returns those now stored."""
        stored = list(states)
        refused: list[str] = []
        for positions in _rounds([state.task_uuid for state in states]):
            for at, state in zip(positions, self._save([states[at] for at in positions], refused), strict=True):
                stored[at] = state
        _raise_for(refused)
        return stored

    def _save(self, states: Sequence[TaskState], refused: list[str]) -> list[TaskState]:
        """Save records of different tasks, no more than one command takes."""
        writer = ObjectId()
        pipelines = [self._replacing(state, _kept_origin(state), writer) for state in states]
        stored = list(states)
        for portion in _portions(self._fitting(states, pipelines, refused), pipelines):
            self._save_portion(states, pipelines, portion, writer, stored, refused)
        return stored

    def _save_portion(
        self,
        states: Sequence[TaskState],
        pipelines: Sequence[tuple[int, Pipeline]],
        pending: Sequence[int],
        writer: ObjectId,
        stored: list[TaskState],
        refused: list[str],
    ) -> None:
        """Save those at the positions ``pending``, and put what is stored then in its place."""
        while pending:
            found, failed, all_won = self._write(states, pipelines, pending)
            refused += [states[at].task_uuid for at, code in failed.items() if is_too_large(code)]
            lost: list[int] = []
            for at in pending:
                if at in failed:
                    continue
                document = found.get(states[at].task_uuid, {})
                if all_won or _has_won(states[at], document, writer):
                    stored[at] = _with_origin(states[at], document)
                else:
                    lost.append(at)
            collided = [at for at, code in failed.items() if code == DUPLICATE_KEY]
            pending = collided + (self._settle(states, lost, stored) if lost else [])

    def _write(
        self, states: Sequence[TaskState], pipelines: Sequence[tuple[int, Pipeline]], pending: Sequence[int]
    ) -> tuple[dict[str, Document], dict[int, int], bool]:
        """What is there now, in brief, by id; the codes of what failed, by position; whether each of all is known to have won."""
        if len(pending) == 1:
            (at,) = pending
            return (*self._write_one(at, states[at].task_uuid, pipelines[at][1]), False)
        updates = [UpdateOne({"_id": states[at].task_uuid}, pipelines[at][1], upsert=True) for at in pending]
        written, failed = self._in_bulk(updates)
        ids = [states[at].task_uuid for at in pending]
        with self._client.calls() as store:
            found = store.tasks.find({"_id": {"$in": ids}}, _BRIEF, batch_size=len(ids) + 1)
            brief = {document["_id"]: document for document in found}
        # What leaves a final record alone changes nothing, and what writes one changes the writer.
        all_won = written == len(pending) and all(states[at].is_completed for at in pending)
        return brief, {pending[place]: code for place, code in failed.items()}, all_won

    def _write_one(self, at: int, uuid: str, pipeline: Pipeline) -> tuple[dict[str, Document], dict[int, int]]:
        with self._client.writes() as store:
            try:
                found = store.tasks.find_one_and_update(
                    {"_id": uuid}, pipeline, projection=_BRIEF, upsert=True, return_document=ReturnDocument.AFTER
                )
            except OperationFailure as error:
                if not is_of_one_record(error.code):
                    raise
                return {}, {at: error.code or 0}
            return {uuid: found or {}}, {}

    def _settle(self, states: Sequence[TaskState], lost: Sequence[int], stored: list[TaskState]) -> list[int]:
        """Put what is there in place of what was lost to it. Returns what is to be written again: nothing final is there now.

        It has been sent again, or has ended, since; or nobody can read it, and then it is deleted.
        """
        found = {document["_id"]: document for document in self._find([states[at].task_uuid for at in lost])}
        again = []
        for at in lost:
            document = found.get(states[at].task_uuid, {})
            try:
                winner = from_record(document)
            except DecodeError:
                self._delete(document)
                winner = None
            if winner is None or not winner.is_completed:
                again.append(at)
            else:
                stored[at] = _in_words_of(states[at], winner, document).as_found()
        return again

    def _delete(self, found: Document) -> None:
        """Delete the record if it still is the one found, and not that of somebody who deleted it first and has won since."""
        same = {field: {"$eq": found.get(field)} for field in ("state", WRITER, DELETE_AT)}
        with self._client.calls() as store:
            store.tasks.delete_one({"_id": found["_id"], **same})

    def _replacing(self, state: TaskState, origin: Document, writer: ObjectId | None = None) -> tuple[int, Pipeline]:
        """The record's size in bytes, and the update that makes it so; with a ``writer``, unless a final one is there."""
        record = to_record(state)
        whole: Document = {
            **origin,
            KEPT_UNTIL: f"${KEPT_UNTIL}",
            DELETE_AT: {"$max": [in_future(self._lifetime), f"${KEPT_UNTIL}"]},
        }
        size = len(record.raw) + len(to_text(state.task_name).encode())
        if writer is not None and state.is_completed:
            whole[WRITER] = writer
        written: Document = {"$mergeObjects": [{"$literal": record}, whole]}
        if writer is not None:
            written = {"$cond": [_IS_FINAL, "$$ROOT", written]}
        return size, [{"$replaceWith": written}]

    def _fitting(
        self, states: Sequence[TaskState], pipelines: Sequence[tuple[int, Pipeline]], refused: list[str]
    ) -> list[int]:
        """The positions of what MongoDB can keep; the others' ids are ``refused``."""
        refused += [
            state.task_uuid for state, (size, _) in zip(states, pipelines, strict=True) if size > LARGEST_RECORD
        ]
        return [at for at, (size, _) in enumerate(pipelines) if size <= LARGEST_RECORD]

    def _in_bulk(self, updates: Sequence[UpdateOne]) -> tuple[int, dict[int, int]]:
        """Carry out the updates. Returns how many had an effect, and place → code of what collided or was too large."""
        with self._client.writes() as store:
            try:
                done = store.tasks.bulk_write(updates, ordered=False)
            except BulkWriteError as error:
                failed = {each["index"]: each["code"] for each in error.details.get("writeErrors", ())}
                known = all(map(is_of_one_record, failed.values()))
                if not known or error.details.get("writeConcernErrors"):
                    raise of_code(*first_of_bulk(error.details), self._client.address) from None
                return 0, failed
        return done.modified_count + done.upserted_count, {}

    # ------------------------------------------------------------------------------------------------------- reading

    def load(self, ids: Sequence[str]) -> list[TaskState | None]:
        """The records in the order of ``ids``."""
        found = {document["_id"]: document for some in in_turn(ids) for document in self._find(some)}
        # Each is read anew for each place: what a client does to a list that it holds must not show in another.
        return [from_record(found[uuid]) if uuid in found else None for uuid in ids]

    def _find(self, ids: Sequence[str]) -> list[Document]:
        with self._client.calls() as store:
            return list(
                store.tasks.find({"_id": {"$in": list(ids)}, **ALIVE}, batch_size=len(ids) + 1, hint=[("_id", 1)])
            )

    def forget(self, ids: Sequence[str]) -> None:
        """Delete records."""
        for some in in_turn(ids):
            with self._client.calls() as store:
                store.tasks.delete_many({"_id": {"$in": list(some)}})

    # ------------------------------------------------------------------------------------------------------- keeping

    def keep(self, ids: Sequence[str], milliseconds: int) -> None:
        """Let the records, those too that are still to be written, live for so long from now on."""
        until = in_future(milliseconds)
        kept: Pipeline = [{"$set": {KEPT_UNTIL: until, DELETE_AT: {"$max": [f"${DELETE_AT}", until]}}}]
        for some in in_turn(ids):
            with self._client.writes() as store:
                matched = store.tasks.update_many({"_id": {"$in": list(some)}}, kept).matched_count
            pending = [] if matched == len(set(some)) else list(some)
            while pending:  # what meets another writer's insertion matches it the next time
                _, failed = self._in_bulk([UpdateOne({"_id": uuid}, kept, upsert=True) for uuid in pending])
                pending = [pending[place] for place, code in failed.items() if code == DUPLICATE_KEY]

    def release(self, ids: Sequence[str]) -> None:
        """Let the records live no longer than others from now on."""
        released: Pipeline = [{"$set": {DELETE_AT: in_future(self._lifetime)}}, {"$unset": KEPT_UNTIL}]
        for some in in_turn(ids):
            with self._client.calls() as store:
                store.tasks.update_many({"_id": {"$in": list(some)}}, released)


def _rounds(ids: Sequence[str]) -> Iterator[list[int]]:
    """The positions of ``ids`` in portions for one command each, in none of which an id comes twice."""
    positions: list[int] = []
    seen: set[str] = set()
    for at, uuid in enumerate(ids):
        if uuid in seen or len(positions) == AT_ONCE:
            yield positions
            positions, seen = [], set()
        positions.append(at)
        seen.add(uuid)
    if positions:
        yield positions


def _portions(positions: Iterable[int], pipelines: Sequence[tuple[int, Pipeline]]) -> Iterator[list[int]]:
    """``positions`` in portions of no more than `LARGEST_BATCH` bytes each."""
    portion: list[int] = []
    total = 0
    for at in positions:
        size, _ = pipelines[at]
        if portion and total + size > LARGEST_BATCH:
            yield portion
            portion, total = [], 0
        portion.append(at)
        total += size
    if portion:
        yield portion


def _has_won(state: TaskState, found: Document, writer: ObjectId) -> bool:
    """Whether ``state`` was written, where ``found`` was there afterwards: a final one by this writer, else no final one."""
    if state.is_completed:
        return found.get(WRITER) == writer
    return found.get("state") not in _FINAL


def _fresh_origin(state: TaskState) -> Document:
    created = to_date(state.created_at)
    origin: Document = {"task_name": {"$literal": to_text(state.task_name)}}
    return origin if created is None else origin | {"created_at": created}


def _kept_origin(state: TaskState) -> Document:
    """Name and creation time of the record before, and where it had none, those of this one."""
    created = to_date(state.created_at)
    return {
        "task_name": {
            "$cond": [
                {"$eq": [{"$ifNull": ["$task_name", ""]}, ""]},
                {"$literal": to_text(state.task_name)},
                "$task_name",
            ]
        },
        "created_at": "$created_at"
        if created is None
        else {
            "$cond": [
                {"$in": [{"$ifNull": ["$created_at", None]}, [None, ZERO_TIME, ZERO_TEXT]]},
                created,
                "$created_at",
            ]
        },
    }


def _with_origin(state: TaskState, found: Mapping[str, Any]) -> TaskState:
    """What is stored now, where ``found`` are the name and the creation time that it has there."""
    name = found.get("task_name", state.task_name)
    created = from_date(found["created_at"]) if "created_at" in found else to_date(state.created_at) or ZERO_TIME
    return TaskState(
        state.task_uuid,
        name if isinstance(name, str) else state.task_name,
        state.state,
        state.results or () if state.is_success else state.results,
        state.error,
        created,
        state.ttl,
        state.crashes,
    )


def _in_words_of(own: TaskState, found: TaskState, document: Mapping[str, Any]) -> TaskState:
    """``found`` with the values of ``own`` where these are stored as they stand there.

    Bytes are text in a document, and ``own`` may be what was written there, by a call whose answer was lost: it is to compare
    equal then.
    """
    if found.is_success and own.is_success and results_are(document, own.results or ()):
        return replace(found, results=own.results or ())
    return found


def _raise_for(refused: Iterable[str]) -> None:
    ids = list(refused)
    if ids:
        raise ResultTooLarge(
            f"MongoDB keeps {LARGEST_DOCUMENT} bytes in one document; the records of these are larger: {ids}. "
            "Store what is large elsewhere and return where it is",
            ids,
        )
