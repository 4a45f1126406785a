"""Keys: what can be one, and which of several servers has it, for Go and for us."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from machinery.abc import Config, GroupMeta, Signature, State, TaskResult, TaskState
from machinery.errors import BackendUnavailable, EncodeError, GroupNotFound
from machinery_backend_memcache import MemcacheBackend
from machinery_backend_memcache._keys import LONGEST_KEY, group_keys, server_of
from tests.plugins.backend_memcache.conftest import connected_to
from tests.services.chain import Unobtainable, missing
from tests.services.memcached import MemcachedServer

PLACES = {
    "task_7b6bb0a4-5ef6-4f9e-9d60-0b1e5a3c1f11": 1,
    "group_0d9e8d3e-0a32-4d5c-8a4e-3f8b8f4d2a01": 1,
    "task_00000000-0000-0000-0000-000000000001": 0,
    "u1": 2,
    "ключ": 0,
    "x" * 250: 2,
}
"""Key → which of three servers ``ServerList.PickServer`` picks in the gomemcache that Go Machinery v2.0.16 requires, by its place
in the list, which is not sorted."""

THREE = [f"u{number}" for number in range(60)]


@pytest.fixture
def three(tmp_path: Path) -> Iterator[list[MemcachedServer]]:
    servers: list[MemcachedServer] = []
    try:
        for number in range(3):
            servers.append(MemcachedServer(tmp_path / str(number)))
            servers[-1].start()
    except Unobtainable as reason:
        missing("memcached", str(reason))
    yield servers
    for server in servers:
        server.kill()


@pytest.fixture
def backend_on_three(three: list[MemcachedServer]) -> Iterator[MemcacheBackend]:
    url = "memcache://" + ",".join(f"127.0.0.1:{server.port}" for server in three)
    made = MemcacheBackend.from_url(url, Config(connect_timeout=30))
    yield made
    made.close()


@pytest.mark.parametrize(("key", "place"), PLACES.items())
def test_go_and_we_pick_the_same_server(key: str, place: int) -> None:
    assert server_of(key.encode(), 3) == place


def test_records_lie_where_go_looks_for_them(three: list[MemcachedServer], backend_on_three: MemcacheBackend) -> None:
    ids = list(PLACES)
    backend_on_three.submit([TaskState(uuid, "add") for uuid in ids])

    for place, server in enumerate(three):
        with connected_to(server.url) as client:
            assert set(client.get_many(ids)) == {uuid for uuid in ids if PLACES[uuid] == place}


def test_a_batch_spans_the_servers_and_comes_back_in_order(backend_on_three: MemcacheBackend) -> None:
    backend_on_three.submit([TaskState(uuid, "add") for uuid in THREE])
    results = [TaskState(uuid, "", State.SUCCESS, (TaskResult("int64", at),)) for at, uuid in enumerate(THREE)]

    stored = backend_on_three.save(results)

    assert [state.task_uuid for state in stored] == THREE
    assert backend_on_three.load(THREE) == stored
    backend_on_three.forget(THREE)
    assert backend_on_three.load(THREE) == [None] * len(THREE)


def test_all_that_belongs_to_a_group_lies_on_one_server(
    three: list[MemcachedServer], backend_on_three: MemcacheBackend
) -> None:
    uuid = "group_0d9e8d3e-0a32-4d5c-8a4e-3f8b8f4d2a01"
    backend_on_three.create_group(GroupMeta(uuid, tuple(THREE)), Signature("callback"))
    backend_on_three.finish_members([(uuid, member) for member in THREE])

    keys = group_keys(uuid)
    names = [keys.meta, keys.ours, keys.count, *[keys.finished(member) for member in THREE]]
    with connected_to(three[PLACES[uuid]].url) as client:
        assert set(client.get_many(names)) == set(names)


def test_a_server_that_is_away_is_named_and_never_taken_for_a_miss(
    three: list[MemcachedServer], backend_on_three: MemcacheBackend
) -> None:
    backend_on_three.submit([TaskState(uuid, "add") for uuid in THREE])
    three[1].kill()
    away = [uuid for uuid in THREE if server_of(uuid.encode(), 3) == 1]
    there = [uuid for uuid in THREE if uuid not in away]

    for call in (backend_on_three.load, backend_on_three.forget):
        with pytest.raises(BackendUnavailable, match=f":{three[1].port}"):
            call(THREE)
    with pytest.raises(BackendUnavailable, match=f":{three[1].port}"):
        backend_on_three.save([TaskState(uuid, "", State.SUCCESS, ()) for uuid in THREE])
    backend_on_three.submit([TaskState(uuid, "add") for uuid in there])
    assert None not in backend_on_three.load(there)

    three[1].start()
    assert backend_on_three.load(away) == [None] * len(away)
    assert [each for each in backend_on_three.examine() if each.level == "error"] == []


def test_the_doctor_names_the_server_that_is_away(
    three: list[MemcachedServer], backend_on_three: MemcacheBackend
) -> None:
    three[2].kill()

    errors = [each.text for each in backend_on_three.examine() if each.level == "error"]

    assert len(errors) == 1
    assert f":{three[2].port}" in errors[0]


@pytest.mark.parametrize(
    "name", ["", "two words", "line\r\nflush_all", "tab\t", "null\0", "del\x7f", "x" * 251, "ü" * 126, "\udc80"]
)
def test_an_id_that_cannot_be_a_key_is_refused_when_it_is_written_and_not_there_when_it_is_read(
    backend: MemcacheBackend, name: str
) -> None:
    state = TaskState(name, "add")
    for write in (
        lambda: backend.submit([state]),
        lambda: backend.save([state]),
        lambda: backend.create_group(GroupMeta(name, ("u1",))),
        lambda: backend.create_group(GroupMeta("group_1", (name,))),
    ):
        with pytest.raises(EncodeError, match="key of Memcached"):
            write()
    for read in (lambda: backend.load_group(name), lambda: backend.claim_chord(name, "u1")):
        with pytest.raises(GroupNotFound):
            read()
    assert backend.load([name]) == backend.wait([name], 0) == [None]
    assert backend.finish_members([(name, "u1")]) == [0]
    backend.forget([name])
    backend.close_group(name)


def test_the_longest_ids_still_work(backend: MemcacheBackend, uuid: str) -> None:
    group_uuid = uuid + "g" * (LONGEST_KEY - len(uuid))
    members = tuple(uuid + letter * (LONGEST_KEY - len(uuid)) for letter in "ab")
    backend.create_group(GroupMeta(group_uuid, members), Signature("callback"))

    assert backend.finish_members([(group_uuid, member) for member in members]) == [1, 2]
    assert backend.finish_members([(group_uuid, members[0])]) == [2]
    assert backend.claim_chord(group_uuid, members[1])
    assert backend.load_group(group_uuid).callback == Signature("callback")
    backend.save([TaskState(members[0], "add", State.SUCCESS, ())])
    assert backend.load([members[0]]) != [None]


def test_ids_in_any_script_work(backend: MemcacheBackend, uuid: str) -> None:
    name = f"{uuid}-ключ"
    backend.submit([TaskState(name, "add")])

    (found,) = backend.load([name])
    assert found is not None
    assert found.task_uuid == name


def test_a_members_name_is_checked_like_any_other(backend: MemcacheBackend, uuid: str) -> None:
    """A member is only a part of a key there, yet it must not end the command."""
    with pytest.raises(EncodeError):
        backend.finish_members([(uuid, "two words")])


def test_a_claimants_name_is_a_value_and_may_be_anything(backend: MemcacheBackend, uuid: str) -> None:
    backend.create_group(GroupMeta(uuid, ("u1",)), Signature("callback"))

    assert backend.claim_chord(uuid, 'two "words"\r\nflush_all')
    assert backend.claim_chord(uuid, 'two "words"\r\nflush_all')
    assert not backend.claim_chord(uuid, "u1")
