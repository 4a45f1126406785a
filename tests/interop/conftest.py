"""Fixtures of the interoperability tests: the Go program, both of Go Machinery's Redis clients, and a worker of either side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from tests.interop.gomachinery import GoMissing, build_program
from tests.services.chain import missing

if TYPE_CHECKING:  # what is rewritten may not be imported before it is registered
    from tests.interop.application import Application
    from tests.interop.gomachinery import GoWorker
    from tests.interop.matrix import Sides
    from tests.interop.store_sides import Store

pytest.register_assert_rewrite(
    "tests.interop.matrix",
    "tests.interop.matrix_workflows",
    "tests.interop.amqp_matrix",
    "tests.interop.sqs_matrix",
    "tests.interop.application",
)


@pytest.fixture(scope="session")
def go_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Go program; where Go is missing a skip, or a failure when ``MACHINERY_REQUIRE`` names ``go``."""
    return _built(tmp_path_factory, old=False)


@pytest.fixture(scope="session")
def old_go_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same on Go Machinery v2.0.13, the last release before Amazon's second library."""
    return _built(tmp_path_factory, old=True)


def _built(factory: pytest.TempPathFactory, *, old: bool) -> Path:
    try:
        return build_program(factory.mktemp("gomachinery"), old=old)
    except GoMissing as reason:
        missing("go", str(reason))
        raise


@pytest.fixture(scope="class", params=["redigo", "goredis"])
def client(request: pytest.FixtureRequest) -> str:
    """The name of a Go Redis client; each has a broker and a backend of its own."""
    name: str = request.param
    return name


@pytest.fixture(scope="class")
def go_worker(sides: Sides) -> Iterator[GoWorker]:
    """A running Go worker of the class's queue."""
    with sides.go.worker() as worker:
        yield worker


@pytest.fixture(scope="class")
def python_worker(sides: Sides) -> Iterator[Application]:
    """A running Python worker of the class's queue."""
    with sides.python.worker() as worker:
        yield worker


# -- stores of results ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def memcached_store(memcached_url: str) -> Store:
    """Results in Memcached."""
    from tests.interop.store_sides import Store  # noqa: PLC0415 - as above

    return Store(memcached_url)


@pytest.fixture(scope="session")
def mongo_store(mongo_url: str) -> Iterator[Store]:
    """Results in a database of MongoDB that nobody else uses."""
    from tests.interop.store_sides import Store  # noqa: PLC0415 - as above
    from tests.services.mongo import connected  # noqa: PLC0415 - present where mongo_url is

    name = f"interop_{uuid4().hex}"
    yield Store(f"{mongo_url}/{name}", go_flags=("-mongodb-database", name), go_address=mongo_url)
    with connected(mongo_url) as client:
        client.drop_database(name)


@pytest.fixture(scope="session")
def dynamodb_store(dynamodb_url: str, dynamodb_tables: Mapping[str, str]) -> Store:
    """Results in two tables of DynamoDB that nobody else uses."""
    from tests.interop.store_sides import Store  # noqa: PLC0415 - as above

    flags = [(f"-{key.replace('_', '-')}", name) for key, name in dynamodb_tables.items()]
    return Store(dynamodb_url, {"dynamodb": dynamodb_tables}, tuple(word for flag in flags for word in flag))
