"""Records: Go's JSON under the id, the first final one wins, what does not fit is refused by name."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from machinery.abc import Config, State, TaskResult, TaskState
from machinery.errors import DecodeError, ResultTooLarge
from machinery.testing._expectations import eventually
from machinery.wire import encode_state
from machinery_backend_memcache import MemcacheBackend
from machinery_backend_memcache._ends import LATEST, NEVER, end_in
from tests.plugins.backend_memcache.conftest import connected_to
from tests.services.chain import Unobtainable, missing
from tests.services.memcached import MemcachedServer

SENT = datetime(2024, 3, 1, 12, 30, 45, 123456, tzinfo=UTC)
GO_TIME = "2024-03-01T12:30:45.123456789Z"
KIB, MIB = 1024, 1024 * 1024


def pending(uuid: str, name: str = "add") -> TaskState:
    return TaskState(uuid, name, State.PENDING, created_at=SENT)


def success(uuid: str, value: object = 5, kind: str = "int64") -> TaskState:
    return TaskState(uuid, "", State.SUCCESS, (TaskResult(kind, value),))


def gos(uuid: str, state: str = "PENDING", name: str = "add", created: str = GO_TIME) -> str:
    return (
        f'{{"TaskUUID":"{uuid}","TaskName":"{name}","State":"{state}","Results":null,"Error":"",'
        f'"CreatedAt":"{created}","TTL":0}}'
    )


def metadata_of(raw: Any, key: str) -> dict[str, int]:
    """What the server tells of an item: seconds left, size, …"""
    found = raw.raw_command(f"mg {key} t s f")
    assert found.startswith(b"HD"), found
    return {part[:1].decode(): int(part[1:]) for part in found.split()[1:]}


def test_a_record_is_gos_json_under_the_uuid(backend: MemcacheBackend, raw: Any, uuid: str) -> None:
    backend.submit([pending(uuid)])

    assert raw.get(uuid) == encode_state(pending(uuid))
    found = metadata_of(raw, uuid)
    assert 3540 <= found["t"] <= 3605
    assert found["f"] == 0


def test_name_and_time_are_kept_and_returned(backend: MemcacheBackend, uuid: str) -> None:
    backend.submit([pending(uuid)])

    (stored,) = backend.save([TaskState(uuid, "", State.STARTED)])

    assert stored == TaskState(uuid, "add", State.STARTED, created_at=SENT)
    assert backend.load([uuid]) == [stored]


def test_gos_nanoseconds_survive(backend: MemcacheBackend, raw: Any, uuid: str) -> None:
    raw.set(uuid, gos(uuid))

    backend.save([success(uuid)])

    assert json.loads(raw.get(uuid))["CreatedAt"] == GO_TIME


@pytest.mark.parametrize(
    ("name", "state", "is_final"),
    [("other", "PENDING", False), ("", "RETRY", False), ("add", "SUCCESS", True), ("add", "FAILURE", True)],
)
def test_what_go_wrote_is_understood(
    backend: MemcacheBackend, raw: Any, uuid: str, name: str, state: str, is_final: bool
) -> None:
    found = gos(uuid, state, name)
    raw.set(uuid, found)

    (stored,) = backend.save([TaskState(uuid, "mine", State.SUCCESS, (TaskResult("int64", 5),))])

    assert stored.task_name == (name or "mine")
    assert stored.was_final is is_final
    assert raw.get(uuid) == (found.encode() if is_final else encode_state(stored))


@pytest.mark.parametrize("junk", [b"", b"no record at all", b"[]", b'{"State":5}', b"\xff\r\nEND\r\n"])
def test_what_is_no_record_is_replaced(backend: MemcacheBackend, raw: Any, uuid: str, junk: bytes) -> None:
    raw.set(uuid, junk)

    (stored,) = backend.save([success(uuid)])

    assert not stored.was_final
    assert backend.load([uuid]) == [stored]


def test_what_is_no_record_cannot_be_read(backend: MemcacheBackend, raw: Any, uuid: str) -> None:
    raw.set(uuid, b"END\r\nno record at all")

    with pytest.raises(DecodeError):
        backend.load([uuid])


def test_a_batch_is_answered_in_order_whatever_was_there(
    backend: MemcacheBackend, raw: Any, new_id: Callable[[], str]
) -> None:
    absent, new, done, junk = (new_id() for _ in range(4))
    backend.submit([pending(new), pending(done)])
    backend.save([success(done, 1)])
    raw.set(junk, b"junk")

    stored = backend.save([success(uuid, 2) for uuid in (absent, new, done, junk, new)])

    assert [state.results and state.results[0].value for state in stored] == [2, 2, 1, 2, 2]
    assert [state.was_final for state in stored] == [False, False, True, False, True]
    assert backend.load([absent, new, done, junk, new]) == stored


def test_a_batch_is_one_round_trip_to_read_and_one_to_write(
    backend: MemcacheBackend, raw: Any, new_id: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [new_id() for _ in range(100)]
    trips: list[str] = []
    over = backend._servers._over

    def counted(server: int, exchange: Any, *arguments: Any) -> Any:
        trips.append(exchange.__name__)
        return over(server, exchange, *arguments)

    monkeypatch.setattr(backend._servers, "_over", counted)

    backend.submit([pending(uuid) for uuid in ids])
    assert trips == ["ask"]
    backend.save([success(uuid) for uuid in ids])
    assert trips == ["ask", "fetch", "ask"]
    backend.load(ids)
    assert trips == ["ask", "fetch", "ask", "fetch"]


def test_only_one_of_many_savers_wins_through_many_backends(
    make_backend: Callable[..., MemcacheBackend], new_id: Callable[[], str]
) -> None:
    ids = [new_id() for _ in range(20)]
    backends = [make_backend() for _ in range(8)]
    backends[0].submit([pending(uuid) for uuid in ids])
    answers: list[list[TaskState]] = []

    def save(number: int) -> None:
        backends[number].save([TaskState(uuid, "", State.STARTED) for uuid in ids])
        answers.append(backends[number].save([success(uuid, number) for uuid in ids]))

    savers = [threading.Thread(target=save, args=[number]) for number in range(8)]
    for saver in savers:
        saver.start()
    for saver in savers:
        saver.join()

    assert len(answers) == 8
    assert all(answer == answers[0] for answer in answers)
    assert backends[0].load(ids) == answers[0]
    assert sum(not state.was_final for answer in answers for state in answer) == len(ids)


def test_gos_later_writes_do_not_break_ours(backend: MemcacheBackend, raw: Any, uuid: str) -> None:
    """Go overwrites whatever is there, between our reading and our writing too."""
    backend.submit([pending(uuid)])
    backend.save([success(uuid)])
    raw.set(uuid, gos(uuid, "STARTED", ""))

    (stored,) = backend.save([success(uuid, 6)])

    assert stored.results == (TaskResult("int64", 6),)


def test_crashes_are_a_key_of_ours_that_is_left_out_when_there_were_none(
    backend: MemcacheBackend, raw: Any, uuid: str
) -> None:
    backend.save([TaskState(uuid, "add", State.STARTED, crashes=2)])
    assert json.loads(raw.get(uuid))["Crashes"] == 2

    backend.save([TaskState(uuid, "add", State.STARTED)])
    assert b"Crashes" not in raw.get(uuid)


# -- times to live -----------------------------------------------------------------------------------------------------------


def test_records_expire_after_their_last_write(
    make_backend: Callable[..., MemcacheBackend], raw: Any, new_id: Callable[[], str]
) -> None:
    backend = make_backend(results_expire_in=1)
    gone, final = new_id(), new_id()
    backend.submit([pending(gone), pending(final)])
    backend.save([success(final)])

    assert eventually(lambda: backend.load([gone, final]) == [None, None])
    assert raw.get(gone) is None


def test_a_short_life_is_at_least_as_long_as_it_was_to_be(
    make_backend: Callable[..., MemcacheBackend], uuid: str
) -> None:
    backend = make_backend(results_expire_in=0.5)
    began = time.monotonic()
    backend.submit([pending(uuid)])

    eventually(lambda: backend.load([uuid]) == [None])

    assert time.monotonic() - began > 0.4


def test_a_life_of_more_than_thirty_days_is_not_taken_for_an_instant(
    make_backend: Callable[..., MemcacheBackend], raw: Any, uuid: str
) -> None:
    make_backend(results_expire_in=timedelta(days=60)).submit([pending(uuid)])

    assert metadata_of(raw, uuid)["t"] == pytest.approx(60 * 86_400, abs=60)


def test_a_life_beyond_what_memcached_can_count_has_no_end(
    make_backend: Callable[..., MemcacheBackend], raw: Any, uuid: str
) -> None:
    assert end_in(10) <= LATEST
    assert end_in(timedelta(days=36_500).total_seconds()) == NEVER

    make_backend(results_expire_in=timedelta(days=36_500)).submit([pending(uuid)])

    assert metadata_of(raw, uuid)["t"] == -1


# -- sizes -------------------------------------------------------------------------------------------------------------------


def text_of(size: int, uuid: str) -> TaskState:
    """A result whose record has exactly ``size`` bytes."""
    bare = len(encode_state(TaskState(uuid, "add", State.SUCCESS, (TaskResult("string", ""),), created_at=SENT)))
    return success(uuid, "x" * (size - bare), "string")


@pytest.fixture
def roomy(tmp_path: Path) -> Any:
    """A server that takes items of 32 MiB."""
    try:
        server = MemcachedServer(tmp_path / "roomy", arguments=("-I", "32m", "-m", "256"))
    except Unobtainable as reason:
        missing("memcached", str(reason))
    with server:
        yield server


def test_a_result_of_64_kib_is_stored(backend: MemcacheBackend, uuid: str) -> None:
    backend.submit([pending(uuid)])

    (stored,) = backend.save([text_of(64 * KIB, uuid)])

    assert backend.load([uuid]) == [stored]


@pytest.mark.parametrize("length", [1, 41, 250])
def test_the_largest_record_is_stored_whatever_the_keys_length(
    backend: MemcacheBackend, new_id: Callable[[], str], length: int
) -> None:
    largest = backend.capabilities.largest_record
    assert largest is not None
    key = (new_id().removeprefix("task_") + "x" * 250)[:length]
    backend.forget([key])
    backend.submit([pending(key)])

    (stored,) = backend.save([text_of(largest, key)])

    assert backend.load([key]) == [stored]
    backend.submit([pending(key)])
    with pytest.raises(ResultTooLarge):
        backend.save([text_of(largest + 1, key)])
    backend.forget([key])


@pytest.mark.parametrize("size", [MIB, 16 * MIB])
def test_a_larger_result_is_refused_by_id_and_the_old_record_stays(
    backend: MemcacheBackend, new_id: Callable[[], str], size: int
) -> None:
    small, large, other = new_id(), new_id(), new_id()
    backend.submit([pending(uuid) for uuid in (small, large, other)])

    with pytest.raises(ResultTooLarge, match="item_size_max") as caught:
        backend.save([success(small), text_of(size, large), success(other)])

    assert caught.value.ids == (large,)
    states = [state and state.state for state in backend.load([small, large, other])]
    assert states == [State.SUCCESS, State.PENDING, State.SUCCESS]


@pytest.mark.parametrize("size", [64 * KIB, MIB, 16 * MIB])
def test_a_server_that_takes_larger_items_is_given_them(roomy: MemcachedServer, uuid: str, size: int) -> None:
    backend = MemcacheBackend.from_url(f"{roomy.url}?item_size_max={32 * MIB}", Config())
    backend.submit([pending(uuid)])

    (stored,) = backend.save([text_of(size, uuid)])

    assert backend.load([uuid]) == [stored]
    backend.close()


def test_a_server_that_takes_less_than_was_said_still_refuses_by_id_and_keeps_the_old_record(
    memcached_server: MemcachedServer, new_id: Callable[[], str]
) -> None:
    backend = MemcacheBackend.from_url(f"{memcached_server.url}?item_size_max={4 * MIB}", Config())
    small, large, absent = new_id(), new_id(), new_id()
    backend.submit([pending(small), pending(large)])

    with pytest.raises(ResultTooLarge) as caught:
        backend.save([text_of(2 * MIB, large), success(small), text_of(2 * MIB, absent)])

    assert caught.value.ids == (large, absent)
    assert [state and state.state for state in backend.load([small, large, absent])] == [
        State.SUCCESS,
        State.PENDING,
        None,
    ]
    with pytest.raises(ResultTooLarge):
        backend.submit([TaskState(absent, "x" * 2 * MIB)])
    backend.close()


def test_after_a_refusal_the_connection_is_still_in_step(memcached_server: MemcachedServer, uuid: str) -> None:
    backend = MemcacheBackend.from_url(f"{memcached_server.url}?item_size_max={4 * MIB}", Config())
    with connected_to(memcached_server.url) as client:
        before = int(client.stats()[b"total_connections"])  # of those who looked whether it is up
        for number in range(5):
            with pytest.raises(ResultTooLarge):
                backend.save([text_of(2 * MIB, uuid)])
            (stored,) = backend.save([success(f"{uuid}-{number}", number)])
            assert backend.load([f"{uuid}-{number}"]) == [stored]
        assert int(client.stats()[b"total_connections"]) == before + 1
    backend.close()


def test_a_batch_of_large_records_is_one_call(backend: MemcacheBackend, new_id: Callable[[], str]) -> None:
    ids = [new_id() for _ in range(10)]
    backend.submit([pending(uuid) for uuid in ids])

    stored = backend.save([text_of(MIB - 1024, uuid) for uuid in ids])

    assert backend.load(ids) == stored


def test_when_memory_is_full_the_longest_unused_is_thrown_out_and_nothing_breaks(tmp_path: Path) -> None:
    try:
        server = MemcachedServer(tmp_path / "small", arguments=("-m", "8"))
    except Unobtainable as reason:
        missing("memcached", str(reason))
    with server:
        backend = MemcacheBackend.from_url(server.url, Config())
        for number in range(200):
            backend.save([text_of(100 * KIB, f"u{number}")])
        found = backend.load([f"u{number}" for number in range(200)])
        assert found[0] is None
        assert found[-1] is not None
        backend.close()
