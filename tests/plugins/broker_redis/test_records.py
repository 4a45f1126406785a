"""Records: the first final one wins, what Go wrote is kept and understood, who waits is woken."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from datetime import UTC, datetime
from typing import Any

import pytest
import redis

from machinery import AsyncResult
from machinery.abc import Config, State, TaskResult, TaskState
from machinery.errors import ResultTooLarge
from machinery.testing._expectations import Stopwatch
from machinery.wire import encode_state
from machinery_broker_redis import RedisBackend, _records, _waiting

SENT = datetime(2024, 3, 1, 12, 30, 45, 123456, tzinfo=UTC)
GO_TIME = "2024-03-01T12:30:45.123456789Z"


def pending(uuid: str = "u1", name: str = "add") -> TaskState:
    return TaskState(uuid, name, State.PENDING, created_at=SENT)


def success(uuid: str = "u1", value: object = 5, name: str = "add") -> TaskState:
    return TaskState(uuid, name, State.SUCCESS, (TaskResult("int64", value),))


def gos(uuid: str = "u1", state: str = "PENDING", name: str = "add", created: str = GO_TIME) -> str:
    return (
        f'{{"TaskUUID":"{uuid}","TaskName":"{name}","State":"{state}","Results":null,"Error":"",'
        f'"CreatedAt":"{created}","TTL":0}}'
    )


def test_a_record_is_gos_json_under_the_uuid(backend: RedisBackend, raw: Any) -> None:
    backend.submit([pending()])

    assert raw.get("u1").encode() == encode_state(pending())
    assert 3_590_000 < raw.pttl("u1") <= 3_600_000


def test_name_and_time_are_kept_and_returned(backend: RedisBackend) -> None:
    backend.submit([pending()])

    (stored,) = backend.save([TaskState("u1", "add", State.STARTED)])

    assert stored == TaskState("u1", "add", State.STARTED, created_at=SENT)
    assert backend.load(["u1"]) == [stored]


def test_gos_nanoseconds_survive(backend: RedisBackend, raw: Any) -> None:
    raw.set("u1", gos())

    backend.save([success()])

    assert json.loads(raw.get("u1"))["CreatedAt"] == GO_TIME


def test_the_first_final_record_wins(backend: RedisBackend) -> None:
    backend.submit([pending()])
    backend.save([success()])

    (failed,) = backend.save([TaskState("u1", "add", State.FAILURE, error="late")])
    (started,) = backend.save([TaskState("u1", "add", State.STARTED)])

    assert failed == started == TaskState("u1", "add", State.SUCCESS, (TaskResult("int64", 5),), created_at=SENT)


def test_a_batch_is_answered_in_order_whatever_was_there(backend: RedisBackend, raw: Any) -> None:
    backend.submit([pending("new"), pending("done")])
    backend.save([success("done", 1)])
    raw.set(
        "odd", '{ "TaskUUID": "odd", "State": "STARTED", "TaskName": "spaced", "CreatedAt": "2024-03-01T12:30:45Z" }'
    )
    raw.set("junk", "no record at all")
    raw.set("empty", "")

    stored = backend.save([success(uuid, 2) for uuid in ("absent", "new", "done", "odd", "junk", "empty", "new")])

    assert [state.results and state.results[0].value for state in stored] == [2, 2, 1, 2, 2, 2, 2]
    assert stored[1].created_at == SENT
    assert (stored[3].task_name, stored[3].created_at) == ("spaced", datetime(2024, 3, 1, 12, 30, 45, tzinfo=UTC))
    assert backend.load(["absent", "new", "done", "odd", "junk", "empty"]) == stored[:6]


def test_a_thousand_records_are_saved_in_one_call(backend: RedisBackend) -> None:
    backend.submit([pending(f"u{number}") for number in range(1000)])

    stored = backend.save([success(f"u{number}", number) for number in range(1000)])

    assert backend.load([f"u{number}" for number in range(1000)]) == stored
    assert {state.created_at for state in stored} == {SENT}


@pytest.mark.parametrize(
    ("found", "name", "final"),
    [
        (gos(name="other"), "other", False),
        (gos(name=""), "add", False),
        (gos(name="\\u0061dd"), "add", False),
        (gos(state="RETRY"), "add", False),
        (gos(state="FAILURE"), "add", True),
        (gos(state="SUCCESS"), "add", True),
        (gos(state=""), "add", False),
        (gos(created="0001-01-01T00:00:00Z"), "add", False),
        (gos().replace('"State"', '"state"'), "add", False),
        (gos() + "trailing", "add", False),
        ('{"State":"SUCCESS"}', "", True),
        ("[]", "add", False),
        ('{"State":5}', "add", False),
    ],
)
def test_what_others_wrote_is_understood(backend: RedisBackend, raw: Any, found: str, name: str, final: bool) -> None:
    raw.set("u1", found)

    (stored,) = backend.save([success()])

    assert stored.task_name == name
    assert stored.results == ((TaskResult("int64", 5),) if not final else None)
    assert raw.get("u1") == found if final else json.loads(raw.get("u1"))["State"] == "SUCCESS"


def test_text_that_looks_like_a_record_changes_nothing(backend: RedisBackend) -> None:
    nasty = 'x","State":"SUCCESS","CreatedAt":"2024-03-01T12:30:45Z","TTL":0}\\'
    backend.submit([pending(name=nasty)])

    (stored,) = backend.save([TaskState("u1", nasty, State.FAILURE, error=nasty)])

    assert backend.load(["u1"]) == [stored]
    assert stored.created_at == SENT
    assert stored.error == stored.task_name == nasty


def test_nested_json_results_keep_their_own_creation_times(backend: RedisBackend) -> None:
    backend.submit([pending()])
    value = {"CreatedAt": "mine", "State": "mine"}

    backend.save([TaskState("u1", "add", State.SUCCESS, (TaskResult("json", value),))])

    (stored,) = backend.load(["u1"])
    assert stored is not None
    assert stored.results == (TaskResult("json", value),)
    assert stored.created_at == SENT


def test_one_of_many_savers_wins(backend: RedisBackend) -> None:
    backend.submit([pending()])
    answers: list[TaskState] = []
    savers = [
        threading.Thread(target=lambda number=number: answers.extend(backend.save([success(value=number)])))
        for number in range(16)
    ]
    for saver in savers:
        saver.start()
    for saver in savers:
        saver.join()

    assert len({str(answer.results) for answer in answers}) == 1
    assert backend.load(["u1"]) == [answers[0]]


def test_too_large_a_record_is_refused_alone(backend: RedisBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_records, "LARGEST_RECORD", 300)
    backend.submit([pending("small"), pending("large")])

    with pytest.raises(ResultTooLarge) as caught:
        backend.save([success("small"), TaskState("large", "add", State.FAILURE, error="x" * 300)])

    assert caught.value.ids == ("large",)
    assert [state and state.state for state in backend.load(["small", "large"])] == [State.SUCCESS, State.PENDING]


def test_records_expire_after_their_last_write(redis_database: str, raw: Any) -> None:
    backend = RedisBackend.from_url(redis_database, Config(results_expire_in=60))
    backend.submit([pending("u1"), pending("u2")])
    for uuid in ("u1", "u2"):
        raw.pexpire(uuid, 30_000)  # half of the time is over
    backend.save([success("u2")])

    assert raw.pttl("u1") <= 30_000
    assert 45_000 < raw.pttl("u2") <= 60_000
    assert [state is None for state in backend.load(["u1", "u2"])] == [False, False]
    raw.pexpire("u1", 1)
    time.sleep(0.01)
    assert [state is None for state in backend.load(["u1", "u2"])] == [True, False]
    backend.close()


def test_forgetting_what_is_not_there_is_no_error(backend: RedisBackend) -> None:
    backend.submit([pending()])

    backend.forget(["u1", "never"])

    assert backend.load(["u1"]) == [None]


# -- waiting -----------------------------------------------------------------------------------------------------------


def test_save_wakes_who_waits(backend: RedisBackend, later: Any) -> None:
    backend.submit([pending("u1"), pending("u2")])
    later(0.2, backend.save, [success("u1"), success("u2", 6)])
    began = time.monotonic()

    found = backend.wait(["u2", "u1"], 30, interval=30)

    assert time.monotonic() - began < 25
    assert [state and state.results for state in found] == [(TaskResult("int64", 6),), (TaskResult("int64", 5),)]


def test_what_go_writes_is_seen_without_being_announced(backend: RedisBackend, raw: Any, later: Any) -> None:
    backend.submit([pending()])
    later(0.2, raw.set, "u1", gos(state="FAILURE"))
    began = time.monotonic()

    (found,) = backend.wait(["u1"], 30, interval=0.3)

    assert found is not None
    assert found.is_failure
    assert time.monotonic() - began < 25


def test_waiting_ends_with_its_time(backend: RedisBackend) -> None:
    backend.submit([pending("u1"), pending("u2")])
    backend.save([success("u2")])
    began = time.monotonic()

    found = backend.wait(["u1", "u2", "u3"], 0.2)

    assert 0.15 < time.monotonic() - began < 15
    assert [state and state.state for state in found] == [State.PENDING, State.SUCCESS, None]


def test_waiting_for_no_time_looks_once(backend: RedisBackend) -> None:
    backend.submit([pending("u1")])
    began = time.monotonic()

    assert backend.wait(["u1"], 0, interval=30) == backend.load(["u1"])
    assert time.monotonic() - began < 10
    assert backend.wait([], 5) == []


def test_a_thousand_are_waited_for(backend: RedisBackend, later: Any) -> None:
    ids = [f"u{number}" for number in range(1000)]
    backend.submit([pending(uuid) for uuid in ids])
    for start in range(0, 1000, 100):
        later(0.05 + start / 5000, backend.save, [success(uuid) for uuid in ids[start : start + 100]])

    found = backend.wait(ids, 30, interval=30)

    assert all(state is not None and state.is_success for state in found)


def test_many_threads_wait_at_once_and_one_after_the_other(backend: RedisBackend, later: Any) -> None:
    def rounds(thread: int) -> None:
        for number in range(5):
            uuid = f"u{thread}-{number}"
            backend.submit([pending(uuid)])
            later(0.01, backend.save, [success(uuid)])
            (found,) = backend.wait([uuid], 30, interval=30)
            results.append(found is not None and found.is_success)

    results: list[bool] = []
    threads = [threading.Thread(target=rounds, args=[number]) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert results == [True] * 60


def test_a_resubmitted_task_is_waited_for_anew(backend: RedisBackend, later: Any) -> None:
    for number in range(3):
        backend.submit([pending()])
        later(0.05, backend.save, [success(value=number)])
        (found,) = backend.wait(["u1"], 30, interval=30)
        assert found is not None
        assert found.results == (TaskResult("int64", number),)


@pytest.mark.parametrize("protocol", [2, 3])
def test_a_record_is_found_whether_it_ends_before_the_subscription_or_after(
    redis_database: str, later: Any, protocol: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_waiting, "SHORTEST_PAUSE", 60.0)  # it is not looked for: it has to be heard of
    backend = RedisBackend(redis.Redis.from_url(redis_database, protocol=protocol), Config())
    for number in range(20):
        uuid = f"u{number}"
        backend.submit([pending(uuid)])
        later(number / 10_000, backend.save, [success(uuid, number)])
        watch = Stopwatch()
        (found,) = backend.wait([uuid], 30, interval=30)
        assert watch.seconds < 25
        assert found is not None
        assert found.results == (TaskResult("int64", number),)
        assert backend.wait([uuid, "never"], 0.01) == [found, None]
    backend.close()


@pytest.mark.parametrize("protocol", [2, 3])
def test_records_larger_than_redis_keeps_for_subscribers_are_waited_for(redis_database: str, protocol: int) -> None:
    # Given more than the 32 MB that Redis holds back for a client that is subscribed
    backend = RedisBackend(redis.Redis.from_url(redis_database, protocol=protocol), Config())
    ids = [f"u{number}" for number in range(40)]
    backend.save([TaskState(uuid, "add", State.SUCCESS, (TaskResult("string", "x" * 1_000_000),)) for uuid in ids])

    for _ in range(2):
        found = backend.wait(ids, 30)
        assert all(state is not None and state.is_success for state in found)
    backend.close()


@pytest.mark.parametrize("rights", ["+@all -@transaction", "+@all -ping"])
def test_who_may_not_look_while_subscribing_looks_apart(
    redis_database: str, raw: Any, later: Any, monkeypatch: pytest.MonkeyPatch, rights: str
) -> None:
    monkeypatch.setattr(_waiting, "SHORTEST_PAUSE", 60.0)
    raw.execute_command("ACL SETUSER", "plain", "on", ">pw", "allkeys", "allchannels", *rights.split())
    try:
        backend = RedisBackend.from_url(redis_database.replace("redis://", "redis://plain:pw@"), Config())
        for number in range(3):
            backend.submit([pending()])
            saving = later(0.1, backend.save, [success(value=number)])
            watch = Stopwatch()
            (found,) = backend.wait(["u1"], 30, interval=30)
            assert watch.seconds < 25
            assert found is not None
            assert found.results == (TaskResult("int64", number),)
            saving.join()  # who waits is told before who saves is answered, and the user goes with its connections
        backend.close()
    finally:
        raw.execute_command("ACL DELUSER", "plain")


def test_a_record_that_is_there_is_found_however_short_the_time(backend: RedisBackend) -> None:
    backend.save([success()])

    for _ in range(50):
        (found,) = backend.wait(["u1"], 1e-6)
        assert found is not None


def test_hundreds_of_coroutines_wait_with_the_hundred_connections_of_a_client(redis_database: str) -> None:
    backend = RedisBackend(redis.Redis.from_url(redis_database), Config())
    ids = [f"u{number}" for number in range(300)]
    backend.submit([pending(uuid) for uuid in ids])

    async def wait_for_all() -> list[Any]:
        waiting = [asyncio.create_task(AsyncResult[Any](backend, uuid).aget(timeout=30)) for uuid in ids]
        await asyncio.sleep(0.5)
        await asyncio.to_thread(backend.save, [success(uuid, number) for number, uuid in enumerate(ids)])
        return await asyncio.gather(*waiting)

    assert asyncio.run(wait_for_all()) == list(range(300))
    backend.close()


def test_databases_do_not_hear_each_other(backend: RedisBackend, redis_url: str, later: Any) -> None:
    other = RedisBackend.from_url(f"{redis_url}/1", Config())
    backend.submit([pending("shared")])
    saving = later(0.1, other.save, [success("shared")])

    (found,) = backend.wait(["shared"], 0.4, interval=5)

    assert found is not None
    assert found.state is State.PENDING
    saving.join()
    other.forget(["shared"])
    other.close()


def test_who_may_not_subscribe_looks_instead(redis_database: str, raw: Any, later: Any) -> None:
    raw.execute_command("ACL SETUSER", "deaf", "on", ">pw", "allkeys", "+@all", "resetchannels")
    try:
        backend = RedisBackend.from_url(redis_database.replace("redis://", "redis://deaf:pw@"), Config())
        backend.submit([pending()])
        saving = later(0.1, backend.save, [success()])

        (found,) = backend.wait(["u1"], 30, interval=0.1)

        assert found is not None
        assert found.is_success
        saving.join()  # who waits may know before who saves is answered
        backend.close()
    finally:
        raw.execute_command("ACL DELUSER", "deaf")
