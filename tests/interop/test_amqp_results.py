"""Go Machinery and this project on one RabbitMQ, with results there too, which Go's readers take away as they read."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from pathlib import Path

import pytest

from machinery import TaskFailed, chord
from machinery.errors import GroupNotFound
from tests.interop.amqp_matrix import EachReadsTheOtherOnRabbit
from tests.interop.amqp_sides import AmqpSides, both_sides, fresh_names
from tests.interop.eventually import eventually
from tests.interop.gomachinery import wire
from tests.interop.matrix import (
    WAIT,
    BothOnOneQueue,
    GoSendsSomeAndPythonRuns,
    PythonSendsSomeAndGoRuns,
    Sides,
    string,
    task,
)
from tests.interop.matrix_workflows import (
    SUMS,
    THREE,
    EachReadsTheGroupsOfTheOther,
    GoSendsWorkflowsAndPythonRuns,
    PythonSendsWorkflowsAndGoRuns,
    WorkflowsOfBothOnOneQueue,
    added,
    added_by_go,
)

pytestmark = pytest.mark.interop


@pytest.fixture(scope="class")
def sides(go_program: Path, amqp_url: str) -> Iterator[Sides]:
    with both_sides(go_program, amqp_url, fresh_names(), amqp_url) as sides:
        sides.declare()
        yield sides


@pytest.fixture
def fresh_sides(go_program: Path, amqp_url: str) -> Iterator[AmqpSides]:
    with both_sides(go_program, amqp_url, fresh_names(), amqp_url) as sides:
        sides.declare()
        yield sides


class TestPythonSendsAndGoRuns(PythonSendsSomeAndGoRuns):
    pass


class TestGoSendsAndPythonRuns(GoSendsSomeAndPythonRuns):
    pass


class TestEachReadsTheOther(EachReadsTheOtherOnRabbit):
    """What Go has read, nobody reads again."""

    def test_go_reads_started_and_success_that_python_wrote(self, fresh_sides: Sides) -> None:
        sent = wire("hold")
        fresh_sides.go.send(sent)
        assert fresh_sides.go.state(sent["UUID"])["State"] == "PENDING"

        with fresh_sides.python.worker() as worker:
            worker.runs(sent["UUID"], 1)
            eventually(lambda: fresh_sides.go.state(sent["UUID"]).get("State") == "STARTED")
            worker.answer("go on")
            assert fresh_sides.go.result(sent["UUID"]).values == ("go on",)
        assert fresh_sides.go.state(sent["UUID"]) == {}

    def test_go_reads_failure_that_python_wrote(self, fresh_sides: Sides) -> None:
        sent = wire("fail", string("boom"))
        fresh_sides.go.send(sent)

        with fresh_sides.python.worker(), pytest.raises(TaskFailed, match="boom"):
            fresh_sides.python.server.result(sent["UUID"]).get(timeout=WAIT)

        state = fresh_sides.go.state(sent["UUID"])
        assert (state["TaskName"], state["State"], state["Results"], state["Error"]) == (
            "fail",
            "FAILURE",
            None,
            "boom",
        )


@pytest.mark.thorough  # who runs what from one queue is seen with results in Redis
class TestBothOnOneQueue(BothOnOneQueue):
    pass


class TestPythonSendsWorkflowsAndGoRuns(PythonSendsWorkflowsAndGoRuns):
    go_keeps_group_order = False


class TestGoSendsWorkflowsAndPythonRuns(GoSendsWorkflowsAndPythonRuns):
    go_stores_group_order = False


class TestEachReadsTheGroupsOfTheOther(EachReadsTheGroupsOfTheOther):
    """Go keeps of a group only the states of members that have ended, and gives everybody the right to call back."""

    def test_go_reads_a_group_that_python_made(self, fresh_sides: Sides) -> None:
        server = fresh_sides.python.server
        sent = server.send_chord(chord(added(THREE), task("multiply")))
        uuid, count = sent.members.group_uuid, len(THREE)
        assert not fresh_sides.go.group(uuid, count).is_completed

        with fresh_sides.python.worker():
            assert sent.get(timeout=WAIT) == prod(SUMS)
        assert not fresh_sides.go.group(uuid, count).is_completed  # a Go worker would send the callback again

    def test_python_reads_a_group_that_go_made(self, fresh_sides: Sides) -> None:
        members = [wire("noargs"), wire("hold")]
        (answer,) = fresh_sides.go.send({"chord": {"group": members, "callback": wire("join")}})
        backend = fresh_sides.python.server.backend
        with pytest.raises(GroupNotFound):
            backend.load_group(answer["group"])

        with fresh_sides.go.worker() as worker:
            worker.wait_for("done", members[0]["UUID"])
            found = backend.load_group(answer["group"])
            worker.answer("end")
            worker.wait_for("done", answer["callback"])
        assert (found.made_by_go, found.callback, found.meta.task_uuids) == (True, None, (members[0]["UUID"],))

    def test_what_go_triggered_python_does_not_claim(self, fresh_sides: Sides) -> None:
        sent = fresh_sides.python.server.send_chord(chord([task("join", "a"), task("join", "b")], task("join")))
        with fresh_sides.go.worker() as worker:
            worker.wait_for("done", sent.uuid)

        assert not fresh_sides.python.server.backend.claim_chord(sent.members.group_uuid, sent.members[0].uuid)

    def test_what_python_claimed_go_does_not_trigger(self, fresh_sides: Sides) -> None:
        (answer,) = fresh_sides.go.send({"chord": {"group": added_by_go(THREE), "callback": wire("multiply")}})
        with fresh_sides.python.worker() as worker:
            assert fresh_sides.go.result(answer["callback"]).values == (prod(SUMS),)

        assert not fresh_sides.go.group(answer["group"], len(THREE)).is_completed
        assert len(worker.runs(answer["callback"])) == 1


@pytest.mark.thorough  # who runs what from one queue is seen with results in Redis
class TestWorkflowsOfBothOnOneQueue(WorkflowsOfBothOnOneQueue):
    go_keeps_group_order = False
    go_marks_chords = False
