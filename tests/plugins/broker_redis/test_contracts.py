"""Redis keeps the contracts, as a single server and as a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
import redis

from machinery.abc import Config
from machinery.testing import BackendContract, BrokerContract, LockContract
from machinery.testing._broker._leases import Leases
from machinery_broker_redis import RedisBackend, RedisBroker, RedisLock
from tests.contracts.made import Made
from tests.contracts.skewed import SkewedClock
from tests.services import redis_topologies as topologies
from tests.services.chain import Unobtainable, missing

LEASE, SHORT_LEASE = 60, 0.6
"""Seconds: longer than a busy machine stands still, but where the contract waits for its end."""


@pytest.fixture
def config(request: pytest.FixtureRequest) -> Config:
    """The tests of a cluster share it, delayed messages too; each has a key of its own for these."""
    lease = SHORT_LEASE if request.node.originalname in vars(Leases) else LEASE
    return Config(sections={"redis": {"lease": lease, "delayed_tasks_key": f"delayed_{uuid4().hex}"}})


@pytest.fixture(scope="module")
def cluster_url(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    try:
        with topologies.cluster(tmp_path_factory.mktemp("cluster")) as cluster:
            yield cluster.url
    except Unobtainable as reason:
        missing("redis", str(reason))


class TestRedisBroker(BrokerContract):
    @pytest.fixture
    def make_broker(self, redis_database: str, config: Config) -> Iterator[Callable[[], RedisBroker]]:
        with Made(lambda: RedisBroker.from_url(redis_database, config)) as made:
            yield made

    @pytest.fixture
    def broker(self, make_broker: Callable[[], RedisBroker]) -> RedisBroker:
        return make_broker()


class TestRedisBackend(BackendContract):
    @pytest.fixture
    def make_backend(self, redis_database: str, config: Config) -> Iterator[Callable[..., RedisBackend]]:
        def make(**changes: Any) -> RedisBackend:
            return RedisBackend.from_url(redis_database, config.with_(**changes))

        with Made(make) as made:
            yield made

    @pytest.fixture
    def backend(self, make_backend: Callable[..., RedisBackend]) -> RedisBackend:
        return make_backend()


class TestRedisLock(LockContract):
    @pytest.fixture
    def make_lock(self, redis_database: str, config: Config) -> Iterator[Callable[[], RedisLock]]:
        with Made(lambda: RedisLock.from_url(redis_database, config)) as made:
            yield made

    @pytest.fixture
    def skewed_lock(self, redis_database: str, config: Config) -> Iterator[Callable[[timedelta], RedisLock]]:
        with (
            redis.Redis.from_url(redis_database) as client,
            Made(lambda ahead: RedisLock(client, config, now=SkewedClock(ahead).now)) as made,
        ):
            yield made

    @pytest.fixture
    def lock(self, make_lock: Callable[[], RedisLock]) -> RedisLock:
        return make_lock()


class TestRedisClusterBroker(BrokerContract):
    @pytest.fixture
    def make_broker(self, cluster_url: str, config: Config) -> Iterator[Callable[[], RedisBroker]]:
        with Made(lambda: RedisBroker.from_url(cluster_url, config)) as made:
            yield made

    @pytest.fixture
    def broker(self, make_broker: Callable[[], RedisBroker]) -> RedisBroker:
        return make_broker()


class TestRedisClusterBackend(BackendContract):
    @pytest.fixture
    def make_backend(self, cluster_url: str, config: Config) -> Iterator[Callable[..., RedisBackend]]:
        def make(**changes: Any) -> RedisBackend:
            return RedisBackend.from_url(cluster_url, config.with_(**changes))

        with Made(make) as made:
            yield made

    @pytest.fixture
    def backend(self, make_backend: Callable[..., RedisBackend]) -> RedisBackend:
        return make_backend()


class TestRedisClusterLock(LockContract):
    @pytest.fixture
    def make_lock(self, cluster_url: str, config: Config) -> Iterator[Callable[[], RedisLock]]:
        with Made(lambda: RedisLock.from_url(cluster_url, config)) as made:
            yield made

    @pytest.fixture
    def skewed_lock(self, cluster_url: str, config: Config) -> Iterator[Callable[[timedelta], RedisLock]]:
        one_node = cluster_url.partition(",")[0]
        with (
            redis.RedisCluster.from_url(one_node) as client,
            Made(lambda ahead: RedisLock(client, config, now=SkewedClock(ahead).now)) as made,
        ):
            yield made

    @pytest.fixture
    def lock(self, make_lock: Callable[[], RedisLock]) -> RedisLock:
        return make_lock()
