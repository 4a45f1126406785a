"""Go Machinery and this project on one Redis, with both of Go's clients."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.matrix import BothOnOneQueue, EachReadsTheOther, GoSendsAndPythonRuns, PythonSendsAndGoRuns, Sides
from tests.interop.matrix_workflows import (
    EachReadsTheGroupsOfTheOther,
    GoSendsWorkflowsAndPythonRuns,
    PythonSendsWorkflowsAndGoRuns,
    WorkflowsOfBothOnOneQueue,
)
from tests.interop.redis_sides import both_sides

pytestmark = pytest.mark.interop


@pytest.fixture(scope="class")
def sides(go_program: Path, client: str, redis_url: str) -> Iterator[Sides]:
    with both_sides(go_program, client, redis_url) as sides:
        yield sides


@pytest.fixture
def fresh_sides(go_program: Path, client: str, redis_url: str) -> Iterator[Sides]:
    with both_sides(go_program, client, redis_url) as sides:
        yield sides


class TestPythonSendsAndGoRuns(PythonSendsAndGoRuns):
    pass


class TestGoSendsAndPythonRuns(GoSendsAndPythonRuns):
    pass


class TestEachReadsTheOther(EachReadsTheOther):
    pass


class TestBothOnOneQueue(BothOnOneQueue):
    pass


class TestPythonSendsWorkflowsAndGoRuns(PythonSendsWorkflowsAndGoRuns):
    pass


class TestGoSendsWorkflowsAndPythonRuns(GoSendsWorkflowsAndPythonRuns):
    pass


class TestEachReadsTheGroupsOfTheOther(EachReadsTheGroupsOfTheOther):
    pass


class TestWorkflowsOfBothOnOneQueue(WorkflowsOfBothOnOneQueue):
    pass
