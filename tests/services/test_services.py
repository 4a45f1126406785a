"""The services do what the other tests take for granted."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress

import pytest
from redis import ConnectionError as RedisConnectionError
from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry

from machinery.testing._expectations import Stopwatch
from tests.services.chain import Unobtainable, obtained
from tests.services.proxy import CuttingProxy
from tests.services.redis import RedisServer, from_container


def empty_shelf() -> AbstractContextManager[str]:
    raise Unobtainable("looked everywhere")


SHELF = {"shelf": empty_shelf}


def connect(port: int) -> Redis:
    return Redis(port=port, retry=Retry(NoBackoff(), 0), socket_timeout=30)


@pytest.fixture
def proxy(redis_server: RedisServer) -> Iterator[CuttingProxy]:
    with CuttingProxy("127.0.0.1", redis_server.port) as proxy:
        yield proxy


def test_a_test_gets_an_empty_database(redis_database: str) -> None:
    with Redis.from_url(redis_database) as client:
        assert client.dbsize() == 0
        client.set("left", "behind")


def test_what_a_test_left_behind_is_gone(redis_database: str) -> None:
    with Redis.from_url(redis_database) as client:
        assert client.dbsize() == 0


def test_a_durable_server_keeps_what_it_accepted_through_a_kill(redis_server: RedisServer) -> None:
    with connect(redis_server.port) as client:
        client.set("kept", "yes")
    redis_server.restart(kill=True)
    with connect(redis_server.port) as client:
        assert client.get("kept") == b"yes"


def test_a_cut_ends_the_connection_and_the_next_one_works(proxy: CuttingProxy) -> None:
    with socket.create_connection(("127.0.0.1", proxy.port)) as client:
        client.sendall(b"PING\r\n")
        assert client.recv(100) == b"+PONG\r\n"
        proxy.cut()
        with suppress(ConnectionResetError):
            assert client.recv(1) == b""
    with connect(proxy.port) as another:
        assert another.ping()


def test_a_refusing_proxy_takes_nobody_until_it_is_restored(proxy: CuttingProxy) -> None:
    with connect(proxy.port) as client:
        proxy.refuse()
        with pytest.raises(RedisConnectionError):
            client.ping()
        proxy.restore()
        assert client.ping()


def test_what_a_black_hole_holds_back_arrives_when_it_is_restored(
    redis_server: RedisServer, proxy: CuttingProxy
) -> None:
    with connect(proxy.port) as client, connect(redis_server.port) as direct:
        client.ping()
        proxy.black_hole()
        thread = threading.Thread(target=client.incr, args=("calls",))
        thread.start()
        assert direct.get("calls") is None
        proxy.restore()
        thread.join()
        assert direct.get("calls") == b"1"


def test_a_lost_reply_leaves_the_call_carried_out(redis_server: RedisServer, proxy: CuttingProxy) -> None:
    with connect(proxy.port) as client, connect(redis_server.port) as direct:
        client.ping()
        proxy.lose_next_reply()
        with pytest.raises(RedisError):
            client.incr("calls")
        assert direct.get("calls") == b"1"


def test_a_delayed_reply_comes_late(proxy: CuttingProxy) -> None:
    with connect(proxy.port) as client:
        client.ping()
        proxy.delay(0.2)
        watch = Stopwatch()
        assert client.ping()
        assert watch.seconds > 0.3  # what is asked is held back, and what is answered


def test_a_missing_service_skips_and_a_required_one_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MACHINERY_SERVICES", raising=False)
    monkeypatch.setenv("MACHINERY_REQUIRE", "amqp")
    with pytest.raises(pytest.skip.Exception, match="needs redis: shelf: looked everywhere"), obtained("redis", SHELF):
        pass
    monkeypatch.setenv("MACHINERY_REQUIRE", "amqp,redis")
    with pytest.raises(pytest.fail.Exception, match="redis is required"), obtained("redis", SHELF):
        pass


def test_sources_may_be_ruled_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MACHINERY_REQUIRE", raising=False)
    monkeypatch.setenv("MACHINERY_SERVICES", "program")
    with pytest.raises(pytest.skip.Exception, match="shelf: MACHINERY_SERVICES rules it out"), obtained("redis", SHELF):
        pass


@pytest.mark.testcontainers
def test_a_container_gives_a_redis() -> None:
    with obtained("docker", {"testcontainers": from_container}) as url, Redis.from_url(url) as client:
        assert client.ping()


def test_a_proxy_without_a_service_ends_connections() -> None:
    with CuttingProxy("127.0.0.1", 1) as proxy, socket.create_connection(("127.0.0.1", proxy.port)) as client:
        assert client.recv(1) == b""
