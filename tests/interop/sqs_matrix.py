"""The scenarios of the matrix that read otherwise where the broker is SQS.

It lists nothing, waits whole seconds and no more than 15 minutes, and a Go worker that meets a task it does not know goes on
receiving messages that it never runs (protocol §5.1): what Go does not know has a queue of its own.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count

import pytest

from machinery import Arg, chain, chord
from machinery.errors import Unsupported
from machinery.wire import encode_signature
from tests.interop.gomachinery import GoWorker, wire
from tests.interop.matrix import (
    ROUNDS,
    WAIT,
    BothOnOneQueue,
    EachReadsTheOther,
    PythonSendsSomeAndGoRuns,
    Sides,
    result_of,
    string,
    task,
    without_extensions,
)
from tests.interop.matrix_workflows import EachReadsTheGroupsOfTheOther, WorkflowsOfBothOnOneQueue
from tests.interop.sqs_sides import SqsSides
from tests.interop.wire_types import TEXT


class PythonSendsAndGoRunsOnSqs(PythonSendsSomeAndGoRuns):
    """Go cuts the fraction of a second off what it lets wait."""

    def test_retry_later_in_go_runs_the_task_again_without_using_a_retry(
        self, sides: Sides, go_worker: GoWorker
    ) -> None:
        sent = sides.python.server.send_task(task("retry_later", "later", 1_500, retry_count=1))

        assert sent.get(timeout=WAIT) == "later"
        first, second = go_worker.runs(sent.uuid, 2)
        assert second.at - first.at >= timedelta(seconds=1)
        assert second.signature["RetryCount"] == 1


class EachReadsTheOtherOnSqs(EachReadsTheOther):
    """Neither side lists messages: they are taken from the queue."""

    def test_go_reads_retry_that_python_wrote_and_the_delayed_copy(self, fresh_sides: Sides) -> None:
        assert isinstance(fresh_sides, SqsSides)
        sent = wire("retry_later", ("string", "later"), ("int64", 1_000), RetryCount=2, Headers=fresh_sides.headers)
        fresh_sides.go.send(sent)
        with fresh_sides.python.worker_of_one_run() as worker:
            worker.runs(sent["UUID"], 1)
        assert fresh_sides.go.state(sent["UUID"])["State"] == "RETRY"

        (copy,) = fresh_sides.taken(1)
        assert datetime.fromisoformat(copy["ETA"]) > worker.runs(sent["UUID"])[0].at
        assert [arg["Value"] for arg in copy["Args"]] == ["later", 1_000]
        assert (without_extensions(copy["Headers"]), copy["RetryCount"]) == (fresh_sides.headers, 2)

    def test_python_reads_the_delayed_copy_that_go_wrote(self, fresh_sides: Sides) -> None:
        assert isinstance(fresh_sides, SqsSides)
        rounds = count(1)
        while True:
            before = datetime.now(UTC)
            sent = fresh_sides.python.server.send_task(
                task("retry_later", "later", 3_000, retry_count=2, headers=fresh_sides.headers)
            )
            with fresh_sides.go.worker() as worker:
                worker.wait_for("done", sent.uuid)
            if worker.count_runs(sent.uuid) == 1 or next(rounds) == ROUNDS:
                break

        copy = fresh_sides.taken_by_python(1)[sent.uuid]
        assert copy.eta is not None
        assert copy.eta > before + timedelta(seconds=3)
        assert copy.args == (Arg("string", "later"), Arg("int64", 3_000))
        assert (copy.headers, copy.retry_count) == (fresh_sides.headers, 2)

    def test_each_lists_what_the_other_sent(self, fresh_sides: Sides) -> None:
        assert isinstance(fresh_sides, SqsSides)
        from_go = wire("echo_strings", ("[]string", ["a", TEXT]), Headers=fresh_sides.headers, RetryCount=4)
        fresh_sides.go.send(from_go)
        from_python = task("echo_float64", 2.0, headers=fresh_sides.headers, immutable=True)
        fresh_sides.python.server.send_task(from_python)

        with pytest.raises(Unsupported):
            fresh_sides.python.server.pending_tasks()
        with pytest.raises(RuntimeError, match="Not implemented"):
            fresh_sides.go.pending()
        messages = fresh_sides.taken_by_python(2)
        assert messages[from_go["UUID"]].args == (Arg("[]string", ["a", TEXT]),)
        assert encode_signature(messages[from_python.uuid]) == encode_signature(from_python)


class BothOnOneQueueOnSqs(BothOnOneQueue):
    """What only Python knows goes to Python's queue."""

    def test_tasks_known_to_one_side_alone_all_get_there(self, fresh_sides: Sides) -> None:
        assert isinstance(fresh_sides, SqsSides)
        own = fresh_sides.python_queue
        tasks = [task("runs_in_go"), task("runs_in_python", routing_key=own), task("noargs")]
        with fresh_sides.go.worker(), fresh_sides.python.worker(queues=fresh_sides.both_queues):
            sent = fresh_sides.python.server.send_tasks(tasks)
            assert [result.get(timeout=2 * WAIT) for result in sent] == ["go", "python", "no arguments"]

    def test_callbacks_cross_from_one_side_to_the_other(self, fresh_sides: Sides) -> None:
        assert isinstance(fresh_sides, SqsSides)
        own = fresh_sides.python_queue
        in_python = wire("runs_in_python", RoutingKey=own)
        in_go = wire("runs_in_go", OnSuccess=[in_python], Immutable=True)
        first = wire("runs_in_python", OnSuccess=[in_go], Immutable=True, RoutingKey=own)
        with fresh_sides.go.worker(), fresh_sides.python.worker(queues=[own]):
            fresh_sides.go.send(first)

            assert self.values(fresh_sides, in_python["UUID"]) == ("python",)
            assert self.values(fresh_sides, in_go["UUID"]) == ("go",)


class EachReadsTheGroupsOfTheOtherOnSqs(EachReadsTheGroupsOfTheOther):
    """Neither side lists messages: they are taken from the queue."""

    def test_go_reads_the_messages_of_a_chord_that_python_made(self, fresh_sides: Sides) -> None:
        assert isinstance(fresh_sides, SqsSides)
        callback = task("join", "own", headers=fresh_sides.headers, immutable=True, on_error=[task("on_error", "late")])
        sent = fresh_sides.python.server.send_chord(chord([task("join", "a"), task("join", "b")], callback))

        for message in fresh_sides.taken(2):
            assert (message["GroupUUID"], message["GroupTaskCount"]) == (sent.members.group_uuid, 2)
            read = message["ChordCallback"]
            assert (read["UUID"], read["Name"], read["Immutable"]) == (callback.uuid, "join", True)
            assert read["Args"] == [{"Name": "", "Type": "string", "Value": "own"}]
            assert read["Headers"] == fresh_sides.headers
            assert [each["Args"][0]["Value"] for each in read["OnError"]] == ["late"]

    def test_python_reads_the_messages_of_a_chord_that_go_made(self, fresh_sides: Sides) -> None:
        assert isinstance(fresh_sides, SqsSides)
        callback = wire("join", string("own"), Headers=fresh_sides.headers, Immutable=True, OnError=[wire("on_error")])
        members = [wire("join", string("a")), wire("join", string("b"))]
        (answer,) = fresh_sides.go.send({"chord": {"group": members, "callback": callback}})

        messages = fresh_sides.taken_by_python(2)
        assert messages.keys() == set(answer["uuids"])
        for message in messages.values():
            assert (message.group_uuid, message.group_task_count) == (answer["group"], 2)
            read = message.chord_callback
            assert read is not None
            assert (read.uuid, read.name, read.immutable) == (callback["UUID"], "join", True)
            assert read.headers == fresh_sides.headers
            assert [each.name for each in read.on_error] == ["on_error"]


class WorkflowsOfBothOnOneQueueOnSqs(WorkflowsOfBothOnOneQueue):
    """What only Python knows goes to Python's queue."""

    def test_a_chain_crosses_from_one_side_to_the_other(self, fresh_sides: Sides) -> None:
        assert isinstance(fresh_sides, SqsSides)
        own = fresh_sides.python_queue
        links = [
            task("runs_in_go", immutable=True),
            task("runs_in_python", immutable=True, routing_key=own),
            task("runs_in_go", immutable=True),
            task("runs_in_python", routing_key=own),
        ]
        with fresh_sides.go.worker(), fresh_sides.python.worker(queues=[own]):
            sent = fresh_sides.python.server.send_chain(chain([*links, task("join", "last")]))

            assert sent.get(timeout=2 * WAIT) == "last|python"
        assert [result_of(fresh_sides, each).get(timeout=0) for each in links] == ["go", "python", "go", "python"]

    def test_a_chord_of_python_gathers_the_results_of_both(self, fresh_sides: Sides) -> None:
        assert isinstance(fresh_sides, SqsSides)
        own = fresh_sides.python_queue
        members = [each for _ in range(3) for each in (task("runs_in_go"), task("runs_in_python", routing_key=own))]
        with fresh_sides.go.worker() as go_worker, fresh_sides.python.worker(queues=[own]) as python_worker:
            sent = fresh_sides.python.server.send_chord(chord(members, task("join", "own")))
            assert sent.get(timeout=2 * WAIT) == "own|go|python|go|python|go|python"

        assert go_worker.count_runs(sent.uuid) + len(python_worker.runs(sent.uuid)) == 1

    def test_a_chord_of_go_gathers_the_results_of_both(self, fresh_sides: Sides) -> None:
        assert isinstance(fresh_sides, SqsSides)
        own = fresh_sides.python_queue
        members = [each for _ in range(3) for each in (wire("runs_in_go"), wire("runs_in_python", RoutingKey=own))]
        callback = wire("join", string("own"))
        with fresh_sides.go.worker() as go_worker, fresh_sides.python.worker(queues=[own]) as python_worker:
            fresh_sides.go.send({"chord": {"group": members, "callback": callback}})
            (came,) = self.values(fresh_sides, callback["UUID"], 2 * WAIT)
            assert came == "own|go|python|go|python|go|python"

        assert go_worker.count_runs(callback["UUID"]) + len(python_worker.runs(callback["UUID"])) == 1

    def test_a_member_that_failed_in_go_fails_a_chord_of_python_once(self, fresh_sides: Sides) -> None:
        assert isinstance(fresh_sides, SqsSides)
        failing, on_error = task("fail", "boom"), task("on_error", "own")
        last = task("runs_in_python", routing_key=fresh_sides.python_queue)
        with fresh_sides.go.worker() as go_worker:
            sent = fresh_sides.python.server.send_chord(chord([failing, last], task("join", on_error=[on_error])))
            go_worker.wait_for("done", failing.uuid)

        with fresh_sides.python.worker(queues=fresh_sides.both_queues) as worker:
            assert result_of(fresh_sides, on_error).get(timeout=WAIT) == "boom|own"
        assert fresh_sides.python.server.result(sent.uuid).task_state().is_failure
        assert len(worker.runs(on_error.uuid)) == 1
        assert worker.runs(sent.uuid) == []
