"""MongoDB keeps the contract, as a single server and as a replica set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest

from machinery.abc import Config
from machinery.testing import BackendContract
from machinery_backend_mongo import MongoBackend
from tests.contracts.made import Made
from tests.services.chain import Unobtainable, missing
from tests.services.mongo import MongoServer


class TestMongoBackend(BackendContract):
    """The fixtures are those of this folder."""


@pytest.fixture(scope="module")
def replica_set(mongo_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MongoServer]:
    try:
        server = MongoServer(tmp_path_factory.mktemp("replica-set") / "server", replica_set="rs0")
    except Unobtainable as reason:
        missing("mongo", str(reason))
    with server:
        yield server


class TestMongoReplicaSetBackend(BackendContract):
    @pytest.fixture
    def make_backend(self, replica_set: MongoServer) -> Iterator[Callable[..., MongoBackend]]:
        url = f"{replica_set.url}&database=test_{uuid4().hex}"

        def make(**changes: Any) -> MongoBackend:
            return MongoBackend.from_url(url, Config(**changes))

        with Made(make) as made:
            yield made

    @pytest.fixture
    def backend(self, make_backend: Callable[..., MongoBackend]) -> MongoBackend:
        return make_backend()
