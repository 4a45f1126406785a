"""Fixtures of the interoperability tests: the Go program, and both of Go Machinery's Redis clients."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interop.gomachinery import GoMissing, build_program
from tests.services.chain import missing

pytest.register_assert_rewrite(
    "tests.interop.matrix", "tests.interop.matrix_workflows", "tests.interop.amqp_matrix", "tests.interop.application"
)


@pytest.fixture(scope="session")
def go_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Go program; where Go is missing a skip, or a failure when ``MACHINERY_REQUIRE`` names ``go``."""
    try:
        return build_program(tmp_path_factory.mktemp("gomachinery"))
    except GoMissing as reason:
        missing("go", str(reason))
        raise


@pytest.fixture(scope="class", params=["redigo", "goredis"])
def client(request: pytest.FixtureRequest) -> str:
    """The name of a Go Redis client; each has a broker and a backend of its own."""
    name: str = request.param
    return name
