"""Go Machinery and this project with messages in Redis and results in Memcached."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.matrix import (
    BothOnOneQueue,
    EachReadsTheOther,
    GoSendsSomeAndPythonRuns,
    PythonSendsSomeAndGoRuns,
    Sides,
)
from tests.interop.matrix_workflows import (
    EachReadsTheGroupsOfTheOther,
    GoSendsWorkflowsAndPythonRuns,
    PythonSendsWorkflowsAndGoRuns,
    WorkflowsOfBothOnOneQueue,
)
from tests.interop.store_sides import Store, both_sides

pytestmark = pytest.mark.interop


@pytest.fixture(scope="class")
def sides(go_program: Path, redis_url: str, memcached_store: Store) -> Iterator[Sides]:
    with both_sides(go_program, redis_url, memcached_store) as sides:
        yield sides


@pytest.fixture
def fresh_sides(go_program: Path, redis_url: str, memcached_store: Store) -> Iterator[Sides]:
    with both_sides(go_program, redis_url, memcached_store) as sides:
        yield sides


class TestPythonSendsAndGoRuns(PythonSendsSomeAndGoRuns):
    pass


class TestGoSendsAndPythonRuns(GoSendsSomeAndPythonRuns):
    pass


class TestEachReadsTheOther(EachReadsTheOther):
    go_keeps_origins = False


@pytest.mark.thorough  # who runs what from one queue is seen with results in Redis
class TestBothOnOneQueue(BothOnOneQueue):
    pass


class TestPythonSendsWorkflowsAndGoRuns(PythonSendsWorkflowsAndGoRuns):
    go_calls_back_once = False


class TestGoSendsWorkflowsAndPythonRuns(GoSendsWorkflowsAndPythonRuns):
    pass


class TestEachReadsTheGroupsOfTheOther(EachReadsTheGroupsOfTheOther):
    pass


@pytest.mark.thorough  # who runs what from one queue is seen with results in Redis
class TestWorkflowsOfBothOnOneQueue(WorkflowsOfBothOnOneQueue):
    go_calls_back_once = False
