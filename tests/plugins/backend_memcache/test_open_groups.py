"""The list of chords that have not ended: shortened as it grows, kept apart for each application, and no more than a hint."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from machinery.abc import Config, GroupMeta, Signature
from machinery_backend_memcache import MemcacheBackend
from machinery_backend_memcache._exchange import to_store
from machinery_backend_memcache._keys import group_keys, open_groups_key
from tests.services.memcached import MemcachedServer

CALLBACK = Signature("sum")
LATER = datetime.now(UTC) + timedelta(days=1)


@pytest.fixture
def own(make_backend: Callable[..., MemcacheBackend], uuid: str) -> MemcacheBackend:
    """A backend of an application that has the Memcached in common with others, and no more."""
    return make_backend(default_queue=uuid)


@pytest.fixture
def key(uuid: str) -> bytes:
    """Where its list is."""
    return open_groups_key("", uuid)


def make_chords(backend: MemcacheBackend, new_id: Callable[[], str], count: int) -> list[str]:
    made = [f"group_{new_id()}" for _ in range(count)]
    for group_uuid in made:
        backend.create_group(GroupMeta(group_uuid, (new_id(),)), CALLBACK)
    return made


def test_the_list_is_shortened_when_most_of_it_has_ended(
    own: MemcacheBackend, raw: Any, key: bytes, new_id: Callable[[], str]
) -> None:
    made = make_chords(own, new_id, 60)
    for group_uuid in made[:50]:
        own.close_group(group_uuid)
    assert len(raw.get(key).split()) == 60

    assert own.open_groups(LATER, 100) == made[50:]

    assert raw.get(key).decode().split() == made[50:]
    assert own.open_groups(LATER, 3) == made[50:53]
    assert own.open_groups(LATER, 0) == []


def test_applications_on_one_memcached_see_their_own_chords_alone(
    own: MemcacheBackend, make_backend: Callable[..., MemcacheBackend], new_id: Callable[[], str], uuid: str
) -> None:
    """A worker that looks after another application's chord would send its callback to the wrong broker."""
    (made,) = make_chords(own, new_id, 1)

    assert make_backend(default_queue=uuid).open_groups(LATER, 9) == [made]
    assert make_backend(default_queue=new_id()).open_groups(LATER, 9) == []
    assert make_backend(default_queue=uuid, broker="redis://elsewhere").open_groups(LATER, 9) == []


def test_a_password_makes_no_difference_and_cannot_be_guessed_from_the_key(
    make_backend: Callable[..., MemcacheBackend], new_id: Callable[[], str], uuid: str
) -> None:
    sender, worker = (
        make_backend(default_queue=uuid, broker=f"amqp://me:{password}@h") for password in ("hunter2", "changed")
    )
    (made,) = make_chords(sender, new_id, 1)

    assert worker.open_groups(LATER, 9) == [made]


def test_a_list_that_was_thrown_out_begins_anew(
    own: MemcacheBackend, raw: Any, key: bytes, new_id: Callable[[], str]
) -> None:
    make_chords(own, new_id, 3)
    raw.delete(key)
    assert own.open_groups(LATER, 9) == []

    (made,) = make_chords(own, new_id, 1)

    assert own.open_groups(LATER, 9) == [made]


def test_progress_that_was_thrown_out_takes_the_chord_off_the_list_and_no_more(
    own: MemcacheBackend, raw: Any, new_id: Callable[[], str]
) -> None:
    first, second = make_chords(own, new_id, 2)
    raw.delete(group_keys(first).progress)

    assert own.open_groups(LATER, 9) == [second]
    assert own.load_group(first).callback == CALLBACK


def test_a_member_that_finishes_late_does_not_open_the_chord_again(
    own: MemcacheBackend, new_id: Callable[[], str]
) -> None:
    (made,) = make_chords(own, new_id, 1)
    own.close_group(made)

    own.finish_members([(made, "u1")])

    assert own.open_groups(LATER, 9) == []


def test_chords_made_by_many_at_once_are_all_listed(
    make_backend: Callable[..., MemcacheBackend], new_id: Callable[[], str], uuid: str
) -> None:
    made: list[str] = []
    backends = [make_backend(default_queue=uuid) for _ in range(8)]

    def make(backend: MemcacheBackend) -> None:
        for group_uuid in make_chords(backend, new_id, 20):
            made.append(group_uuid)
            backend.open_groups(LATER, 1000)

    threads = [threading.Thread(target=make, args=[backend]) for backend in backends]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(backends[0].open_groups(LATER, 1000)) == sorted(made)


def test_a_full_list_is_shortened_before_more_is_put_on_it(
    memcached_server: MemcachedServer, new_id: Callable[[], str]
) -> None:
    backend = MemcacheBackend.from_url(memcached_server.url, Config())
    (first,) = make_chords(backend, new_id, 1)
    servers, key = backend._servers, open_groups_key("", Config().default_queue)
    ended = b"".join(b"%s%040d\n" % (b"x" * 20, number) for number in range(18_000))

    def is_taken(size: int) -> bool:
        return servers.ask([(0, to_store(b"set", key, first.encode() + b"\n" + ended[:size], 0))]) == [b"STORED"]

    largest = bisect_left(range(len(ended)), 1, key=lambda size: not is_taken(size)) - 1
    assert is_taken(largest)
    full = len(servers.fetch([(0, key)])[key].value)

    (second,) = make_chords(backend, new_id, 1)

    assert len(servers.fetch([(0, key)])[key].value) < full // 100
    assert backend.open_groups(LATER, 9) == [first, second]
    backend.close()
