"""Go Machinery and this project on one Redis, with both of Go's clients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from machinery import Server
from tests.interop.application import Application
from tests.interop.gomachinery import GoMachinery, GoWorker
from tests.interop.matrix import BothOnOneQueue, EachReadsTheOther, GoSendsAndPythonRuns, PythonSendsAndGoRuns, Sides

DATABASE = 1
"""Not the default one, so that a side that forgets to select it is found out."""

pytestmark = [pytest.mark.interop, pytest.mark.timeout(60, func_only=True)]


@contextmanager
def both_sides(go_program: Path, client: str, redis_url: str) -> Iterator[Sides]:
    """Both sides on a queue that no one else knows."""
    url = urlsplit(redis_url)
    database = int(url.path.strip("/") or DATABASE)
    queue = f"interop_{uuid4()}"
    server = Server.from_url(f"redis://{url.netloc}/{database}", default_queue=queue)
    try:
        yield Sides(GoMachinery(go_program, client, url.netloc, url.netloc, database, queue), Application(server))
    finally:
        server.close()


@pytest.fixture(scope="class")
def sides(go_program: Path, client: str, redis_url: str) -> Iterator[Sides]:
    with both_sides(go_program, client, redis_url) as sides:
        yield sides


@pytest.fixture
def fresh_sides(go_program: Path, client: str, redis_url: str) -> Iterator[Sides]:
    with both_sides(go_program, client, redis_url) as sides:
        yield sides


@pytest.fixture(scope="class")
def go_worker(sides: Sides) -> Iterator[GoWorker]:
    with sides.go.worker() as worker:
        yield worker


@pytest.fixture(scope="class")
def python_worker(sides: Sides) -> Iterator[Application]:
    with sides.python.worker() as worker:
        yield worker


class TestPythonSendsAndGoRuns(PythonSendsAndGoRuns):
    pass


class TestGoSendsAndPythonRuns(GoSendsAndPythonRuns):
    pass


class TestEachReadsTheOther(EachReadsTheOther):
    pass


class TestBothOnOneQueue(BothOnOneQueue):
    pass
