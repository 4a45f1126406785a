"""Records: Go's attributes, the first final one wins, what Go wrote is kept and understood, what is over is over."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from machinery.abc import State, TaskResult, TaskState
from machinery.errors import DecodeError, EncodeError, ResultTooLarge
from machinery.wire import encode_time
from machinery_backend_dynamodb import DynamodbBackend
from machinery_backend_dynamodb._items import to_record
from machinery_backend_dynamodb._records import LARGEST_RECORD
from machinery_backend_dynamodb._values import size_of
from tests.plugins.backend_dynamodb.conftest import Raw

SENT = datetime(2024, 3, 1, 12, 30, 45, 123456, tzinfo=UTC)
FIVE = {"M": {"Type": {"S": "int64"}, "Value": {"S": "5"}}}
GO_TIME = "2024-03-01T12:30:45.123456789Z"
HOUR = 3600


def pending(uuid: str = "u1", name: str = "add") -> TaskState:
    return TaskState(uuid, name, State.PENDING, created_at=SENT)


def success(uuid: str = "u1", value: object = 5, name: str = "add") -> TaskState:
    return TaskState(uuid, name, State.SUCCESS, (TaskResult("int64", value),))


def gos(**attributes: dict[str, Any]) -> dict[str, Any]:
    """What Go writes for PENDING (protocol §6.3)."""
    return {
        "TaskName": {"S": "add"},
        "State": {"S": "PENDING"},
        "Results": {"NULL": True},
        "Error": {"S": ""},
        "CreatedAt": {"S": GO_TIME},
        "TTL": {"N": "0"},
        **attributes,
    }


def is_about(ttl: str, seconds: float) -> bool:
    return abs(int(ttl) - time.time() - seconds) < 60


@pytest.mark.parametrize("count", [1, 2], ids=["alone", "with another"])
def test_a_pending_record_has_gos_attributes(backend: DynamodbBackend, raw: Raw, count: int) -> None:
    backend.submit([pending("u1"), pending("u2")][:count])

    found = raw.record() or {}
    assert is_about(found.pop("TTL")["N"], HOUR)
    assert found == {
        "TaskUUID": {"S": "u1"},
        "TaskName": {"S": "add"},
        "State": {"S": "PENDING"},
        "Results": {"NULL": True},
        "Error": {"S": ""},
        "CreatedAt": {"S": encode_time(SENT)},
    }


def test_results_are_gos_list_of_typed_values(backend: DynamodbBackend, raw: Raw) -> None:
    backend.submit([pending()])

    backend.save([success()])

    found = raw.record() or {}
    assert found["State"] == {"S": "SUCCESS"}
    assert found["Results"] == {"L": [{"M": {"Type": {"S": "int64"}, "Value": {"N": "5"}}}]}
    assert is_about(found["TTL"]["N"], HOUR)
    assert "Crashes" not in found


def test_crashes_are_an_attribute_of_ours_that_is_left_out_when_there_are_none(
    backend: DynamodbBackend, raw: Raw
) -> None:
    backend.submit([pending()])
    backend.save([TaskState("u1", "add", State.STARTED, crashes=2)])
    assert (raw.record() or {})["Crashes"] == {"N": "2"}

    backend.save([success()])

    assert "Crashes" not in (raw.record() or {})


@pytest.mark.parametrize("count", [1, 2], ids=["alone", "with another"])
def test_submitting_again_leaves_nothing_of_the_record_before(backend: DynamodbBackend, raw: Raw, count: int) -> None:
    backend.save([TaskState("u1", "add", State.FAILURE, error="it broke", created_at=SENT, crashes=1)])

    assert "Writer" in (raw.record() or {})
    backend.submit([TaskState("u1", "other"), pending("u2")][:count])

    (found,) = backend.load(["u1"])
    assert found is not None
    assert (found.state, found.error, found.crashes, found.task_name) == (State.PENDING, "", 0, "other")
    assert not {"CreatedAt", "Writer"} & set(raw.record() or {})


def test_of_one_task_submitted_twice_at_once_the_last_counts(backend: DynamodbBackend) -> None:
    backend.submit([pending(name="first"), pending("u2"), pending(name="last")])

    assert [state and state.task_name for state in backend.load(["u1", "u2"])] == ["last", "add"]


def test_what_go_sent_keeps_its_name_and_its_nanoseconds(backend: DynamodbBackend, raw: Raw) -> None:
    raw.put_record(**gos())

    (stored,) = backend.save([TaskState("u1", "", State.SUCCESS, ())])

    assert stored.task_name == "add"
    found = raw.record() or {}
    assert (found["TaskName"], found["CreatedAt"]) == ({"S": "add"}, {"S": GO_TIME})
    assert is_about(found["TTL"]["N"], HOUR)


def test_what_a_go_worker_made_of_nothing_gets_the_name_it_lacks(backend: DynamodbBackend, raw: Raw) -> None:
    raw.put_record(State={"S": "STARTED"})  # RECEIVED and STARTED of Go write nothing else

    (stored,) = backend.save([success()])

    assert stored.task_name == "add"
    assert backend.load(["u1"]) == [stored]


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        (gos(), TaskState("u1", "add", created_at=SENT)),
        (gos(Error={"NULL": True}), TaskState("u1", "add", created_at=SENT)),
        ({"State": {"S": "RECEIVED"}}, TaskState("u1", "", State.RECEIVED)),
        ({}, TaskState("u1")),
        (gos(State={"S": "SUCCESS"}), TaskState("u1", "add", State.SUCCESS, (), created_at=SENT)),
        (gos(CreatedAt={"NULL": True}), TaskState("u1", "add")),
        (
            gos(CreatedAt={"N": "1709296245"}),
            TaskState("u1", "add", created_at=datetime(2024, 3, 1, 12, 30, 45, tzinfo=UTC)),
        ),
        (gos(TTL={"NULL": True}), TaskState("u1", "add", created_at=SENT)),
        (
            gos(State={"S": "SUCCESS"}, Results={"L": [FIVE]}),
            TaskState("u1", "add", State.SUCCESS, (TaskResult("int64", 5),), created_at=SENT),
        ),
        (
            gos(State={"S": "FAILURE"}, Error={"S": "it broke"}),
            TaskState("u1", "add", State.FAILURE, error="it broke", created_at=SENT),
        ),
        (  # what it ran again keeps what it was before
            gos(State={"S": "FAILURE"}, Error={"S": "it broke"}, Results={"L": [FIVE]}),
            TaskState("u1", "add", State.FAILURE, error="it broke", created_at=SENT),
        ),
        (
            gos(State={"S": "SUCCESS"}, Error={"S": "it broke"}, Results={"L": [FIVE]}),
            TaskState("u1", "add", State.SUCCESS, (TaskResult("int64", 5),), created_at=SENT),
        ),
        (
            gos(State={"S": "STARTED"}, Error={"S": "it broke"}, Results={"L": [FIVE]}),
            TaskState("u1", "add", State.STARTED, created_at=SENT),
        ),
    ],
)
def test_what_go_writes_is_understood(
    backend: DynamodbBackend, raw: Raw, attributes: dict[str, Any], expected: TaskState
) -> None:
    raw.put_record(**attributes)

    assert backend.load(["u1"]) == [expected]


@pytest.mark.parametrize(
    "attributes",
    [
        {"State": {"S": "LOST"}},
        {"State": {"N": "5"}},
        {"Results": {"L": [{"S": "x"}]}},
        {"CreatedAt": {"S": "yesterday"}},
        {"TTL": {"S": "soon"}},
        {"Results": {"L": [{"M": {"Type": {"S": "main.T"}, "Value": {"L": [{"M": {}}]}}}]}, "Error": {"L": []}},
    ],
    ids=str,
)
def test_what_is_no_record_is_a_decode_error_and_no_obstacle(
    backend: DynamodbBackend, raw: Raw, attributes: dict[str, Any]
) -> None:
    raw.put_record(**gos(**attributes))
    with pytest.raises(DecodeError):
        backend.load(["u1"])

    (stored,) = backend.save([success()])

    assert stored.results == (TaskResult("int64", 5),)
    assert backend.load(["u1"]) == [stored]


@pytest.mark.parametrize("ttl", [{"NULL": True}, {"N": "0"}], ids=["null", "zero"])
def test_a_record_that_never_expires_is_no_expired_one(backend: DynamodbBackend, raw: Raw, ttl: dict[str, Any]) -> None:
    raw.put_record(**gos(TTL=ttl))

    (stored,) = backend.save([success(name="other")])

    assert (stored.task_name, stored.state) == ("add", State.SUCCESS)
    (again,) = backend.save([TaskState("u1", "add", State.FAILURE, error="late")])
    assert again == stored
    assert again.was_final


def test_what_is_over_is_over_though_dynamodb_has_not_deleted_it(backend: DynamodbBackend, raw: Raw) -> None:
    over = {"N": str(int(time.time()) - 1)}
    raw.put_record("u1", **gos(State={"S": "SUCCESS"}, TTL=over, Crashes={"N": "2"}))
    raw.put_record("u2", **gos(State={"S": "SUCCESS"}, TTL=over))

    assert backend.load(["u1"]) == [None]
    (stored,) = backend.save([TaskState("u1", "new", State.STARTED)])

    assert (stored.task_name, stored.state, stored.crashes, stored.was_final) == ("new", State.STARTED, 0, False)
    backend.submit([pending("u2")])
    (found,) = backend.load(["u2"])
    assert found is not None
    assert found.state is State.PENDING


def test_a_batch_is_answered_in_order_whatever_was_there(backend: DynamodbBackend, raw: Raw) -> None:
    over = {"N": str(int(time.time()) - 1)}
    backend.submit([pending("new"), pending("done"), pending("twice")])
    backend.save([success("done", 1)])
    raw.put_record("gos", **gos())
    raw.put_record("bare", State={"S": "STARTED"})
    raw.put_record("over", **gos(State={"S": "SUCCESS"}, TTL=over))
    raw.put_record("spoilt", **gos(CreatedAt={"S": "yesterday"}, TTL={"N": str(int(time.time()) + 60)}))
    ids = ["absent", "new", "done", "gos", "twice", "bare", "over", "spoilt", "twice"]

    stored = backend.save([success(uuid, number, "named") for number, uuid in enumerate(ids)])

    assert [state.results and state.results[0].value for state in stored] == [0, 1, 1, 3, 4, 5, 6, 7, 4]
    assert [state.was_final for state in stored] == [False, False, True, *[False] * 5, True]
    assert [state.task_name for state in stored] == [
        "named",
        "add",
        "add",
        "add",
        "add",
        "named",
        "named",
        "named",
        "add",
    ]
    assert backend.load(ids) == stored
    assert (raw.record("gos") or {})["CreatedAt"] == {"S": GO_TIME}


def test_crashes_and_times_are_kept_in_a_batch_as_they_are_alone(backend: DynamodbBackend, raw: Raw) -> None:
    ids = ["u1", "u2"]
    backend.submit([pending(uuid) for uuid in ids])
    backend.save([TaskState(uuid, "add", State.STARTED, crashes=2) for uuid in ids])
    assert [(raw.record(uuid) or {})["Crashes"] for uuid in ids] == [{"N": "2"}] * 2

    stored = backend.save(
        [TaskState(uuid, "other", State.FAILURE, error=uuid, created_at=datetime.now(UTC)) for uuid in ids]
    )

    assert [(state.task_name, state.created_at, state.error) for state in stored] == [
        ("add", SENT, uuid) for uuid in ids
    ]
    assert all("Crashes" not in (raw.record(uuid) or {}) for uuid in ids)
    assert is_about((raw.record() or {})["TTL"]["N"], HOUR)


def test_a_record_in_place_of_one_that_is_over_is_known_for_ours_though_the_answer_was_lost(
    backend: DynamodbBackend, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw.put_record(**gos(State={"S": "SUCCESS"}, TTL={"N": str(int(time.time()) - 1)}))
    call = backend._client.call

    def lose_answer(operation: str, **parameters: Any) -> dict[str, Any]:
        answer = call(operation, **parameters)
        return call(operation, **parameters) if operation == "put_item" else answer

    monkeypatch.setattr(backend._client, "call", lose_answer)

    (stored,) = backend.save([success()])

    assert (stored.results, stored.was_final) == ((TaskResult("int64", 5),), False)


def test_many_writers_of_what_is_over_agree(backend: DynamodbBackend, raw: Raw) -> None:
    raw.put_record(**gos(State={"S": "SUCCESS"}, TTL={"N": str(int(time.time()) - 1)}))
    answers: list[TaskState] = []
    savers = [
        threading.Thread(target=lambda number=number: answers.extend(backend.save([success(value=number)])))
        for number in range(8)
    ]
    for saver in savers:
        saver.start()
    for saver in savers:
        saver.join()

    assert answers == backend.load(["u1"]) * 8
    assert sorted(answer.was_final for answer in answers) == [False] + [True] * 7


@pytest.mark.parametrize("size", [64 * 1024, 380 * 1024])
def test_results_that_fit_are_stored_whole(backend: DynamodbBackend, size: int) -> None:
    result = TaskResult("[]uint8", bytes(range(256)) * (size // 256))

    stored = backend.save([TaskState("u1", "add", State.SUCCESS, (result,))])

    assert backend.load(["u1"]) == stored
    assert stored[0].results == (result,)


@pytest.mark.parametrize("size", [1024 * 1024, 16 * 1024 * 1024])
def test_results_that_do_not_fit_are_refused_by_id_and_the_others_stored(backend: DynamodbBackend, size: int) -> None:
    ids = [f"u{number}" for number in range(5)]
    states = [success(uuid) for uuid in ids]
    for at in (1, 3):
        states[at] = TaskState(ids[at], "add", State.SUCCESS, (TaskResult("string", "x" * size),))

    with pytest.raises(ResultTooLarge, match="409600 bytes") as caught:
        backend.save(states)

    assert caught.value.ids == ("u1", "u3")
    assert [state and state.state for state in backend.load(ids)] == [
        State.SUCCESS,
        None,
        State.SUCCESS,
        None,
        State.SUCCESS,
    ]


def test_what_makes_a_record_too_large_that_was_there_before_is_refused_too(backend: DynamodbBackend) -> None:
    # Given a long name, of which the worker that saves knows nothing
    backend.submit([pending(name="n" * 2000)])

    with pytest.raises(ResultTooLarge) as caught:
        backend.save([TaskState("u1", "", State.SUCCESS, (TaskResult("string", "x" * (LARGEST_RECORD - 1000)),))])

    assert caught.value.ids == ("u1",)


@pytest.mark.parametrize("count", [1, 3], ids=["alone", "with others"])
def test_what_is_too_large_to_be_submitted_is_refused_by_id_and_the_others_stored(
    backend: DynamodbBackend, count: int
) -> None:
    states = [pending("u1", "n" * LARGEST_RECORD), pending("u2"), pending("u3")][:count]

    with pytest.raises(ResultTooLarge, match="409600 bytes") as caught:
        backend.submit(states)

    assert caught.value.ids == ("u1",)
    assert [found is not None for found in backend.load(["u1", "u2", "u3"][:count])] == [False, True, True][:count]


def test_what_a_group_keeps_may_make_a_submitted_record_too_large(backend: DynamodbBackend, raw: Raw) -> None:
    raw.put_record(**gos(KeptUntil={"N": str(int(time.time()) + 2 * HOUR)}))
    room = LARGEST_RECORD - size_of(to_record(replace(pending(name=""), ttl=int(time.time())))) - len("TaskName")

    with pytest.raises(ResultTooLarge) as caught:
        backend.submit([pending(name="n" * room)])

    assert caught.value.ids == ("u1",)


def test_records_of_many_megabytes_are_loaded_at_once(backend: DynamodbBackend) -> None:
    # DynamoDB ends an answer at 16 MB
    ids = [f"u{number}" for number in range(60)]
    result = TaskResult("string", "x" * 380 * 1024)
    stored = backend.save([TaskState(uuid, "add", State.SUCCESS, (result,)) for uuid in ids])

    assert backend.load(ids[::-1]) == stored[::-1]


def test_what_cannot_be_said_is_an_encode_error(backend: DynamodbBackend) -> None:
    with pytest.raises(EncodeError):
        backend.save([success(value=object())])

    assert backend.load(["u1"]) == [None]


def test_two_tables_are_two_stores(dynamodb_url: str, backend: DynamodbBackend, raw: Raw) -> None:
    assert backend.load(["u1"]) == [None]
    raw.put_record("u1", **gos())

    assert backend.load(["u1", "u2"])[0] is not None


def test_waiting_looks_often_at_first(backend: DynamodbBackend, make_backend: Callable[..., DynamodbBackend]) -> None:
    backend.submit([pending()])
    other = make_backend()
    other.load(["u1"])
    saver = threading.Timer(0.3, other.save, [[success()]])
    saver.start()
    began = time.monotonic()

    (found,) = backend.wait(["u1"], 40, interval=30)

    assert found is not None
    assert found.is_success
    assert time.monotonic() - began < 25
    saver.join()


def test_a_record_lives_for_as_long_as_is_configured(make_backend: Callable[..., DynamodbBackend], raw: Raw) -> None:
    make_backend(results_expire_in=timedelta(days=3)).save([success()])

    assert is_about((raw.record() or {})["TTL"]["N"], 3 * 24 * HOUR)
