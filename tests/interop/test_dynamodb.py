"""Go Machinery and this project with messages in Redis and results in DynamoDB."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from machinery import ResultTimeout, TaskFailed, chord
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
    result_of,
    string,
    task,
)
from tests.interop.matrix_workflows import (
    Additions,
    EachReadsTheGroupsOfTheOther,
    GoSendsWorkflowsAndPythonRuns,
    PythonSendsWorkflowsAndGoRuns,
    WorkflowsOfBothOnOneQueue,
    added,
    both_chords,
)
from tests.interop.store_sides import Store, both_sides
from tests.interop.wire_types import EXAMPLES, Example

pytestmark = pytest.mark.interop


@pytest.fixture(scope="class")
def sides(go_program: Path, redis_url: str, dynamodb_store: Store) -> Iterator[Sides]:
    with both_sides(go_program, redis_url, dynamodb_store) as sides:
        yield sides


@pytest.fixture
def fresh_sides(go_program: Path, redis_url: str, dynamodb_store: Store) -> Iterator[Sides]:
    with both_sides(go_program, redis_url, dynamodb_store) as sides:
        yield sides


UNREADABLE = [
    example
    for example in EXAMPLES
    if (example.answered_as in ("int64", "uint64", "[]int64", "[]uint64") and example.value != [])
    or example.value in (5e-324, 1.7976931348623157e308)
]
"""Go reads no integers from DynamoDB, and no numbers that are too small or too large for one of DynamoDB's (protocol §6.3)."""
READABLE = [example for example in EXAMPLES if example not in UNREADABLE]
RECOVERABLE = [example for example in EXAMPLES if example.type != "[]string" or example.value == []]
"""A list of strings is stored by Go as text in which one cannot tell where they end."""


class ReadsIntegersInPython:
    """Go reads no integers: what Go cannot read, it says, and Python reads it."""

    def values(self, sides: Sides, uuid: str, timeout: float = WAIT) -> tuple[Any, ...]:
        answer = sides.go.result(uuid, timeout)
        if not answer.error:
            return answer.values
        assert re.search(r" is not u?int", answer.error)
        found = sides.python.server.result(uuid).get(timeout=timeout)
        return found if isinstance(found, tuple) else (found,)


class TestPythonSendsAndGoRuns(ReadsIntegersInPython, PythonSendsAndGoRuns):
    @pytest.mark.parametrize("example", RECOVERABLE, ids=str)
    def test_a_value_of_every_type_goes_there_and_back(
        self, sides: Sides, go_worker: GoWorker, example: Example
    ) -> None:
        super().test_a_value_of_every_type_goes_there_and_back(sides, go_worker, example)

    @pytest.mark.parametrize(("name", "value"), [each for each in INFERRED if each[0] != "echo_strings"])
    def test_an_inferred_type_is_the_one_the_go_function_takes(
        self, sides: Sides, go_worker: GoWorker, name: str, value: object
    ) -> None:
        super().test_an_inferred_type_is_the_one_the_go_function_takes(sides, go_worker, name, value)


class TestGoSendsAndPythonRuns(ReadsIntegersInPython, GoSendsAndPythonRuns):
    def test_a_plain_task_runs_once_and_answers(self, sides: Sides, python_worker: Application) -> None:
        sent = wire("join", string("a"), string("b"))
        sides.go.send(sent)

        answer = sides.go.result(sent["UUID"])
        assert (answer.state, answer.types, answer.values, answer.error) == ("SUCCESS", ("string",), ("a|b",), "")
        assert [run.signature.name for run in python_worker.runs(sent["UUID"])] == ["join"]

    @pytest.mark.parametrize("example", READABLE, ids=str)
    def test_a_value_of_every_type_goes_there_and_back(
        self, sides: Sides, python_worker: Application, example: Example
    ) -> None:
        super().test_a_value_of_every_type_goes_there_and_back(sides, python_worker, example)

    @pytest.mark.parametrize("example", UNREADABLE, ids=str)
    def test_go_says_what_it_cannot_read(self, sides: Sides, python_worker: Application, example: Example) -> None:
        sent = wire(example.task, (example.type, example.wire))
        sides.go.send(sent)

        assert sides.python.server.result(sent["UUID"]).get(timeout=WAIT) == example.value
        answer = sides.go.result(sent["UUID"])
        assert (answer.state, answer.values) == ("SUCCESS", ())
        assert " is not " in answer.error


class TestEachReadsTheOther(ReadsIntegersInPython, EachReadsTheOther):
    keeps_ttl = True


@pytest.mark.thorough  # who runs what from one queue is seen with results in Redis
class TestBothOnOneQueue(ReadsIntegersInPython, BothOnOneQueue):
    pass


class TestPythonSendsWorkflowsAndGoRuns(ReadsIntegersInPython, PythonSendsWorkflowsAndGoRuns):
    """A chord of integers fails in Go, whose callback is given their text; then its worker runs nothing more (protocol §10.1)."""

    go_keeps_group_order = False
    go_calls_back_once = False

    @both_chords
    def test_a_chord_gathers_the_results_of_its_group(  # type: ignore[override]  # a queue of its own: it is left without a worker
        self, fresh_sides: Sides, additions: Additions, product: int
    ) -> None:
        with fresh_sides.go.worker():
            sent = fresh_sides.python.server.send_chord(chord(added(additions), task("multiply")))
            with pytest.raises((TaskFailed, ResultTimeout)) as raised:  # it may have stopped before it could say why
                sent.get(timeout=5)
            assert isinstance(raised.value, ResultTimeout) or "is not int64" in str(raised.value)
            assert [member.get(timeout=WAIT) for member in sent.members] == [one + other for one, other in additions]

    def test_members_are_retried_and_have_callbacks_of_their_own(self, sides: Sides, go_worker: GoWorker) -> None:
        own = task("join", "own")
        members = [task("retry_later", "late", 100), task("join", "early", on_success=[own])]
        sent = sides.python.server.send_chord(chord(members, task("join", "last")))

        assert sorted(sent.get(timeout=WAIT).split("|")) == ["early", "last", "late"]
        assert result_of(sides, own).get(timeout=WAIT) == "own|early"


class TestGoSendsWorkflowsAndPythonRuns(ReadsIntegersInPython, GoSendsWorkflowsAndPythonRuns):
    pass


class TestEachReadsTheGroupsOfTheOther(ReadsIntegersInPython, EachReadsTheGroupsOfTheOther):
    go_keeps_group_order = False

    def test_python_reads_a_group_that_go_made(self, fresh_sides: Sides) -> None:
        callback = wire("join", string("own"))
        (answer,) = fresh_sides.go.send({"chord": {"group": [wire("noargs"), wire("noargs")], "callback": callback}})
        backend = fresh_sides.python.server.backend

        found = backend.load_group(answer["group"])
        assert (found.meta.group_uuid, list(found.meta.task_uuids)) == (answer["group"], answer["uuids"])
        assert (found.made_by_go, found.callback, found.meta.chord_triggered) == (True, None, False)

        with fresh_sides.go.worker() as worker:
            worker.wait_for("done", answer["callback"])
        assert backend.load_group(answer["group"]).meta.chord_triggered


@pytest.mark.thorough  # who runs what from one queue is seen with results in Redis
class TestWorkflowsOfBothOnOneQueue(ReadsIntegersInPython, WorkflowsOfBothOnOneQueue):
    go_keeps_group_order = False
    go_calls_back_once = False
