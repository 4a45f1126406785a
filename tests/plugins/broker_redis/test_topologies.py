"""The same everywhere: cluster, Sentinels, TLS, socket, users and passwords, databases."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from machinery.abc import Config, GroupMeta, Message, Signature, State, TaskResult, TaskState
from machinery.errors import BackendUnavailable, BrokerUnavailable, ConfigError, MachineryError, PublishError
from machinery.testing._expectations import Stopwatch
from machinery.wire import encode_signature
from machinery_broker_redis import RedisBackend, RedisBroker, RedisLock
from tests.services import redis_topologies as topologies
from tests.services.chain import Unobtainable, missing
from tests.services.redis import RedisServer


@contextmanager
def plugins(url: str, **options: Any) -> Iterator[tuple[RedisBroker, RedisBackend, RedisLock]]:
    config = Config(sections={"redis": {"lease": 0.3, **options}})
    broker, backend = RedisBroker.from_url(url, config), RedisBackend.from_url(url, config)
    lock = RedisLock.from_url(url, config)
    try:
        yield broker, backend, lock
    finally:
        for plugin in (broker, backend, lock):
            plugin.close()


def check_everything(broker: RedisBroker, backend: RedisBackend, lock: RedisLock) -> None:
    """One of each: what works here works."""
    bodies = [
        encode_signature(Signature("add", [number], uuid=f"u{number}", routing_key="tasks")) for number in range(20)
    ]
    pending = [TaskState(f"u{number}", "add", State.PENDING, created_at=datetime.now(UTC)) for number in range(20)]
    send = broker.combined_with(backend)
    if send is None:
        backend.submit(pending[:10])
        broker.publish([Message(body, "tasks") for body in bodies[:10]])
    else:
        send(pending[:10], [Message(body, "tasks") for body in bodies[:10]])
    backend.submit(pending[10:])
    due = datetime.now(UTC) + timedelta(seconds=0.2)
    broker.publish([Message(body, "tasks", eta=due) for body in bodies[10:]])
    assert len(broker.delayed(99)) == 10 or datetime.now(UTC) >= due

    consumer, other = broker.consumer("tasks", "one"), broker.consumer("tasks", "two")
    first = consumer.receive(10, 1)
    assert [delivery.body for delivery in first] == bodies[:10]
    consumer.nack(first[:2])
    consumer.postpone(first[2:4], timedelta(0))
    consumer.reject(first[4:5], "dead")
    assert len(broker.dead("tasks", 9)) == 1
    assert broker.requeue_dead("tasks") == 1
    found = {delivery.handle: delivery for delivery in first[5:]}
    deadline = time.monotonic() + 30
    while len(found) < 20 and time.monotonic() < deadline:
        consumer.maintain()
        consumer.extend(list(found.values()))
        found |= {delivery.handle: delivery for delivery in consumer.receive(20, 0.2)}
    assert sorted(delivery.body for delivery in found.values()) == sorted(bodies)
    saved = backend.save(
        [TaskState(f"u{number}", "add", State.SUCCESS, (TaskResult("int64", number),)) for number in range(20)]
    )
    assert consumer.ack(list(found.values())) == []
    assert backend.load([f"u{number}" for number in range(20)]) == saved
    assert [state.created_at for state in saved] == [state.created_at for state in pending]
    assert backend.wait([f"u{number}" for number in range(20)], 5) == saved

    members = tuple(f"u{number}" for number in range(20))
    backend.create_group(GroupMeta("group_1", members), Signature("sum"))
    assert backend.finish_members([("group_1", uuid) for uuid in members]) == list(range(1, 21))
    assert backend.claim_chord("group_1", "u1")
    assert not backend.claim_chord("group_1", "u2")
    assert backend.open_groups(datetime.now(UTC) + timedelta(seconds=5), 9) == ["group_1"]
    backend.close_group("group_1")
    backend.forget(members)

    token = lock.try_acquire("key", datetime.now(UTC) + timedelta(minutes=1))
    assert token is not None
    assert lock.release(token)
    assert all(finding.text for plugin in (broker, backend, lock) for finding in plugin.examine())
    assert broker.pending("tasks", 9) == []
    assert broker.purge("tasks") == 0
    other.close()
    consumer.close()


def test_a_single_server(redis_database: str) -> None:
    with plugins(redis_database) as (broker, backend, lock):
        assert broker.combined_with(backend) is not None
        check_everything(broker, backend, lock)


@pytest.fixture(scope="module")
def cluster(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[topologies.Cluster]:
    try:
        with topologies.cluster(tmp_path_factory.mktemp("cluster")) as found:
            yield found
    except Unobtainable as reason:
        missing("redis", str(reason))


def test_a_cluster(cluster: topologies.Cluster) -> None:
    with plugins(cluster.url) as (broker, backend, lock):
        assert broker.combined_with(backend) is None
        check_everything(broker, backend, lock)


def test_a_cluster_known_by_one_address(cluster: topologies.Cluster) -> None:
    with plugins(cluster.nodes[1].url, cluster_enabled=True) as (broker, backend, lock):
        check_everything(broker, backend, lock)


def test_a_cluster_taken_for_a_single_server_is_a_config_error(cluster: topologies.Cluster) -> None:
    with plugins(cluster.nodes[0].url) as (broker, _, _), pytest.raises(PublishError) as caught:
        broker.publish([Message(b"x", f"queue{number}") for number in range(20)])

    assert 0 < len(caught.value.failures) < 20
    for failure in caught.value.failures.values():
        assert isinstance(failure, ConfigError)
        assert "cluster_enabled" in str(failure)


def test_a_single_server_taken_for_a_cluster_is_a_config_error(redis_url: str) -> None:
    with plugins(redis_url, cluster_enabled=True) as (broker, _, _), pytest.raises(ConfigError) as caught:
        broker.publish([Message(b"x", "tasks")])

    assert "no cluster" in str(caught.value)


def test_a_queue_that_fits_in_no_slot_is_a_config_error_on_a_cluster(cluster: topologies.Cluster) -> None:
    with plugins(cluster.url) as (broker, _, _), pytest.raises(ConfigError) as caught:
        broker.consumer("a}b", "me")

    assert "a}b" in str(caught.value)


def test_a_slot_that_moves_to_another_node_is_followed(cluster: topologies.Cluster) -> None:
    with plugins(cluster.url) as (broker, _, _):
        consumer = broker.consumer("tasks", "me")
        broker.publish([Message(b"1", "tasks")])
        (held,) = consumer.receive(1, 1)
        _move_slot(cluster, "tasks")

        broker.publish([Message(b"2", "tasks")])
        (more,) = consumer.receive(1, 1)
        assert more.body == b"2"
        assert consumer.ack([held, more]) == []
        consumer.close()


def _move_slot(cluster: topologies.Cluster, key: str) -> None:
    """Move the slot of ``key``, with all that is in it, to another node, as an operator would."""
    from redis.crc import key_slot  # noqa: PLC0415 - present where a cluster is

    slot = key_slot(key.encode())
    clients = [topologies.client_of(node) for node in cluster.nodes]
    ids = [client.execute_command("CLUSTER MYID") for client in clients]
    source = next(
        number
        for number, client in enumerate(clients)
        if any(int(low) <= slot <= int(high) and node[2] == ids[number]
               for low, high, node, *_ in map(_as_list, client.execute_command("CLUSTER SLOTS")))
    )  # fmt: skip
    target = (source + 1) % len(clients)
    clients[target].execute_command("CLUSTER SETSLOT", slot, "IMPORTING", ids[source])
    clients[source].execute_command("CLUSTER SETSLOT", slot, "MIGRATING", ids[target])
    while keys := clients[source].execute_command("CLUSTER GETKEYSINSLOT", slot, 100):
        clients[source].execute_command("MIGRATE", "127.0.0.1", cluster.nodes[target].port, "", 0, 5000, "KEYS", *keys)
    for client in (clients[target], clients[source]):
        client.execute_command("CLUSTER SETSLOT", slot, "NODE", ids[target])
    for client in clients:
        client.close()


def _as_list(slots: Any) -> list[Any]:
    return list(slots)


@pytest.mark.slow
def test_sentinels_lead_to_the_new_master(redis_url: str, tmp_path: Path) -> None:
    with (
        topologies.sentinels(tmp_path) as guarded,
        plugins(guarded.url, master_name=guarded.name) as (broker, backend, lock),
    ):
        check_everything(broker, backend, lock)
        broker.publish([Message(b"before", "tasks")])
        consumer = broker.consumer("tasks", "me")
        with topologies.client_of(guarded.replica) as replica:
            topologies.eventually(lambda: replica.llen("tasks") == 1)

        watch = Stopwatch()
        guarded.master.kill()

        if _works(lambda: broker.publish([Message(b"lost", "tasks")])):
            assert watch.seconds >= 1, "the Sentinels take it for dead only after a while"
        topologies.eventually(lambda: _works(lambda: broker.publish([Message(b"after", "tasks")])))
        topologies.eventually(lambda: _works(lambda: backend.load(["u1"])))
        found = consumer.receive(9, 1)
        assert found[0].body == b"before"
        assert consumer.ack(found) == []
        consumer.close()


def _works(call: Any) -> bool:
    try:
        call()
    except (BrokerUnavailable, BackendUnavailable):
        return False
    return True


def test_a_server_taken_for_a_sentinel_is_a_config_error(redis_url: str) -> None:
    with plugins(redis_url, master_name="nobody") as (broker, _, _), pytest.raises(ConfigError, match="no Sentinel"):
        broker.publish([Message(b"x", "tasks")])


@pytest.fixture
def own_folder(redis_url: str, tmp_path: Path) -> Path:
    return tmp_path


def test_tls_with_an_authority_of_our_own(own_folder: Path) -> None:
    with _tls(own_folder) as certified, plugins(certified.url, tls_ca_file=str(certified.authority)) as all_three:
        check_everything(*all_three)


def test_tls_verifies_unless_told_not_to(own_folder: Path) -> None:
    with _tls(own_folder) as certified:
        with plugins(certified.url) as (broker, _, _), pytest.raises(ConfigError) as caught:
            broker.publish([Message(b"x", "tasks")])
        assert "tls_ca_file" in str(caught.value)
        with plugins(f"{certified.url}?tls_verify=false") as (broker, backend, lock):
            check_everything(broker, backend, lock)


def test_tls_verifies_the_name(own_folder: Path) -> None:
    with _tls(own_folder) as certified:
        url = certified.url.replace("localhost", "localhost.localdomain")
        with plugins(url, tls_ca_file=str(certified.authority)) as (broker, _, _), pytest.raises(MachineryError):
            broker.publish([Message(b"x", "tasks")])


def test_tls_shows_a_certificate_of_ours_where_it_is_demanded(own_folder: Path) -> None:
    with _tls(own_folder, demand_certificate=True) as certified:
        options = {"tls_ca_file": str(certified.authority)}
        with plugins(certified.url, **options) as (broker, _, _), pytest.raises(MachineryError):
            broker.publish([Message(b"x", "tasks")])
        options |= {"tls_cert_file": str(certified.certificate), "tls_key_file": str(certified.key)}
        with plugins(certified.url, **options) as all_three:
            check_everything(*all_three)


@contextmanager
def _tls(folder: Path, *, demand_certificate: bool = False) -> Iterator[topologies.Certified]:
    try:
        with topologies.tls(folder, demand_certificate=demand_certificate) as certified:
            yield certified
    except Unobtainable as reason:
        missing("openssl", str(reason))


@contextmanager
def _server(folder: Path, *arguments: str) -> Iterator[RedisServer]:
    try:
        server = RedisServer(folder / "server", arguments=arguments)
    except Unobtainable as reason:
        missing("redis", str(reason))
    with server:
        yield server


def test_a_unix_socket_and_its_databases(own_folder: Path) -> None:
    path = own_folder / "my redis.sock"
    with _server(own_folder, "--unixsocket", str(path)):
        with plugins(f"redis+socket://{path}:/3".replace(" ", "%20")) as (broker, backend, lock):
            check_everything(broker, backend, lock)
            broker.publish([Message(b"three", "tasks")])
        with plugins(f"redis+socket://{path}") as (broker, backend, lock):
            assert broker.pending("tasks", 9) == []
            check_everything(broker, backend, lock)


def test_a_password_and_a_user(own_folder: Path) -> None:
    user = ("--user", "me", "on", ">p@ss/word", "~*", "&*", "+@all")
    with _server(own_folder, "--requirepass", "hunter2", *user) as server:
        address = server.url.removeprefix("redis://")
        for credentials in ("hunter2@", ":hunter2@", "me:p%40ss%2Fword@", "default:hunter2@"):
            with plugins(f"redis://{credentials}{address}") as all_three:
                check_everything(*all_three)
        for credentials in ("", "wrong@", "me:wrong@", "nobody:hunter2@"):
            for plugin in (RedisBroker, RedisBackend, RedisLock):
                made: Any = plugin.from_url(f"redis://{credentials}{address}", Config())
                with pytest.raises(ConfigError) as caught:
                    made.examine()
                assert address in str(caught.value)
                assert "wrong@" not in str(caught.value)
                assert "hunter2" not in str(caught.value)
                made.close()


def test_a_password_where_none_is_set_is_a_config_error(redis_url: str) -> None:
    with (
        plugins(redis_url.replace("redis://", "redis://hunter2@")) as (broker, _, _),
        pytest.raises(ConfigError) as caught,
    ):
        broker.publish([Message(b"x", "tasks")])

    assert "hunter2" not in str(caught.value)


def test_a_user_without_the_rights_is_a_config_error(own_folder: Path) -> None:
    with (
        _server(own_folder, "--user", "me", "on", ">pw", "~other*", "&*", "+@all") as server,
        plugins(server.url.replace("redis://", "redis://me:pw@")) as (broker, backend, _),
    ):
        with pytest.raises(PublishError, match="ACL"):
            broker.publish([Message(b"x", "tasks")])
        with pytest.raises(ConfigError, match="ACL"):
            backend.load(["u1"])
        with pytest.raises(ConfigError, match="ACL"):
            broker.consumer("tasks", "me").receive(1, 0)


def test_databases_are_apart(redis_database: str, redis_url: str) -> None:
    with plugins(redis_database) as (here, _, _), plugins(f"{redis_url}/1") as (there, _, _):
        here.publish([Message(b"x", "machinery_apart")])

        assert there.pending("machinery_apart", 9) == []


def test_a_database_out_of_range_is_a_config_error(redis_url: str) -> None:
    with plugins(f"{redis_url}/9999") as (broker, _, _), pytest.raises(ConfigError):
        broker.publish([Message(b"x", "tasks")])
