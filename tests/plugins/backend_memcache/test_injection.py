"""The application's own pymemcache clients."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from pymemcache import serde
from pymemcache.client.base import Client, PooledClient
from pymemcache.client.hash import HashClient

from machinery.abc import Config, GroupMeta, Signature, State, TaskState
from machinery.errors import BackendUnavailable, Closed, ConfigError
from machinery_backend_memcache import MemcacheBackend
from tests.services.memcached import MemcachedServer


@pytest.fixture(
    params=[
        {},
        {"serde": serde.pickle_serde},
        {"ignore_exc": True},
        {"default_noreply": False, "encoding": "utf-8", "allow_unicode_keys": True},
        {"max_pool_size": 1},
    ],
    ids=["plain", "a serde", "errors ignored", "other texts", "one connection"],
)
def client(request: pytest.FixtureRequest, memcached_url: str) -> Iterator[PooledClient]:
    where = urlsplit(memcached_url)
    made = PooledClient((where.hostname, where.port or 11211), no_delay=True, timeout=30, **request.param)
    yield made
    made.close()


def test_any_pool_will_do_and_stays_the_applications(client: PooledClient, uuid: str) -> None:
    backend = MemcacheBackend(client, Config())
    state = TaskState(uuid, "add")
    backend.submit([state])
    assert backend.load([uuid]) == [state]
    (saved,) = backend.save([TaskState(uuid, "", State.SUCCESS, ())])
    assert backend.wait([uuid], 1) == [saved]
    backend.create_group(GroupMeta(f"group_{uuid}", (uuid,)), Signature("sum"))
    assert backend.finish_members([(f"group_{uuid}", uuid)]) == [1]
    assert backend.claim_chord(f"group_{uuid}", uuid)
    assert backend.examine()

    backend.close()

    assert client.version()
    with pytest.raises(Closed):
        backend.load([uuid])


def test_options_win_over_the_section(client: PooledClient) -> None:
    config = Config(sections={"memcache": {"item_size_max": 65_536}})

    assert MemcacheBackend(client, config).capabilities.largest_record == 65_536 - 512
    assert MemcacheBackend(client, config, item_size_max=32_768).capabilities.largest_record == 32_768 - 512
    assert MemcacheBackend(client).capabilities.largest_record == 2**20 - 512


def test_several_pools_are_several_servers_in_that_order(tmp_path: Path, memcached_server: MemcachedServer) -> None:
    with MemcachedServer(tmp_path / "other") as other:
        ports = [memcached_server.port, other.port]
        pools = [PooledClient(("127.0.0.1", port), no_delay=True, timeout=30) for port in ports]
        given = MemcacheBackend(pools)
        by_url = MemcacheBackend.from_url("memcache://" + ",".join(f"127.0.0.1:{port}" for port in ports), Config())
        states = [TaskState(f"u{number}", "add") for number in range(50)]
        given.submit(states)
        assert by_url.load([state.task_uuid for state in states]) == states
        by_url.close()
        given.close()
        for pool in pools:
            pool.close()


@pytest.mark.parametrize(
    ("clients", "text"),
    [
        (Client(("127.0.0.1", 1)), "not as Client"),
        (HashClient([("127.0.0.1", 1)]), "not as HashClient"),
        ("memcache://127.0.0.1", "not as str"),
        (PooledClient(("127.0.0.1", 1), key_prefix=b"mine:"), "key_prefix"),
        ([], "at least one"),
    ],
)
def test_what_cannot_be_used_is_refused(clients: Any, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        MemcacheBackend(clients)


def test_wrong_options_are_a_config_error() -> None:
    with pytest.raises(ConfigError, match="did you mean 'item_size_max'"):
        MemcacheBackend(PooledClient(("127.0.0.1", 1)), item_size_mx=5)


def test_a_pool_with_no_connection_left_is_unavailable(memcached_url: str) -> None:
    where = urlsplit(memcached_url)
    small = PooledClient((where.hostname, where.port or 11211), timeout=30, max_pool_size=1)
    backend = MemcacheBackend(small)
    with small.client_pool.get_and_release(), pytest.raises(BackendUnavailable, match="max_pool_size"):
        backend.load(["u1"])
    assert backend.load(["u-never"]) == [None]
    small.close()
