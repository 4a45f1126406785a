"""Go Machinery and this project with messages in Redis and results in MongoDB."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from machinery import chord
from tests.interop.application import Application
from tests.interop.gomachinery import GoWorker, wire
from tests.interop.matrix import (
    INFERRED,
    WAIT,
    BothOnOneQueue,
    EachReadsTheOther,
    GoSendsAndPythonRuns,
    PythonSendsAndGoRuns,
    Sides,
    task,
)
from tests.interop.matrix_workflows import (
    THREE,
    EachReadsTheGroupsOfTheOther,
    GoSendsWorkflowsAndPythonRuns,
    PythonSendsWorkflowsAndGoRuns,
    WorkflowsOfBothOnOneQueue,
    added_by_go,
)
from tests.interop.store_sides import Store, both_sides
from tests.interop.wire_types import EXAMPLES, Example

pytestmark = pytest.mark.interop


@pytest.fixture(scope="class")
def sides(go_program: Path, redis_url: str, mongo_store: Store) -> Iterator[Sides]:
    with both_sides(go_program, redis_url, mongo_store) as sides:
        yield sides


@pytest.fixture
def fresh_sides(go_program: Path, redis_url: str, mongo_store: Store) -> Iterator[Sides]:
    with both_sides(go_program, redis_url, mongo_store) as sides:
        yield sides


WITHIN_INT64 = [example for example in EXAMPLES if not example.answered_as.endswith("uint64")]
BEYOND_INT64 = [example for example in EXAMPLES if example.answered_as.endswith("uint64")]
"""MongoDB has no integers so large: what Go would store of them stops its worker, and Python stores text (protocol §6.1)."""


class TestPythonSendsAndGoRuns(PythonSendsAndGoRuns):
    @pytest.mark.parametrize("example", WITHIN_INT64, ids=str)
    def test_a_value_of_every_type_goes_there_and_back(
        self, sides: Sides, go_worker: GoWorker, example: Example
    ) -> None:
        super().test_a_value_of_every_type_goes_there_and_back(sides, go_worker, example)

    @pytest.mark.parametrize(("name", "value"), [each for each in INFERRED if each[1] != 2**64 - 1])
    def test_an_inferred_type_is_the_one_the_go_function_takes(
        self, sides: Sides, go_worker: GoWorker, name: str, value: object
    ) -> None:
        super().test_an_inferred_type_is_the_one_the_go_function_takes(sides, go_worker, name, value)


class TestGoSendsAndPythonRuns(GoSendsAndPythonRuns):
    @pytest.mark.parametrize("example", WITHIN_INT64, ids=str)
    def test_a_value_of_every_type_goes_there_and_back(
        self, sides: Sides, python_worker: Application, example: Example
    ) -> None:
        super().test_a_value_of_every_type_goes_there_and_back(sides, python_worker, example)

    @pytest.mark.parametrize("example", BEYOND_INT64, ids=str)
    def test_go_says_that_it_cannot_read_an_integer_beyond_int64(
        self, sides: Sides, python_worker: Application, example: Example
    ) -> None:
        sent = wire(example.task, (example.type, example.wire))
        sides.go.send(sent)

        assert sides.python.server.result(sent["UUID"]).get(timeout=WAIT) == example.value
        answer = sides.go.result(sent["UUID"])
        assert (answer.state, answer.values) == ("SUCCESS", ())
        assert answer.error


class TestEachReadsTheOther(EachReadsTheOther):
    pass


@pytest.mark.thorough  # who runs what from one queue is seen with results in Redis
class TestBothOnOneQueue(BothOnOneQueue):
    pass


class TestPythonSendsWorkflowsAndGoRuns(PythonSendsWorkflowsAndGoRuns):
    go_keeps_group_order = False
    go_calls_back_once = False


class TestGoSendsWorkflowsAndPythonRuns(GoSendsWorkflowsAndPythonRuns):
    pass


class TestEachReadsTheGroupsOfTheOther(EachReadsTheGroupsOfTheOther):
    """Go gives everybody the right to call back, and marks the chord all the same."""

    go_keeps_group_order = False

    def test_what_go_triggered_python_does_not_claim(self, fresh_sides: Sides) -> None:
        sent = fresh_sides.python.server.send_chord(chord([task("join", "a")], task("join")))
        uuid, backend = sent.members.group_uuid, fresh_sides.python.server.backend

        assert fresh_sides.go.trigger(uuid, uuid) == [True, True]
        assert backend.load_group(uuid).meta.chord_triggered
        assert not backend.claim_chord(uuid, sent.members[0].uuid)

    def test_what_python_claimed_go_does_not_trigger(self, fresh_sides: Sides) -> None:
        """It does: only the callback's own id tells the second message from the first."""
        (answer,) = fresh_sides.go.send({"chord": {"group": added_by_go(THREE), "callback": wire("multiply")}})
        backend = fresh_sides.python.server.backend

        assert backend.claim_chord(answer["group"], answer["uuids"][0])
        assert fresh_sides.go.trigger(answer["group"]) == [True]
        assert backend.claim_chord(answer["group"], answer["uuids"][0])
        assert not backend.claim_chord(answer["group"], answer["uuids"][1])


@pytest.mark.thorough  # who runs what from one queue is seen with results in Redis
class TestWorkflowsOfBothOnOneQueue(WorkflowsOfBothOnOneQueue):
    go_keeps_group_order = False
    go_calls_back_once = False
