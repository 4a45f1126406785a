"""The application's own redis-py clients, however they are set up, and processes that fork."""

from __future__ import annotations

import multiprocessing
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis

from machinery.abc import Config, GroupMeta, Message, Signature, State, TaskState
from machinery.errors import Closed, ConfigError
from machinery_broker_redis import RedisBackend, RedisBroker, RedisLock
from tests.services import redis_topologies as topologies

STATE = TaskState("u1", "add", State.PENDING, created_at=datetime.now(UTC))


@pytest.fixture(
    params=[
        {},
        {"decode_responses": True},
        {"protocol": 2},
        {"protocol": 3, "decode_responses": True},
        {"health_check_interval": 1},
        {"encoding": "latin-1"},
    ],
    ids=str,
)
def client(request: pytest.FixtureRequest, redis_database: str) -> Iterator[Any]:
    with redis.Redis.from_url(redis_database, **request.param) as made:
        yield made


def check(broker: RedisBroker, backend: RedisBackend, lock: RedisLock) -> None:
    broker.publish([Message(b"\xff", "tasks"), Message(b"2", "tasks")])
    consumer = broker.consumer("tasks", "me")
    first, second = consumer.receive(9, 1)
    assert (first.body, second.body) == (b"\xff", b"2")
    consumer.reject([first], "späte Gründe")
    (letter,) = broker.dead("tasks", 9)
    assert (letter.body, letter.reason) == (b"\xff", "späte Gründe")
    assert consumer.receive(9, 0.1) == []
    assert consumer.ack([second]) == []
    consumer.maintain()
    broker.publish([Message(b"later", "tasks", eta=datetime.now(UTC) + timedelta(hours=1))])
    (delayed,) = broker.delayed(9)
    assert delayed.eta is not None
    backend.submit([STATE])
    assert backend.load(["u1", "u2"]) == [STATE, None]
    assert backend.wait(["u1"], 0.2)[0] == STATE
    (saved,) = backend.save([TaskState("u1", "add", State.SUCCESS, ())])
    assert backend.wait(["u1"], 1) == [saved]
    backend.create_group(GroupMeta("g", ("u1",)), Signature("sum"))
    assert backend.load_group("g").callback == Signature("sum")
    assert backend.finish_members([("g", "u1")]) == [1]
    assert backend.claim_chord("g", "u1")
    assert lock.try_acquire("k", datetime.now(UTC) + timedelta(seconds=5)) is not None
    assert broker.examine()
    consumer.close()


def test_any_client_will_do_and_stays_the_applications(client: Any) -> None:
    broker, backend, lock = RedisBroker(client, lease=5), RedisBackend(client), RedisLock(client, Config())
    assert broker.capabilities.leases == timedelta(seconds=5)
    send = broker.combined_with(backend)
    assert send is not None
    check(broker, backend, lock)
    send([STATE], [Message(b"x", "tasks")])

    for plugin in (broker, backend, lock):
        plugin.close()

    assert client.ping()
    with pytest.raises(Closed):
        backend.load(["u1"])


def test_a_cluster_client_will_do(redis_url: str, tmp_path: Any) -> None:
    with topologies.cluster(tmp_path) as cluster, redis.RedisCluster.from_url(cluster.nodes[0].url) as client:
        broker, backend, lock = RedisBroker(client), RedisBackend(client), RedisLock(client)
        assert broker.combined_with(backend) is None
        check(broker, backend, lock)
        for plugin in (broker, backend, lock):
            plugin.close()
        assert client.ping(target_nodes=redis.RedisCluster.ALL_NODES)


def test_two_clients_are_not_known_to_be_one_service(redis_database: str) -> None:
    with redis.Redis.from_url(redis_database) as one, redis.Redis.from_url(redis_database) as two:
        assert RedisBroker(one).combined_with(RedisBackend(two)) is None


def test_wrong_options_are_a_config_error() -> None:
    with redis.Redis() as client, pytest.raises(ConfigError, match="did you mean 'lease'"):
        RedisBroker(client, leese=5)


def test_options_win_over_the_section(redis_database: str) -> None:
    with redis.Redis.from_url(redis_database) as client:
        broker = RedisBroker(client, Config(sections={"redis": {"lease": 7, "delayed_tasks_key": "later"}}), lease=8)

        assert broker.capabilities.leases == timedelta(seconds=8)
        assert broker._client.options.delayed_tasks_key == "later"


def test_a_child_process_makes_its_own_connections(redis_database: str) -> None:
    parts = urlsplit(redis_database)
    assert parts.hostname
    config = Config()
    broker, backend = RedisBroker.from_url(redis_database, config), RedisBackend.from_url(redis_database, config)
    send = broker.combined_with(backend)
    assert send is not None
    send([STATE], [Message(b"parent", "tasks")])
    backend.wait(["u1"], 0.1)
    fork = multiprocessing.get_context("fork")

    def child(number: int) -> None:
        for count in range(200):
            state = TaskState(f"u{number}-{count}", "add", State.PENDING, created_at=STATE.created_at)
            send([state], [Message(b"child", "tasks")])
            assert backend.load([state.task_uuid]) == [state]
        backend.wait([f"u{number}-0"], 0.1)

    children = [fork.Process(target=child, args=[number]) for number in range(3)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking beside threads, which is the point here
        for process in children:
            process.start()
    for count in range(200):
        assert backend.load(["u1"]) == [STATE]
        send([STATE], [Message(b"parent", "tasks")])
        assert count >= 0
    for process in children:
        process.join(30)

    assert [process.exitcode for process in children] == [0, 0, 0]
    assert broker.purge("tasks") == 1 + 200 + 3 * 200
    broker.close()
    backend.close()
