"""Records: Go's documents, of which the first final one wins, whatever Go has left behind in them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pymongo
import pytest
from bson import Int64, ObjectId
from bson.datetime_ms import DatetimeMS
from bson.decimal128 import Decimal128

from machinery.abc import State, TaskResult, TaskState
from machinery.errors import DecodeError, EncodeError
from machinery.testing._expectations import eventually, in_threads
from machinery_backend_mongo import MongoBackend, _records
from machinery_backend_mongo._documents import CODEC, ZERO_TIME

SENT = datetime(2024, 3, 1, 12, 30, 45, 123000, tzinfo=UTC)


def pending(uuid: str = "u1", name: str = "add") -> TaskState:
    return TaskState(uuid, name, State.PENDING, created_at=SENT)


def success(uuid: str = "u1", value: object = 5) -> TaskState:
    return TaskState(uuid, "", State.SUCCESS, (TaskResult("int64", value),))


def in_hours(hours: float) -> datetime:
    return datetime.now(UTC) + timedelta(hours=hours)


# -- what is stored ----------------------------------------------------------------------------------------------------


def test_a_sent_task_is_gos_document_with_an_end(backend: MongoBackend, raw: Any) -> None:
    backend.submit([pending()])

    found = raw.tasks.find_one()
    ends = found.pop("delete_at")
    assert found == {"_id": "u1", "state": "PENDING", "task_name": "add", "created_at": SENT}
    assert in_hours(0.99) < ends < in_hours(1.01)


def test_a_success_is_gos_document(backend: MongoBackend, raw: Any) -> None:
    backend.submit([pending()])
    backend.save([success()])

    found = raw.tasks.find_one({}, {"delete_at": 0})
    assert isinstance(found.pop("writer"), ObjectId)
    assert found == {
        "_id": "u1",
        "state": "SUCCESS",
        "results": [{"type": "int64", "value": 5}],
        "task_name": "add",
        "created_at": SENT,
    }
    assert type(found["results"][0]["value"]) is Int64


def test_a_failure_is_gos_document_and_crashes_stand_beside_it(backend: MongoBackend, raw: Any) -> None:
    backend.save([TaskState("u1", "add", State.FAILURE, None, "no", crashes=2)])

    found = raw.tasks.find_one({}, {"delete_at": 0, "writer": 0})
    assert found == {"_id": "u1", "state": "FAILURE", "error": "no", "crashes": 2, "task_name": "add"}
    assert backend.load(["u1"]) == [TaskState("u1", "add", State.FAILURE, None, "no", crashes=2)]


def test_no_creation_time_is_no_field(backend: MongoBackend, raw: Any) -> None:
    (stored,) = backend.save([TaskState("u1", "add", State.STARTED)])

    assert stored.created_at == ZERO_TIME
    assert "created_at" not in raw.tasks.find_one()
    assert backend.load(["u1"]) == [stored]


def test_microseconds_are_cut_off_in_what_is_answered_too(backend: MongoBackend) -> None:
    precise = SENT + timedelta(microseconds=789)

    (stored,) = backend.save([TaskState("u1", "add", State.STARTED, created_at=precise)])
    both = backend.save([TaskState(uuid, "add", State.STARTED, created_at=precise) for uuid in ("u2", "u3")])

    assert [state.created_at for state in (stored, *both)] == [SENT] * 3
    assert backend.load(["u1", "u2", "u3"]) == [stored, *both]


def test_a_time_without_a_zone_is_refused(backend: MongoBackend) -> None:
    with pytest.raises(EncodeError, match="no time zone"):
        backend.submit([TaskState("u1", "add", created_at=datetime(2024, 3, 1))])  # noqa: DTZ001 - that is the mistake


def test_text_that_looks_like_mongodbs_language_is_only_text(backend: MongoBackend) -> None:
    nasty = "$state"
    backend.submit([TaskState("$u1", nasty, created_at=SENT), TaskState("$$NOW", nasty, created_at=SENT)])

    stored = backend.save(
        [
            TaskState("$u1", nasty, State.SUCCESS, (TaskResult("string", "$$ROOT"), TaskResult("[]string", ["$_id"]))),
            TaskState("$$NOW", nasty, State.FAILURE, None, "$task_name"),
        ]
    )

    assert backend.load(["$u1", "$$NOW"]) == stored
    assert stored[0].results == (TaskResult("string", "$$ROOT"), TaskResult("[]string", ["$_id"]))
    assert (stored[1].error, stored[1].task_name) == ("$task_name", nasty)


@pytest.mark.parametrize("more", [[], ["u3"]], ids=["alone", "among others"])
def test_what_utf_8_cannot_say_is_stored_as_a_replacement(backend: MongoBackend, more: list[str]) -> None:
    others = [pending(uuid) for uuid in more]
    backend.submit([pending("u1", "sent\ud800"), *others])

    sent = backend.load(["u1"])
    (failed, *_) = backend.save([TaskState("u1", "", State.FAILURE, None, "no \udfff\ud800!"), *others])
    results = (TaskResult("string", "\ud800"), TaskResult("[]string", ["ü", "\udc00x"]))
    backend.save([TaskState("u2", "saved\ud800", State.SUCCESS, results), *others])

    assert sent == [pending("u1", "sent\ufffd")]
    assert (failed.state, failed.task_name) == (State.FAILURE, "sent\ufffd")
    assert backend.load(["u1", "u2"]) == [
        TaskState("u1", "sent\ufffd", State.FAILURE, None, "no \ufffd\ufffd!", created_at=SENT),
        TaskState(
            "u2",
            "saved\ufffd",
            State.SUCCESS,
            (TaskResult("string", "\ufffd"), TaskResult("[]string", ["ü", "\ufffdx"])),
        ),
    ]


def test_an_id_that_utf_8_cannot_say_is_refused(backend: MongoBackend) -> None:
    with pytest.raises(EncodeError, match="cannot be stored"):
        backend.save([TaskState("\ud800", "add", State.STARTED)])


# -- who wins ----------------------------------------------------------------------------------------------------------


def test_a_batch_is_answered_in_order_whatever_was_there(backend: MongoBackend, raw: Any) -> None:
    backend.submit([pending("new"), pending("done")])
    backend.save([success("done", 1)])
    raw.tasks.insert_many(
        [
            {"_id": "bare"},
            {"_id": "started", "state": "STARTED", "task_name": "gos", "created_at": SENT},
            {"_id": "failed", "state": "FAILURE", "error": "no"},
            {"_id": "ended", "state": "SUCCESS", "results": [], "delete_at": in_hours(-1)},
            {"_id": "junk", "state": "SUCCESS", "results": "no array", "delete_at": in_hours(1)},
        ]
    )
    ids = ["absent", "new", "done", "bare", "started", "failed", "ended", "junk", "new"]

    stored = backend.save([success(uuid, 2) for uuid in ids])

    assert [state.task_uuid for state in stored] == ids
    assert [state.results and state.results[0].value for state in stored] == [2, 2, 1, 2, 2, None, 2, 2, 2]
    assert [state.was_final for state in stored] == [False, False, True, False, False, True, False, False, True]
    assert (stored[4].task_name, stored[4].created_at) == ("gos", SENT)
    assert backend.load(ids[:-1]) == stored[:-1]


def test_what_has_ended_and_is_still_there_is_no_obstacle_to_one_either(backend: MongoBackend, raw: Any) -> None:
    raw.tasks.insert_one({"_id": "u1", "state": "FAILURE", "error": "no", "delete_at": in_hours(-1)})

    (stored,) = backend.save([success()])

    assert (stored.is_success, stored.was_final) == (True, False)
    assert backend.load(["u1"]) == [stored]


@pytest.mark.parametrize("at_once", [1, 3])
def test_exactly_one_of_many_batches_inserts_each_record(backend: MongoBackend, at_once: int) -> None:
    ids = [f"u{number}" for number in range(at_once)]

    answers = in_threads(24, lambda number: backend.save([success(uuid, number) for uuid in ids]))

    for place, uuid in enumerate(ids):
        winners = {str(answer[place].results) for answer in answers}
        assert len(winners) == 1
        assert [answer[place].was_final for answer in answers].count(False) == 1
        (loaded,) = backend.load([uuid])
        assert loaded is not None
        assert loaded.results == answers[0][place].results


@pytest.mark.parametrize("more", [[], ["u2"]], ids=["alone", "among others"])
def test_who_finds_its_own_results_is_answered_with_the_values_that_it_holds(
    backend: MongoBackend, more: list[str]
) -> None:
    results = (
        TaskResult("[]uint8", b"\x00\xff"),
        TaskResult("uint64", 2**64 - 1),
        TaskResult("string", "\ud800"),
        TaskResult("float64", float("nan")),
        TaskResult("float64", 2),
    )
    own = TaskState("u1", "", State.SUCCESS, results)
    others = [success(uuid) for uuid in more]
    backend.submit([pending()])
    backend.save([own, *others])

    (answer, *_) = backend.save([own, *others])

    assert answer.results == results
    assert [type(result.value) for result in answer.results] == [bytes, int, str, float, int]
    assert (answer.was_final, answer.task_name, answer.created_at) == (True, "add", SENT)


@pytest.mark.parametrize(
    "another",
    [
        (TaskResult("[]uint8", b"\x00\xfe"),),
        (TaskResult("string", "AP8="),),
        (TaskResult("[]uint8", b"\x00\xff"),) * 2,
        (),
        None,
    ],
    ids=repr,
)
def test_who_finds_another_ones_results_is_answered_with_what_is_stored(
    backend: MongoBackend, another: tuple[TaskResult, ...] | None
) -> None:
    backend.save([TaskState("u1", "", State.SUCCESS, (TaskResult("[]uint8", b"\x00\xff"),))])

    (answer,) = backend.save([TaskState("u1", "", State.SUCCESS, another)])

    assert answer.results == (TaskResult("[]uint8", "AP8="),)
    assert answer.was_final


def test_who_finds_another_end_is_answered_with_it(backend: MongoBackend) -> None:
    backend.save([TaskState("u1", "", State.SUCCESS, ())])
    backend.save([TaskState("u2", "", State.FAILURE, None, "theirs")])

    stored = backend.save([TaskState(uuid, "", State.FAILURE, None, "mine") for uuid in ("u1", "u2")])

    assert [(state.state, state.error) for state in stored] == [(State.SUCCESS, ""), (State.FAILURE, "theirs")]
    assert backend.load(["u1", "u2"]) == stored


@pytest.mark.parametrize(
    "junk",
    [
        {"state": "SUCCESS", "results": "no array"},
        {"state": "SUCCESS", "results": "no array", "delete_at": in_hours(24)},
        {"state": "FAILURE", "error": 5, "delete_at": in_hours(24), "writer": ObjectId()},
    ],
    ids=["of Go before its last state", "of Go", "of Python"],
)
def test_of_two_who_find_what_nobody_can_read_one_wins(
    backend: MongoBackend, raw: Any, monkeypatch: pytest.MonkeyPatch, junk: dict[str, Any]
) -> None:
    # Given two that found the same unreadable record, of whom the other one is first to replace it
    raw.tasks.insert_one({"_id": "u1"} | junk)
    find = backend._records._find
    first: list[TaskState] = []

    def and_then_be_overtaken(ids: Any) -> Any:
        found = find(ids)
        monkeypatch.undo()
        first.extend(backend.save([success(value=1)]))
        return found

    monkeypatch.setattr(backend._records, "_find", and_then_be_overtaken)

    # When the second goes on with what it found
    (second,) = backend.save([success(value=2)])

    # Then the first one has won
    assert [state.was_final for state in (*first, second)] == [False, True]
    assert backend.load(["u1"]) == first == [second]


def test_a_task_that_is_sent_again_between_a_write_and_the_look_at_it_is_written_again(
    backend: MongoBackend, raw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend.save([success(value=1)])
    in_bulk = backend._records._in_bulk

    def and_then_sent_again(updates: Any) -> Any:
        done = in_bulk(updates)
        monkeypatch.undo()
        backend.submit([pending()])
        return done

    monkeypatch.setattr(backend._records, "_in_bulk", and_then_sent_again)
    stored = backend.save([success(value=2), success("u2", 2)])

    assert [state.was_final for state in stored] == [False, False]
    assert backend.load(["u1", "u2"]) == stored


def test_a_task_that_comes_several_times_in_a_batch_is_written_in_turn(backend: MongoBackend) -> None:
    states = [
        TaskState("u1", "add", State.STARTED),
        success("u2"),
        success("u1", 1),
        success("u1", 2),
        success("u2", 3),
    ]

    stored = backend.save(states)

    assert [state.state for state in stored] == [State.STARTED, *[State.SUCCESS] * 4]
    assert [state.was_final for state in stored] == [False, False, False, True, True]
    assert backend.load(["u1", "u2"]) == [stored[2], stored[1]]


def test_progress_and_an_end_at_the_same_moment_leave_the_end(backend: MongoBackend) -> None:
    for number in range(10):
        uuid = f"u{number}"

        def save(writer: int, uuid: str = uuid) -> list[TaskState]:
            return backend.save([success(uuid) if writer == 5 else TaskState(uuid, "add", State.STARTED)])

        in_threads(10, save)
        (found,) = backend.load([uuid])
        assert found is not None
        assert found.is_success


def test_many_who_submit_the_same_task_disturb_nobody(backend: MongoBackend) -> None:
    in_threads(16, lambda _: backend.submit([pending("u1"), pending("u2")]))

    assert backend.load(["u1", "u2"]) == [pending("u1"), pending("u2")]


def test_a_name_and_a_time_that_go_did_not_know_are_filled_in(backend: MongoBackend, raw: Any) -> None:
    go_zero = pymongo.collection.Collection.with_options(raw.tasks, codec_options=CODEC)
    go_zero.insert_many(
        [
            {"_id": "u1", "state": "STARTED"},
            {"_id": "u2", "state": "STARTED", "task_name": "", "created_at": ZERO_TIME},
            {"_id": "u3", "state": "STARTED", "task_name": None, "created_at": None},
            {"_id": "u4", "state": "STARTED", "task_name": "", "created_at": "0001-01-01T00:00:00Z"},
        ]
    )

    stored = backend.save([TaskState(f"u{n}", "add", State.RETRY, created_at=SENT) for n in (1, 2, 3, 4)])

    assert {(state.task_name, state.created_at) for state in stored} == {("add", SENT)}


@pytest.mark.parametrize("at_once", [1, 2])
@pytest.mark.parametrize("created", ["yesterday", [], True, {"$date": 5}], ids=repr)
def test_a_time_that_nobody_can_read_stands_in_no_ones_way(
    backend: MongoBackend, raw: Any, created: Any, at_once: int
) -> None:
    ids = ["u1", "u2"][:at_once]
    raw.tasks.insert_many([{"_id": uuid, "state": "STARTED", "created_at": created} for uuid in ids])

    started = backend.save([TaskState(uuid, "add", State.RETRY) for uuid in ids])
    ended = backend.save([success(uuid) for uuid in ids])
    again = backend.save([success(uuid, 6) for uuid in ids])

    assert {state.created_at for state in (*started, *ended)} == {ZERO_TIME}
    assert backend.load(ids) == ended == again
    assert [state.was_final for state in again] == [True] * at_once


# -- what Go leaves behind ---------------------------------------------------------------------------------------------


def test_what_go_leaves_behind_when_it_sends_again_is_not_seen(backend: MongoBackend, raw: Any) -> None:
    backend.save([TaskState("u1", "add", State.FAILURE, None, "the first time")])
    raw.tasks.update_one({"_id": "u1"}, {"$set": {"state": "PENDING", "task_name": "add", "created_at": SENT}})
    assert backend.load(["u1"]) == [pending()]

    raw.tasks.update_one({"_id": "u1"}, {"$set": {"state": "SUCCESS", "results": []}})
    assert backend.load(["u1"]) == [TaskState("u1", "add", State.SUCCESS, (), created_at=SENT)]

    raw.tasks.update_one({"_id": "u1"}, {"$set": {"state": "FAILURE", "error": "now"}})
    assert backend.load(["u1"]) == [TaskState("u1", "add", State.FAILURE, None, "now", created_at=SENT)]


def test_a_task_that_go_sent_again_lives_on_from_our_first_write(backend: MongoBackend, raw: Any) -> None:
    old = in_hours(0.01)
    raw.tasks.insert_one(
        {"_id": "u1", "state": "PENDING", "task_name": "add", "created_at": SENT, "error": "old", "delete_at": old}
    )

    (stored,) = backend.save([TaskState("u1", "", State.RECEIVED)])

    assert stored == TaskState("u1", "add", State.RECEIVED, created_at=SENT)
    found = raw.tasks.find_one()
    assert found["delete_at"] > in_hours(0.9)
    assert "error" not in found


def test_submitting_again_leaves_nothing_behind(backend: MongoBackend, raw: Any) -> None:
    raw.tasks.insert_one({"_id": "u1", "state": "FAILURE", "results": [], "error": "old", "ttl": 7, "crashes": 3})

    backend.submit([pending()])

    assert set(raw.tasks.find_one()) == {"_id", "state", "task_name", "created_at", "delete_at"}


@pytest.mark.parametrize("found", [{}, {"results": None}], ids=repr)
def test_a_success_without_results_returned_nothing(backend: MongoBackend, raw: Any, found: dict[str, Any]) -> None:
    raw.tasks.insert_one({"_id": "u1", "state": "SUCCESS"} | found)

    assert backend.load(["u1"]) == [TaskState("u1", "", State.SUCCESS, ())]
    assert backend.save([TaskState("u1", "", State.SUCCESS, ())]) == backend.load(["u1"])


def test_a_success_that_is_saved_without_results_is_answered_as_it_is_read(backend: MongoBackend) -> None:
    for was_final in (False, True):
        (stored,) = backend.save([TaskState("u1", "", State.SUCCESS)])
        assert stored.was_final is was_final
        assert backend.load(["u1"]) == [stored] == [TaskState("u1", "", State.SUCCESS, ())]


@pytest.mark.parametrize(
    ("found", "created"),
    [
        (SENT, SENT),
        (None, ZERO_TIME),
        ("2024-03-01T12:30:45.123Z", SENT),
        ("2024-03-01T13:30:45.123+01:00", SENT),
        (Int64(1_709_296_245_123), SENT),
        (1_709_296_245_123.0, SENT),
        (Decimal128("1709296245123"), SENT),
        (DatetimeMS(-(2**60)), ZERO_TIME),
        (Int64(2**62), ZERO_TIME),
        (float("inf"), ZERO_TIME),
        ("yesterday", ZERO_TIME),
        ([], ZERO_TIME),
        (True, ZERO_TIME),
    ],
    ids=repr,
)
def test_every_form_of_a_creation_time_is_read(backend: MongoBackend, raw: Any, found: Any, created: datetime) -> None:
    raw.tasks.insert_one({"_id": "u1", "state": "STARTED", "created_at": found})

    assert backend.load(["u1"]) == [TaskState("u1", "", State.STARTED, created_at=created)]


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("state", 5, "state is of the type int"),
        ("state", "DONE", "state is 'DONE'"),
        ("task_name", 5, "task_name"),
        ("ttl", "7", "ttl"),
        ("error", 1, "error"),
    ],
)
def test_a_field_of_another_type_is_named(backend: MongoBackend, raw: Any, field: str, value: Any, said: str) -> None:
    raw.tasks.insert_one({"_id": "u1", "state": "FAILURE"} | {field: value})

    with pytest.raises(DecodeError, match=said):
        backend.load(["u1"])


@pytest.mark.parametrize("ttl", [7, 7.0, Int64(7), Decimal128("7")], ids=["int32", "double", "int64", "decimal"])
def test_a_ttl_of_any_number_is_read(backend: MongoBackend, raw: Any, ttl: Any) -> None:
    raw.tasks.insert_one({"_id": "u1", "state": "STARTED", "ttl": ttl, "more": ObjectId()})

    assert backend.load(["u1"]) == [TaskState("u1", "", State.STARTED, ttl=7)]


# -- time --------------------------------------------------------------------------------------------------------------


def test_what_has_ended_is_not_seen_although_it_is_there(backend: MongoBackend, raw: Any) -> None:
    raw.tasks.insert_many(
        [
            {"_id": "ended", "state": "SUCCESS", "delete_at": in_hours(-0.01)},
            {"_id": "alive", "state": "SUCCESS", "delete_at": in_hours(1)},
            {"_id": "endless", "state": "SUCCESS"},
        ]
    )

    found = backend.load(["ended", "alive", "endless"])

    assert [state is None for state in found] == [True, False, False]


def test_what_has_ended_is_deleted(make_backend: Callable[..., MongoBackend], raw: Any) -> None:
    backend = make_backend(results_expire_in=0.5)
    backend.submit([pending()])
    backend.save([success("u2")])

    eventually(lambda: raw.tasks.count_documents({}) == 0)


def test_the_index_is_gos(backend: MongoBackend, raw: Any) -> None:
    backend.submit([pending()])

    indexes = {index["name"]: index for index in raw.tasks.list_indexes()}
    assert set(indexes) == {"_id_", "delete_at_1"}
    assert dict(indexes["delete_at_1"]["key"]) == {"delete_at": 1}
    assert indexes["delete_at_1"]["expireAfterSeconds"] == 0


def test_an_index_of_gos_is_left_as_it_is(backend: MongoBackend, raw: Any, caplog: pytest.LogCaptureFixture) -> None:
    raw.tasks.create_index([("delete_at", 1)], expireAfterSeconds=0, background=True)

    backend.submit([pending()])

    assert caplog.text == ""


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "'delete_at_1' that deletes nothing"),
        ({"expireAfterSeconds": 9}, "for 9 s more"),
        ({"name": "mine"}, "'mine'"),
    ],
    ids=str,
)
def test_another_index_is_tolerated_and_named(
    backend: MongoBackend, raw: Any, caplog: pytest.LogCaptureFixture, options: Any, said: str
) -> None:
    raw.tasks.create_index([("delete_at", 1)], **options)

    backend.submit([pending()])

    assert said in caplog.text
    assert "createIndex({delete_at: 1}, {expireAfterSeconds: 0})" in caplog.text
    assert backend.load(["u1"]) == [pending()]


def test_another_index_of_the_name_is_tolerated_and_named(
    backend: MongoBackend, raw: Any, caplog: pytest.LogCaptureFixture
) -> None:
    raw.tasks.create_index([("state", 1)], name="delete_at_1")

    backend.submit([pending()])

    assert "another index of the name delete_at_1" in caplog.text


def test_a_large_collection_is_not_indexed_behind_the_back_of_its_owner(
    backend: MongoBackend, raw: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("machinery_backend_mongo._indexes.TOO_MANY", 2)
    raw.tasks.insert_many([{"_id": f"old{number}", "state": "SUCCESS"} for number in range(3)])

    backend.submit([pending()])

    assert "has no index that deletes what has ended" in caplog.text
    assert [index["name"] for index in raw.tasks.list_indexes()] == ["_id_"]


# -- many --------------------------------------------------------------------------------------------------------------


def test_more_than_one_command_takes_are_stored_and_forgotten(
    backend: MongoBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_records, "AT_ONCE", 7)
    ids = [f"u{number}" for number in range(50)]
    backend.submit([pending(uuid) for uuid in ids])

    stored = backend.save([success(uuid, number) for number, uuid in enumerate(ids)])

    assert backend.load(ids) == stored
    assert {state.created_at for state in stored} == {SENT}
    backend.forget([*ids, "never"])
    assert backend.load(ids) == [None] * 50


def test_no_command_is_about_more_bytes_than_one_message_has(
    backend: MongoBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_records, "LARGEST_BATCH", 3500)
    written: list[int] = []
    in_bulk = backend._records._in_bulk

    def counting(updates: Any) -> Any:
        written.append(len(updates))
        return in_bulk(updates)

    monkeypatch.setattr(backend._records, "_in_bulk", counting)
    ids = [f"u{number}" for number in range(7)]
    sizes = [1000, 1000, 1000, 1000, 9000, 1000, 1000]

    backend.submit([pending(uuid, "n" * size) for uuid, size in zip(ids, sizes, strict=True)])
    submitted, written[:] = list(written), []
    stored = backend.save(
        [
            TaskState(uuid, "", State.SUCCESS, (TaskResult("string", "x" * size),))
            for uuid, size in zip(ids, sizes, strict=True)
        ]
    )

    assert submitted == [3, 1, 1, 2]
    assert written == [3, 2]  # one alone is no bulk
    assert [state.was_final for state in stored] == [False] * 7
    assert backend.load(ids) == stored


def test_who_waits_sees_what_go_writes(backend: MongoBackend, raw: Any, later: Any) -> None:
    backend.submit([pending()])
    gos = {"$set": {"state": "SUCCESS", "results": [{"type": "int64", "value": Int64(5)}]}}
    later(0.2, raw.tasks.update_one, {"_id": "u1"}, gos)

    (found,) = backend.wait(["u1"], 30)

    assert found is not None
    assert found.results == (TaskResult("int64", 5),)


def test_many_threads_share_one_backend(backend: MongoBackend) -> None:
    barrier = threading.Barrier(16)

    def work(thread: int) -> bool:
        barrier.wait()
        for number in range(20):
            uuid = f"u{thread}-{number}"
            backend.submit([pending(uuid)])
            (stored,) = backend.save([success(uuid, number)])
            if backend.load([uuid]) != [stored]:
                return False
        return True

    assert in_threads(16, work) == [True] * 16
