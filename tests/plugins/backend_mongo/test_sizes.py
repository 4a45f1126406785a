"""Results of 64 KiB and 1 MiB are stored, and those that no document of MongoDB's holds are refused by id."""

from __future__ import annotations

import pytest

from machinery.abc import State, TaskResult, TaskState
from machinery.errors import ResultTooLarge
from machinery_backend_mongo import MongoBackend
from machinery_backend_mongo._records import LARGEST_RECORD
from machinery_backend_mongo._values import to_bson

KIB = 1024
OVERHEAD = 200
"""More than what is in a record beside its one result."""


def with_text(uuid: str, size: int) -> TaskState:
    return TaskState(uuid, "add", State.SUCCESS, (TaskResult("string", "x" * size),))


@pytest.mark.parametrize("size", [64 * KIB, KIB * KIB, LARGEST_RECORD - OVERHEAD])
@pytest.mark.parametrize("together", [1, 2])
def test_what_a_document_holds_is_stored(backend: MongoBackend, size: int, together: int) -> None:
    states = [with_text(f"u{number}", size) for number in range(together)]

    stored = backend.save(states)

    assert backend.load([state.task_uuid for state in states]) == stored
    assert [state.was_final for state in stored] == [False] * together


@pytest.mark.parametrize("size", [16 * KIB * KIB, 64 * KIB * KIB])
def test_what_no_document_holds_is_refused_by_id_and_the_others_are_stored(backend: MongoBackend, size: int) -> None:
    with pytest.raises(ResultTooLarge, match="16777216 bytes") as caught:
        backend.save([with_text("small", 1), with_text("large", size), TaskState("other", "add", State.STARTED)])

    assert caught.value.ids == ("large",)
    assert [state and state.state for state in backend.load(["small", "large", "other"])] == [
        State.SUCCESS,
        None,
        State.STARTED,
    ]
    with pytest.raises(ResultTooLarge):
        backend.save([with_text("large", size)])


def test_bytes_count_as_the_base64_that_they_are_stored_as(backend: MongoBackend) -> None:
    value = bytes(12 * KIB * KIB)
    assert len(to_bson("[]uint8", value)) == 16 * KIB * KIB

    with pytest.raises(ResultTooLarge):
        backend.save([TaskState("u1", "add", State.SUCCESS, (TaskResult("[]uint8", value),))])


def test_what_is_only_too_large_with_the_name_that_was_there_is_refused_by_the_server(backend: MongoBackend) -> None:
    backend.submit([TaskState("u1", "x" * 10_000), TaskState("u2", "x" * 10_000)])

    for ids in (["u1"], ["u1", "u2"]):
        with pytest.raises(ResultTooLarge) as caught:
            backend.save([TaskState(uuid, "", State.FAILURE, None, "x" * (LARGEST_RECORD - OVERHEAD)) for uuid in ids])
        assert list(caught.value.ids) == ids


def test_more_than_one_message_holds_is_stored_in_one_call(backend: MongoBackend) -> None:
    states = [with_text(f"u{number}", 4 * KIB * KIB) for number in range(16)]

    stored = backend.save(states)

    assert backend.load([state.task_uuid for state in states]) == stored
