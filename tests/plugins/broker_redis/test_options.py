"""URLs and the section: what they mean, and what is refused with a reason."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from machinery.abc import Config
from machinery.errors import ConfigError
from machinery_broker_redis import RedisBackend, RedisBroker, RedisLock, RedisOptions
from machinery_broker_redis._options import REDIS_SECTION, to_service


def service(url: str, **options: Any) -> Any:
    return to_service(url, Config(sections={"redis": options}))


@pytest.mark.parametrize(
    ("url", "hosts", "user", "password", "database"),
    [
        ("redis://h:1234", (("h", 1234),), "", "", 0),
        ("redis://h", (("h", 6379),), "", "", 0),
        ("redis://", (("localhost", 6379),), "", "", 0),
        ("redis://h/", (("h", 6379),), "", "", 0),
        ("redis://h/3", (("h", 6379),), "", "", 3),
        ("redis://secret@h:1", (("h", 1),), "", "secret", 0),
        ("redis://:secret@h:1", (("h", 1),), "", "secret", 0),
        ("redis://me:secret@h:1/2", (("h", 1),), "me", "secret", 2),
        ("redis://me:@h:1", (("h", 1),), "me", "", 0),
        ("redis://p%40ss%2Fword@h", (("h", 6379),), "", "p@ss/word", 0),
        ("redis://p@ss@h", (("h", 6379),), "", "p@ss", 0),
        ("redis://[::1]:7000/1", (("::1", 7000),), "", "", 1),
        ("REDIS://h", (("h", 6379),), "", "", 0),
        ("redis://secret@a:1,b:2,c", (("a", 1), ("b", 2), ("c", 6379)), "", "secret", 0),
    ],
)
def test_a_url_is_read_as_go_machinery_reads_it(
    url: str, hosts: tuple[tuple[str, int], ...], user: str, password: str, database: int
) -> None:
    found = service(url)

    assert (found.hosts, found.user, found.password, found.database) == (hosts, user, password, database)
    assert not found.tls
    assert found.is_cluster == (len(hosts) > 1)


def test_rediss_is_tls_and_verified() -> None:
    found = service("rediss://h")

    assert found.tls
    assert found.options.tls_verify


@pytest.mark.parametrize(
    ("url", "path", "password", "database"),
    [
        ("redis+socket:///run/redis.sock", "/run/redis.sock", "", 0),
        ("redis+socket:///run/redis.sock:/2", "/run/redis.sock", "", 2),
        ("redis+socket://secret@/run/redis.sock", "/run/redis.sock", "secret", 0),
        ("redis+socket://me:secret@/run/redis.sock:/1", "/run/redis.sock", "secret", 1),
        ("redis+socket:///run/my%20redis.sock", "/run/my redis.sock", "", 0),
    ],
)
def test_a_socket_url_names_a_path_and_a_database(url: str, path: str, password: str, database: int) -> None:
    found = service(url)

    assert (found.socket, found.hosts, found.password, found.database) == (path, (), password, database)


def test_the_addresses_are_sentinels_where_a_master_is_named() -> None:
    found = service("redis://a,b:1/4", master_name="m")

    assert found.hosts == (("a", 26379), ("b", 1))
    assert found.database == 4
    assert not found.is_cluster


@pytest.mark.parametrize("key", ["cluster_enabled", "cluster_mode"])
def test_one_address_is_a_cluster_where_the_section_says_so(key: str) -> None:
    assert service("redis://h", **{key: True}).is_cluster


@pytest.mark.parametrize(
    ("url", "options", "said"),
    [
        ("redis://h/one", {}, "'one'"),
        ("redis://h/1/2", {}, "'1/2'"),
        ("redis://h/-1", {}, "'-1'"),
        ("redis+socket:///run/redis.sock:/x", {}, "'x'"),
        ("redis+socket://", {}, "names no socket"),
        ("redis+socket://h/run/redis.sock", {}, "names no socket"),
        ("redis+socket:///run/redis.sock", {"cluster_enabled": True}, "neither a cluster nor Sentinels"),
        ("redis://a,b/1", {}, "only database 0"),
        ("redis://h:port", {}, "host:port"),
        ("redis://h?speed=9", {}, "no key 'speed'"),
        ("redis://h?leese=9", {}, "did you mean 'lease'?"),
        ("redis://h?lease=long", {}, "is 'long'"),
        ("redis://h", {"lease": 0.01}, "lease must be at least 0.1"),
        ("redis://h", {"delayed_task_key": "d"}, "did you mean 'delayed_tasks_key'?"),
        ("redis://h", {"max_idle": -1}, "max_idle must not be negative"),
        ("redis://h", {"wait": "perhaps"}, "is 'perhaps'"),
        ("redis://h", {"delayed_tasks_key": ""}, "must not be empty"),
        ("rediss://h", {"tls_ca_file": "/nowhere/ca.pem"}, "redis.tls_ca_file is '/nowhere/ca.pem'"),
    ],
)
@pytest.mark.parametrize("plugin", [RedisBroker, RedisBackend, RedisLock])
def test_what_is_wrong_is_a_config_error_that_says_what(
    plugin: Any, url: str, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        plugin.from_url(url, Config(sections={"redis": options}))

    assert said in str(caught.value)


def test_no_error_shows_a_password() -> None:
    with pytest.raises(ConfigError) as caught:
        service("redis://me:hunter2@h/one")

    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(service("redis://me:hunter2@h"))
    assert "hunter2" not in repr(service("redis://h", sentinel_password="hunter2").options)  # noqa: S106


def test_the_query_wins_over_the_section() -> None:
    found = service("redis://h?lease=30&tls_verify=false", lease=20, client_name="me")

    assert found.options.lease == timedelta(seconds=30)
    assert not found.options.tls_verify
    assert found.options.client_name == "me"


def test_every_variable_of_go_is_known() -> None:
    names = {
        "REDIS_MAX_IDLE", "REDIS_MAX_ACTIVE", "REDIS_IDLE_TIMEOUT", "REDIS_WAIT", "REDIS_READ_TIMEOUT",
        "REDIS_WRITE_TIMEOUT", "REDIS_CONNECT_TIMEOUT", "REDIS_NORMAL_TASKS_POLL_PERIOD",
        "REDIS_DELAYED_TASKS_POLL_PERIOD", "REDIS_DELAYED_TASKS_KEY", "REDIS_CLIENT_NAME", "REDIS_MASTER_NAME",
        "REDIS_CLUSTER_ENABLED", "REDIS_CLUSTER_MODE", "REDIS_SENTINEL_PASSWORD",
    }  # fmt: skip

    assert names <= set(REDIS_SECTION.environment)
    assert set(REDIS_SECTION.environment.values()) == REDIS_SECTION.known_keys()


def test_the_environment_becomes_the_section() -> None:
    config = Config.from_env({"REDIS_LEASE": "7", "REDIS_DELAYED_TASKS_KEY": "later", "REDIS_CLUSTER_ENABLED": "true"})

    options = to_service("redis://h", config).options

    assert options == RedisOptions(lease=timedelta(seconds=7), delayed_tasks_key="later", cluster_enabled=True)


def test_the_section_may_set_the_time_to_connect() -> None:
    assert to_service("redis://h", Config(connect_timeout=2)).connect_timeout == timedelta(seconds=2)
    assert service("redis://h", connect_timeout=1).connect_timeout == timedelta(seconds=1)
