"""When Redis is away: one family of errors, in time, and everything goes on afterwards."""

from __future__ import annotations

import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
from redis import exceptions as driver

from machinery.abc import Config, GroupMeta, Message, State, TaskState
from machinery.errors import (
    BackendUnavailable,
    BrokerUnavailable,
    ConfigError,
    LockUnavailable,
    MachineryError,
    Unavailable,
    Unsupported,
)
from machinery.testing._expectations import eventually
from machinery_broker_redis import RedisBackend, RedisBroker, RedisLock, _waiting
from machinery_broker_redis._errors import translate
from tests.services import redis_topologies as topologies
from tests.services.processes import free_port
from tests.services.proxy import CuttingProxy
from tests.services.redis import RedisServer

STATE = TaskState("u1", "add", State.PENDING, created_at=datetime.now(UTC))


Call = tuple[type[Unavailable], Callable[[], Any]]
"""What raises which error when there is no Redis."""


def calls(broker: RedisBroker, backend: RedisBackend, lock: RedisLock) -> list[Call]:
    """Everything that asks Redis."""
    consumer = broker.consumer("tasks", "me")
    send = broker.combined_with(backend)
    assert send is not None
    of_broker: list[Callable[[], Any]] = [
        lambda: broker.publish([Message(b"x", "tasks")]),
        lambda: send([STATE], [Message(b"x", "tasks")]),
        lambda: send([STATE] * 2, [Message(b"x", "tasks")] * 2),
        lambda: broker.pending("tasks", 1),
        lambda: broker.delayed(1),
        lambda: broker.purge("tasks"),
        lambda: broker.dead("tasks", 1),
        lambda: broker.requeue_dead("tasks"),
        broker.examine,
        lambda: consumer.receive(1, 0),
        lambda: consumer.receive(1, 1),
        lambda: consumer.extend([]),
        consumer.maintain,
    ]
    of_backend: list[Callable[[], Any]] = [
        lambda: backend.submit([STATE]),
        lambda: backend.save([STATE]),
        lambda: backend.load(["u1"]),
        lambda: backend.wait(["u1"], 1),
        lambda: backend.forget(["u1"]),
        lambda: backend.create_group(GroupMeta("g", ("u1",))),
        lambda: backend.load_group("g"),
        lambda: backend.finish_members([("g", "u1")]),
        lambda: backend.claim_chord("g", "u1"),
        lambda: backend.open_groups(datetime.now(UTC), 1),
        lambda: backend.close_group("g"),
        backend.examine,
    ]
    of_lock: list[Callable[[], Any]] = [
        lambda: lock.try_acquire("k", datetime.now(UTC) + timedelta(seconds=5)),
        lock.examine,
    ]
    return [
        *[(BrokerUnavailable, call) for call in of_broker],
        *[(BackendUnavailable, call) for call in of_backend],
        *[(LockUnavailable, call) for call in of_lock],
    ]


@contextmanager
def plugins(url: str, config: Config) -> Iterator[tuple[RedisBroker, RedisBackend, RedisLock]]:
    made = RedisBroker.from_url(url, config), RedisBackend.from_url(url, config), RedisLock.from_url(url, config)
    yield made
    for plugin in made:
        plugin.close()


def test_nobody_listens(redis_url: str) -> None:
    url = f"redis://me:hunter2@127.0.0.1:{free_port()}/1"
    with plugins(url, Config(connect_timeout=30)) as all_three:
        for expected, call in calls(*all_three):
            began = time.monotonic()
            with pytest.raises(expected) as caught:
                call()
            assert time.monotonic() - began < 8
            assert "127.0.0.1" in str(caught.value)
            assert "hunter2" not in str(caught.value)


def test_nobody_answers_in_time(redis_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        config = Config(connect_timeout=0.3, sections={"redis": {"read_timeout": 0.3, "write_timeout": 0.3}})
        with plugins(f"redis://127.0.0.1:{silent.getsockname()[1]}", config) as (broker, backend, _):
            for expected, call in (
                (BrokerUnavailable, lambda: broker.publish([Message(b"x", "tasks")])),
                (BackendUnavailable, lambda: backend.load(["u1"])),
            ):
                began = time.monotonic()
                with pytest.raises(expected):
                    call()
                assert time.monotonic() - began < 5


@pytest.mark.parametrize("url", ["redis://{}", "redis://secret@{}", "redis://{}/1", "rediss://{}", "redis://{},{}"])
def test_connecting_to_one_who_says_nothing_takes_no_longer_than_connecting_may(redis_url: str, url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        patient = Config(connect_timeout=0.3, sections={"redis": {"read_timeout": 30, "write_timeout": 30}})
        with plugins(url.format(address, address), patient) as (broker, backend, _):
            for expected, call in (
                (BrokerUnavailable, lambda: broker.publish([Message(b"x", "tasks")])),
                (BackendUnavailable, lambda: backend.wait(["u1"], 0.1)),
                (BrokerUnavailable, lambda: broker.consumer("tasks", "me").receive(1, 1)),
            ):
                began = time.monotonic()
                with pytest.raises(expected):
                    call()
                assert time.monotonic() - began < 10


@contextmanager
def far_plugins(
    redis_database: str, config: Config
) -> Iterator[tuple[CuttingProxy, tuple[RedisBroker, RedisBackend, RedisLock]]]:
    """Connected already, through a proxy. What that has held back in the end never arrives."""
    parts = urlsplit(redis_database)
    with (
        CuttingProxy(parts.hostname or "", parts.port or 6379) as proxy,
        plugins(f"redis://127.0.0.1:{proxy.port}{parts.path}", config) as all_three,
    ):
        broker, backend, lock = all_three
        until_it_works(lambda: broker.pending("tasks", 1))
        until_it_works(lambda: backend.wait(["u1"], 0.1))
        until_it_works(lambda: lock.try_acquire("k", datetime.now(UTC)))
        try:
            yield proxy, all_three
        finally:
            proxy.cut()
            proxy.restore()


def until_it_works(call: Callable[[], Any]) -> None:
    """For clients whose patience is short, and what has to succeed."""
    eventually(lambda: not isinstance(_failure_of(call), Unavailable))


def test_a_redis_that_falls_silent_fails_calls_within_the_time_to_connect(redis_database: str) -> None:
    with far_plugins(redis_database, Config(connect_timeout=0.4)) as (proxy, (broker, backend, lock)):
        consumer = broker.consumer("tasks", "me")
        until_it_works(lambda: consumer.receive(1, 0))
        proxy.black_hole()
        for expected, call in (
            (BrokerUnavailable, lambda: broker.publish([Message(b"x", "tasks")])),
            (BrokerUnavailable, lambda: broker.pending("tasks", 1)),
            (BrokerUnavailable, lambda: consumer.receive(1, 0.2)),
            (BackendUnavailable, lambda: backend.load(["u1"])),
            (LockUnavailable, lambda: lock.try_acquire("k", datetime.now(UTC) + timedelta(seconds=5))),
        ):
            began = time.monotonic()
            with pytest.raises(expected):
                call()
            assert time.monotonic() - began < 10


def test_a_wait_ends_soon_after_its_time_though_redis_is_silent(
    redis_database: str, later: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with far_plugins(redis_database, Config()) as (proxy, (_, backend, _)):
        monkeypatch.setattr(_waiting, "ALLOWANCE", 1.0)

        def is_said(silent_after: float) -> bool:
            until_it_works(lambda: backend.wait(["u1"], 0.1))
            silencing = later(silent_after, proxy.black_hole)
            if not silent_after:
                silencing.join()
            began = time.monotonic()
            failure = _failure_of(lambda: backend.wait(["u1"], 0.5))
            assert time.monotonic() - began < 10
            silencing.join()
            proxy.restore()
            return isinstance(failure, BackendUnavailable)  # else its time was over before Redis fell silent

        assert eventually(lambda: is_said(silent_after=0.0))
        assert eventually(lambda: is_said(silent_after=0.2))
        until_it_works(lambda: backend.wait(["u1"], 0.1))


def test_a_long_wait_does_not_wait_for_a_silent_redis(redis_database: str) -> None:
    with far_plugins(redis_database, Config(connect_timeout=0.4)) as (proxy, (_, backend, _)):
        proxy.black_hole()
        began = time.monotonic()
        with pytest.raises(BackendUnavailable):
            backend.wait(["u1"], 30)
        assert time.monotonic() - began < 10


@pytest.mark.parametrize("read_timeout", [5, 0])
def test_answers_may_take_longer_than_connecting_where_that_is_configured(
    redis_database: str, read_timeout: float
) -> None:
    config = Config(connect_timeout=0.6, sections={"redis": {"read_timeout": read_timeout}})
    with far_plugins(redis_database, config) as (proxy, (broker, backend, _)):
        consumer = broker.consumer("tasks", "me")

        def all_get_through() -> bool:
            proxy.restore()
            until_it_works(lambda: broker.pending("tasks", 0))
            until_it_works(lambda: backend.load(["u1"]))
            until_it_works(lambda: consumer.extend(consumer.receive(1, 0)))
            proxy.delay(0.35)
            try:
                broker.publish([Message(b"x" * 150_000, "tasks")])
                backend.submit([STATE])
                (delivery,) = consumer.receive(1, 0.5)
            except Unavailable:  # a piece was late on a busy machine: none may take longer than connecting
                return False
            assert len(delivery.body) == 150_000
            return True

        assert eventually(all_get_through)
        proxy.restore()
        consumer.close()


def test_none_of_the_sentinels_answers(redis_url: str) -> None:
    ports = free_port(), free_port()
    url = "redis://me:hunter2@127.0.0.1:{},127.0.0.1:{}?master_name=tasks".format(*ports)
    with plugins(url, Config()) as (broker, _, _), pytest.raises(BrokerUnavailable) as caught:
        broker.publish([Message(b"x", "tasks")])

    said = str(caught.value)
    assert "No master found for 'tasks'" in said
    assert all(said.count(f"127.0.0.1:{port}") == 2 for port in ports)
    assert "ConnectionPool" not in said
    assert len(said) < 300


def test_what_is_no_redis_is_told_so(redis_url: str) -> None:
    def answer() -> None:
        with suppress(OSError):
            while True:
                connection, _ = web_server.accept()
                with connection:
                    connection.recv(1000)
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as web_server:
        answering = threading.Thread(target=answer)
        answering.start()
        with plugins(f"redis://127.0.0.1:{web_server.getsockname()[1]}", Config()) as (broker, _, _):
            with pytest.raises(ConfigError, match="does not speak Redis's protocol"):
                broker.publish([Message(b"x", "tasks")])
            with pytest.raises(ConfigError, match="does not speak Redis's protocol"):
                broker.consumer("tasks", "me").receive(1, 1)
        web_server.shutdown(socket.SHUT_RDWR)
        answering.join(5)


def test_a_replica_is_called_one(redis_url: str, tmp_path: Path) -> None:
    with (
        topologies.replicated(tmp_path) as (_, replica),
        plugins(replica.url, Config()) as (broker, backend, _),
    ):
        for expected, call in (
            (BrokerUnavailable, lambda: broker.publish([Message(b"x", "tasks")])),
            (BrokerUnavailable, lambda: broker.consumer("tasks", "me").receive(1, 0)),
            (BackendUnavailable, lambda: backend.submit([STATE])),
        ):
            with pytest.raises(expected, match="is a replica now"):
                call()


def test_what_stays_wrong_is_told_without_pages_of_the_driver(redis_database: str, raw: Any) -> None:
    parts = urlsplit(redis_database)
    refused = f"redis://nobody:hunter2@{parts.hostname}:{parts.port}"
    raw.set("tasks", "no list")
    for url, said in (
        (refused, "invalid username-password pair"),
        (redis_database, "WRONGTYPE"),
        (f"redis://127.0.0.1:{free_port()}", "Connection refused"),
    ):
        with plugins(url, Config()) as (broker, _, _):
            for call in (
                lambda broker=broker: broker.consumer("tasks", "me").receive(1, 1),
                lambda broker=broker: broker.pending("tasks", 1),
            ):
                error = _failure_of(call)
                assert error is not None
                told = "".join(traceback.format_exception(error))
                assert said in told
                assert "hunter2" not in told
                assert f"{Path(redis.__file__).parent}" not in told


def test_a_cluster_that_is_away(redis_url: str) -> None:
    url = f"redis://127.0.0.1:{free_port()},127.0.0.1:{free_port()}"
    with plugins(url, Config(connect_timeout=0.3)) as (broker, backend, lock):
        for expected, call in (
            (BrokerUnavailable, lambda: broker.publish([Message(b"x", "tasks")])),
            (BrokerUnavailable, lambda: broker.consumer("tasks", "me").receive(1, 1)),
            (BackendUnavailable, lambda: backend.wait(["u1"], 1)),
            (LockUnavailable, lambda: lock.try_acquire("k", datetime.now(UTC) + timedelta(seconds=5))),
            (LockUnavailable, lock.examine),
        ):
            with pytest.raises(expected):
                call()


def test_every_call_survives_a_cut(redis_server: RedisServer) -> None:
    with (
        CuttingProxy("127.0.0.1", redis_server.port) as proxy,
        plugins(f"redis://127.0.0.1:{proxy.port}", Config()) as all_three,
    ):
        everything = calls(*all_three)
        for _, call in everything:
            assert not isinstance(_failure_of(call), Unavailable)
        for expected, call in everything:
            proxy.cut()
            proxy.refuse()
            assert type(_failure_of(call)) is expected
            proxy.restore()
            assert not isinstance(_failure_of(call), Unavailable)


def _failure_of(call: Callable[[], Any]) -> MachineryError | None:
    try:
        call()
    except MachineryError as error:
        return error
    return None


def test_idle_connections_that_redis_closed_are_replaced_unseen(redis_server: RedisServer) -> None:
    with plugins(redis_server.url, Config()) as (broker, backend, _):
        broker.publish([Message(b"1", "tasks")])
        backend.submit([STATE])
        consumer = broker.consumer("tasks", "me")
        (delivery,) = consumer.receive(1, 1)
        redis_server.restart()
        time.sleep(1.1)

        broker.publish([Message(b"2", "tasks")])
        assert backend.load(["u1"]) == [STATE]
        assert consumer.ack([delivery]) == []
        consumer.close()


@pytest.mark.parametrize("kill", [False, True], ids=["stopped", "killed"])
def test_a_restart_loses_nothing_that_is_on_loan(redis_server: RedisServer, kill: bool) -> None:
    with plugins(redis_server.url, Config(sections={"redis": {"lease": 0.5}})) as (broker, _, _):
        broker.publish([Message(b"%d" % number, "tasks") for number in range(10)])
        consumer = broker.consumer("tasks", "me")
        held = consumer.receive(5, 1)
        redis_server.restart(kill=kill)

        deadline = time.monotonic() + 30
        rest: list[Any] = []
        while len(rest) < 5 and time.monotonic() < deadline:
            try:
                rest += consumer.receive(5, 1)
            except BrokerUnavailable:
                continue
        assert [delivery.body for delivery in rest] == [b"5", b"6", b"7", b"8", b"9"]
        assert consumer.ack(held + rest) == []
        consumer.close()


def test_who_waits_while_redis_is_busy_is_told_of_results_afterwards(redis_server: RedisServer, later: Any) -> None:
    with plugins(redis_server.url, Config()) as (_, backend, _), redis.Redis.from_url(redis_server.url) as raw:
        # Given a Redis that runs somebody's endless script
        raw.config_set("lua-time-limit", 10)
        endless = threading.Thread(target=_run_until_killed, args=(redis_server.url,))
        endless.start()
        _wait_until_busy(raw)

        # Then waiting fails as every other call does
        with pytest.raises(BackendUnavailable, match="is not ready: BUSY"):
            backend.wait(["u1"], 1)

        # And once it is ready, results are heard of again, not only looked for
        raw.script_kill()
        endless.join()
        backend.submit([STATE])
        saving = later(0.1, backend.save, [TaskState("u1", "add", State.SUCCESS)])
        (found,) = backend.wait(["u1"], 30, interval=30)
        saving.join()  # who waits is told before who saves is answered
        assert found is not None
        assert found.is_success
        assert len(raw.pubsub_channels()) == 1


def _run_until_killed(url: str) -> None:
    with redis.Redis.from_url(url) as raw, pytest.raises(redis.ResponseError, match="killed"):
        raw.eval("while true do end", 0)


def _wait_until_busy(raw: Any) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            raw.ping()
        except redis.ResponseError:
            return
    raise AssertionError("it never was")


def test_a_receive_that_waits_notices_that_redis_died(redis_server: RedisServer, later: Any) -> None:
    with plugins(redis_server.url, Config()) as (broker, _, _):
        consumer = broker.consumer("tasks", "me")
        consumer.receive(1, 0)
        later(0.2, redis_server.kill)
        began = time.monotonic()

        with pytest.raises(BrokerUnavailable):
            consumer.receive(1, 30)

        assert time.monotonic() - began < 25
        consumer.close()


def test_all_connections_in_use_is_unavailable_at_once_or_after_waiting(
    redis_database: str, later: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"max_active": 1, "wait": False}
    backend = RedisBackend.from_url(redis_database, Config(sections={"redis": options}))
    lent = backend._client.connections().lend()
    with pytest.raises(BackendUnavailable, match="max_active"):
        backend.load(["u1"])
    backend._client.connections().take_back(lent)
    assert backend.load(["u1"]) == [None]
    backend.close()

    waiting = RedisBackend.from_url(redis_database, Config(sections={"redis": options | {"wait": True}}))
    connections = waiting._client.connections()
    lent = connections.lend()
    later(0.1, connections.take_back, lent)
    assert waiting.load(["u1"]) == [None]
    lent = connections.lend()
    monkeypatch.setattr(connections, "_patience", 0.3)
    with pytest.raises(BackendUnavailable, match="max_active"):
        waiting.load(["u1"])
    connections.take_back(lent)
    waiting.close()


def test_many_threads_share_the_connections(redis_database: str) -> None:
    backend = RedisBackend.from_url(redis_database, Config(sections={"redis": {"max_active": 3, "max_idle": 2}}))

    def work(thread: int) -> None:
        for number in range(50):
            state = TaskState(f"u{thread}-{number}", "add", State.PENDING, created_at=STATE.created_at)
            backend.submit([state])
            answers.append(backend.load([state.task_uuid]) == [state])

    answers: list[bool] = []
    threads = [threading.Thread(target=work, args=[number]) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert answers == [True] * 600
    backend.close()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (driver.ConnectionError("Connection refused"), BrokerUnavailable),
        (driver.TimeoutError("Timeout reading"), BrokerUnavailable),
        (OSError("no route"), BrokerUnavailable),
        (driver.BusyLoadingError("Redis is loading the dataset in memory"), BrokerUnavailable),
        (driver.ReadOnlyError("You can't write against a read only replica."), BrokerUnavailable),
        (driver.ClusterDownError("The cluster is down"), BrokerUnavailable),
        (driver.MasterDownError("Link with MASTER is down"), BrokerUnavailable),
        (driver.TryAgainError("Multiple keys request during rehashing of slot"), BrokerUnavailable),
        (driver.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."), BrokerUnavailable),
        (driver.ResponseError("MISCONF Redis is configured to save RDB snapshots"), BrokerUnavailable),
        (driver.ResponseError("NOREPLICAS Not enough good replicas to write."), BrokerUnavailable),
        (driver.ResponseError("BUSY Redis is busy running a script."), BrokerUnavailable),
        (driver.ResponseError("Error running script: -OOM command not allowed"), BrokerUnavailable),
        (driver.RedisClusterException("Redis Cluster cannot be connected."), BrokerUnavailable),
        (driver.SlotNotCoveredError("Command # 1"), BrokerUnavailable),
        (driver.MaxConnectionsError("Too many connections"), BrokerUnavailable),
        (driver.AuthenticationError("invalid username-password pair or user is disabled."), ConfigError),
        (driver.AuthenticationError("Authentication required."), ConfigError),
        (driver.NoPermissionError("User me has no permissions to access one of the keys"), ConfigError),
        (driver.ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value"), ConfigError),
        (driver.ResponseError("DB index is out of range"), ConfigError),
        (driver.ResponseError("SELECT is not allowed in cluster mode"), ConfigError),
        (driver.MovedError("3999 127.0.0.1:6381"), ConfigError),
        (driver.ResponseError("unknown command 'BLMOVE'"), Unsupported),
        (driver.DataError("Invalid input"), Unsupported),
        (driver.InvalidResponse("Protocol Error: b'HTTP/1.1 400 Bad Request'"), ConfigError),
    ],
)
def test_the_table_of_errors(error: Exception, expected: type[MachineryError]) -> None:
    found = translate(error, BrokerUnavailable, "redis://***@h")

    assert type(found) is expected
    assert "redis://***@h" in str(found)


def test_redis_py_has_no_exception_that_the_table_does_not_know() -> None:
    kinds = [kind for kind in vars(driver).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    unreachable = {"ChildDeadlockedError", "IncorrectPolicyType"}  # a defect, and for redis-py's own command tables
    handled = tuple(kind for kind in (driver.RedisError, driver.RedisClusterException, OSError))

    assert {kind.__name__ for kind in kinds if not issubclass(kind, handled)} <= unreachable | {"Enum"}
    assert redis.RedisError in kinds
