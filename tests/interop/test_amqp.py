"""Go Machinery and this project on one RabbitMQ, with results in Redis."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.amqp_matrix import EachReadsTheOtherOnRabbit
from tests.interop.amqp_sides import AmqpSides, both_sides, fresh_names
from tests.interop.matrix import BothOnOneQueue, GoSendsAndPythonRuns, PythonSendsAndGoRuns, Sides
from tests.interop.matrix_workflows import (
    EachReadsTheGroupsOfTheOther,
    GoSendsWorkflowsAndPythonRuns,
    PythonSendsWorkflowsAndGoRuns,
    WorkflowsOfBothOnOneQueue,
)

pytestmark = pytest.mark.interop


@pytest.fixture(
    scope="class",
    params=[pytest.param(False, id="one name"), pytest.param(True, id="a key of its own", marks=pytest.mark.thorough)],
)
def has_orphan(request: pytest.FixtureRequest) -> bool:
    """Whether the default queue's routing key is not called like the queue."""
    given: bool = request.param
    return given


@pytest.fixture(scope="class")
def sides(go_program: Path, amqp_url: str, redis_url: str, has_orphan: bool) -> Iterator[Sides]:
    with both_sides(go_program, amqp_url, fresh_names(has_orphan=has_orphan), redis_url) as sides:
        sides.declare()
        yield sides


@pytest.fixture
def fresh_sides(go_program: Path, amqp_url: str, redis_url: str, has_orphan: bool) -> Iterator[AmqpSides]:
    with both_sides(go_program, amqp_url, fresh_names(has_orphan=has_orphan), redis_url) as sides:
        sides.declare()
        yield sides


class TestPythonSendsAndGoRuns(PythonSendsAndGoRuns):
    pass


class TestGoSendsAndPythonRuns(GoSendsAndPythonRuns):
    pass


class TestEachReadsTheOther(EachReadsTheOtherOnRabbit):
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
