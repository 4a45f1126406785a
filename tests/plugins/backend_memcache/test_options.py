"""URLs and the section: what they mean, and what is refused with a reason."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from machinery import Server
from machinery.abc import Config
from machinery.errors import ConfigError
from machinery_backend_memcache import MemcacheBackend, MemcacheOptions
from machinery_backend_memcache._options import MEMCACHE_SECTION, to_service


def service(url: str, **options: Any) -> Any:
    return to_service(url, Config(sections={"memcache": options}))


@pytest.mark.parametrize(
    ("url", "servers"),
    [
        ("memcache://h:1234", (("h", 1234),)),
        ("memcache://h", (("h", 11211),)),
        ("memcache://h/", (("h", 11211),)),
        ("memcache://", (("localhost", 11211),)),
        ("MEMCACHE://b:1,a,c:3", (("b", 1), ("a", 11211), ("c", 3))),
        ("memcache://[::1]:7000", (("::1", 7000),)),
        ("memcache:///run/memcached.sock", ("/run/memcached.sock",)),
    ],
)
def test_a_url_names_servers_in_their_order(url: str, servers: tuple[Any, ...]) -> None:
    assert service(url).servers == servers


def test_the_query_wins_over_the_section() -> None:
    found = service("memcache://h?answer_timeout=2&item_size_max=4194304", answer_timeout=3, idle_timeout=9)

    assert found.answer_timeout == 2
    assert found.options.item_size_max == 4 * 1024 * 1024
    assert found.options.idle_timeout == timedelta(seconds=9)


def test_timeouts_follow_from_the_configurations_own() -> None:
    found = to_service("memcache://h", Config(connect_timeout=3))
    assert (found.connect_timeout, found.answer_timeout) == (3, 3)

    found = to_service("memcache://h", Config(connect_timeout=3, sections={"memcache": {"connect_timeout": 1}}))
    assert (found.connect_timeout, found.answer_timeout) == (1, 1)


@pytest.mark.parametrize(
    ("url", "options", "text"),
    [
        ("memcache://h?answr_timeout=2", {}, "did you mean 'answer_timeout'"),
        ("memcache://h", {"item_size_max": 100}, "at least 8192"),
        ("memcache://h", {"item_size_max": "1m"}, "item_size_max"),
        ("memcache://h", {"connect_timeout": 0}, "nothing may wait for ever"),
        ("memcache://h?answer_timeout=0", {}, "nothing may wait for ever"),
        ("memcache://h/1", {}, "path after its servers"),
        ("memcache://h:x", {}, "host:port"),
    ],
)
def test_what_is_wrong_is_said(url: str, options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        service(url, **options)


def test_a_password_is_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigError, match="cannot give") as caught:
        service("memcache://me:hunter2@h")

    assert "hunter2" not in str(caught.value)


def test_every_option_has_a_variable() -> None:
    assert set(MEMCACHE_SECTION.environment.values()) == MEMCACHE_SECTION.known_keys()
    config = Config.from_env({"MEMCACHE_ITEM_SIZE_MAX": "65536", "MEMCACHE_IDLE_TIMEOUT": "1"})
    assert to_service("memcache://h", config).options == MemcacheOptions(
        item_size_max=65536, idle_timeout=timedelta(seconds=1)
    )


def test_the_scheme_finds_the_backend() -> None:
    with Server.from_config(Config(broker="memory://", result_backend="memcache://127.0.0.1:1")) as server:
        assert isinstance(server.backend, MemcacheBackend)


def test_sizes_follow_from_what_the_servers_take() -> None:
    usual = MemcacheBackend.from_url("memcache://h", Config()).capabilities
    large = MemcacheBackend.from_url("memcache://h?item_size_max=2097152", Config()).capabilities

    assert (usual.largest_record, usual.largest_group) == (1024 * 1024 - 512, 23_796)
    assert (large.largest_record or 0) - (usual.largest_record or 0) == 1024 * 1024
    assert (large.largest_group or 0) > 2 * (usual.largest_group or 0)
