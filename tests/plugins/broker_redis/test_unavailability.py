"""When Redis is away: one family of errors, in time, and everything goes on afterwards."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

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
from machinery_broker_redis import RedisBackend, RedisBroker, RedisLock
from machinery_broker_redis._errors import translate
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
    with plugins(url, Config(connect_timeout=2)) as all_three:
        for expected, call in calls(*all_three):
            began = time.monotonic()
            with pytest.raises(expected) as caught:
                call()
            assert time.monotonic() - began < 0.5
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
                assert time.monotonic() - began < 1.5


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

        deadline = time.monotonic() + 10
        rest: list[Any] = []
        while len(rest) < 5 and time.monotonic() < deadline:
            try:
                rest += consumer.receive(5, 1)
            except BrokerUnavailable:
                continue
        assert [delivery.body for delivery in rest] == [b"5", b"6", b"7", b"8", b"9"]
        assert consumer.ack(held + rest) == []
        consumer.close()


def test_a_receive_that_waits_notices_that_redis_died(redis_server: RedisServer, later: Any) -> None:
    with plugins(redis_server.url, Config()) as (broker, _, _):
        consumer = broker.consumer("tasks", "me")
        consumer.receive(1, 0)
        later(0.2, redis_server.kill)
        began = time.monotonic()

        with pytest.raises(BrokerUnavailable):
            consumer.receive(1, 5)

        assert time.monotonic() - began < 1
        consumer.close()


def test_all_connections_in_use_is_unavailable_at_once_or_after_waiting(redis_database: str, later: Any) -> None:
    options = {"max_active": 1, "wait": False, "read_timeout": 0.3}
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
