"""Go Machinery v2.0.13, which keeps some results in other ways than v2.0.16, on the same stores (protocol §13)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from machinery import State, TaskFailed, chord
from tests.interop.gomachinery import wire
from tests.interop.matrix import WAIT, Sides, int64, string, task
from tests.interop.matrix_workflows import added
from tests.interop.store_sides import both_sides

pytestmark = pytest.mark.interop


@pytest.fixture(params=["mongo_store", "memcached_store", "dynamodb_store"])
def sides(request: pytest.FixtureRequest, old_go_program: Path, redis_url: str) -> Iterator[Sides]:
    with both_sides(old_go_program, redis_url, request.getfixturevalue(request.param)) as sides:
        yield sides


def test_python_reads_what_old_go_ran(sides: Sides) -> None:
    server = sides.python.server
    with sides.go.worker():
        answered = server.send_task(task("add", 40, 2))
        several = server.send_task(task("two_strings"))
        nothing = server.send_task(task("nothing"))
        failed = server.send_task(task("fail", "boom"))

        assert answered.get(timeout=WAIT) == 42
        assert several.get(timeout=WAIT) == ("foo", "bar")
        assert nothing.get(timeout=WAIT) is None
        with pytest.raises(TaskFailed, match="boom"):
            failed.get(timeout=WAIT)


def test_old_go_reads_what_python_ran(sides: Sides) -> None:
    answered, failed = wire("join", string("a"), string("b")), wire("fail", string("boom"))
    sides.go.send(answered, failed)
    with sides.python.worker():
        answer = sides.go.result(answered["UUID"])
        failure = sides.go.result(failed["UUID"])

    assert (answer.state, answer.types, answer.values, answer.error) == ("SUCCESS", ("string",), ("a|b",), "")
    assert (failure.state, failure.error) == ("FAILURE", "boom")


def test_each_reads_what_waits(sides: Sides) -> None:
    from_go, from_python = wire("noargs"), sides.python.server.send_task(task("noargs"))
    sides.go.send(from_go)

    state = sides.python.server.result(from_go["UUID"]).task_state()
    assert (state.state, state.task_name, state.error, state.results) == (State.PENDING, "noargs", "", None)
    assert sides.go.state(from_python.uuid)["State"] == "PENDING"


def test_a_chord_of_python_is_gathered_by_python_with_members_of_old_go(sides: Sides) -> None:
    members = [task("runs_in_go"), task("runs_in_python"), task("runs_in_go")]
    with sides.go.worker(), sides.python.worker() as worker:
        sent = sides.python.server.send_chord(chord(members, task("runs_in_python", immutable=True)))
        for member in sent.members:
            member.get(timeout=2 * WAIT)
        assert sent.get(timeout=2 * WAIT) == "python"
    assert worker.runs(sent.uuid)


def test_a_chord_of_python_may_be_run_by_python_alone_and_is_known_to_old_go(sides: Sides) -> None:
    sent = sides.python.server.send_chord(chord(added([(1, 1), (5, 5)]), task("multiply")))
    assert not sides.go.group(sent.members.group_uuid, 2).is_completed
    with sides.python.worker():
        assert sent.get(timeout=WAIT) == 20
    assert sides.go.group(sent.members.group_uuid, 2).is_completed


def test_numbers_of_old_go_reach_a_callback_in_python(sides: Sides) -> None:
    first, callback = wire("add", int64(1), int64(1), Immutable=True), wire("multiply", int64(10))
    first["OnSuccess"] = [callback]
    sides.go.send(first)
    with sides.python.worker():
        assert sides.python.server.result(callback["UUID"]).get(timeout=WAIT) == 10
