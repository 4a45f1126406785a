"""The scenarios, for any broker and backend: whoever sends, whoever runs, the task does the same and both sides can read it.

A service's test module subclasses these and provides four fixtures. For a class: ``sides``, both sides with one fresh queue,
and ``go_worker`` or ``python_worker``, a running worker of it. For a test: ``fresh_sides``, a queue that nobody works on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import uuid4

import pytest

from machinery import Arg, AsyncResult, Signature, State, TaskFailed
from machinery.errors import StateNotFound
from tests.interop.application import Application
from tests.interop.eventually import eventually
from tests.interop.gomachinery import GoMachinery, GoWorker, Wire, wire
from tests.interop.wire_types import EXAMPLES, TEXT, Example

WAIT = 60.0
"""Seconds. A Go worker on SQS of which one deletion was refused keeps up to four messages to itself, each for a lease."""
LATEST = timedelta(seconds=10)
"""How much later than it is due a task may run on a busy machine."""
ROUNDS = 5
"""How often a worker of Go's may be held up for so long that it ends what it was only to begin."""
ZERO_TIME = datetime(1, 1, 1, tzinfo=UTC)
PRECISION = timedelta(milliseconds=1)
"""Of the times that a store keeps: none keeps less."""
HEADERS = {"tenant": "acme", "text": TEXT, "number": 7, "long": 2**70, "nested": {"list": [1, None, True, 2.5]}}

INFERRED: list[tuple[str, object]] = [
    ("echo_bool", True),
    ("echo_string", TEXT),
    ("echo_int64", -(2**63)),
    ("echo_uint64", 2**64 - 1),
    ("echo_float64", 3.0),
    ("echo_uint8s", b"\x00\xff"),
    ("echo_bools", [True, False]),
    ("echo_strings", ["a", TEXT]),
    ("echo_int64s", [1, 2**63 - 1]),
    ("echo_float64s", [1.0, 2.5]),
]
"""Tasks, and values whose types are inferred."""

every_type = pytest.mark.parametrize("example", EXAMPLES, ids=str)
some_types = pytest.mark.parametrize("example", EXAMPLES[::6], ids=str)
"""Where bodies and records are the same text as over Redis and RabbitMQ, where each type is seen."""


@dataclass(frozen=True, slots=True)
class Sides:
    """Go and Python on the same broker, store and queue."""

    go: GoMachinery
    python: Application
    headers: dict[str, Any] = field(default_factory=lambda: HEADERS, kw_only=True)
    """What the broker carries unchanged."""

    def delayed_by_python(self) -> list[Wire]:
        """What waits for its time in Python's way, as Go lists it."""
        return self.go.delayed()

    def sent_twice(self, sent: int) -> int:
        """How many of so many messages that Go has sent, which nobody takes yet, are there twice."""
        return 0


def int64(value: int) -> tuple[str, int]:
    """A Go argument."""
    return ("int64", value)


def string(value: str) -> tuple[str, str]:
    """A Go argument."""
    return ("string", value)


def task(name: str, *args: object, **fields: Any) -> Signature:
    """A Python signature under a fresh id, so that a test can ask for it by name of a callback."""
    return Signature(name, args, uuid=f"task_{uuid4()}", **fields)


def result_of(sides: Sides, signature: Signature) -> AsyncResult[Any]:
    """The result of a task that was sent as somebody's callback."""
    return sides.python.server.result(signature.uuid)


def from_json(answer: Any) -> Any:
    """What the text of a Go task says: in MongoDB Go makes an object of text that begins like one."""
    return json.loads(answer) if isinstance(answer, str) else answer


def without_extensions(headers: Mapping[str, Any] | None) -> dict[str, Any]:
    """The sender's own headers: what Python adds is named ``machinery_…`` and is text, as Go's tracing wants it."""
    added = {key: value for key, value in (headers or {}).items() if key.startswith("machinery_")}
    assert all(isinstance(value, str) for value in added.values())
    return {key: value for key, value in (headers or {}).items() if key not in added}


class ReadsThroughGo:
    """How results are read on the Go side."""

    def check_runs(self, runs: Mapping[str, int], sent_twice: int = 0) -> None:
        """Each ran once, but for as many as were sent twice; ``runs``: how often, by id."""
        assert 0 not in runs.values()
        assert sum(runs.values()) - len(runs) <= sent_twice, {uuid: count for uuid, count in runs.items() if count > 1}

    def values(self, sides: Sides, uuid: str, timeout: float = WAIT) -> tuple[Any, ...]:
        """What a task has returned, as a Go program reads it."""
        return sides.go.result(uuid, timeout).values


class PythonSendsAndGoRuns(ReadsThroughGo):
    """Python's signatures mean to a Go worker what they say, and Python reads what Go answers."""

    def test_a_plain_task_runs_once_and_answers(self, sides: Sides, go_worker: GoWorker) -> None:
        sent = sides.python.server.send_task(task("add", 40, 2))

        assert sent.get(timeout=WAIT) == 42
        assert [run.signature["Name"] for run in go_worker.runs(sent.uuid)] == ["add"]

    @every_type
    def test_a_value_of_every_type_goes_there_and_back(
        self, sides: Sides, go_worker: GoWorker, example: Example
    ) -> None:
        sent = sides.python.server.send_task(task(example.task, Arg(example.type, example.value)))

        assert sent.get(timeout=WAIT) == example.expected

    @pytest.mark.parametrize(("name", "value"), INFERRED)
    def test_an_inferred_type_is_the_one_the_go_function_takes(
        self, sides: Sides, go_worker: GoWorker, name: str, value: object
    ) -> None:
        sent = sides.python.server.send_task(task(name, value))

        assert sent.get(timeout=WAIT) == value

    def test_several_results_are_a_tuple_and_none_is_none(self, sides: Sides, go_worker: GoWorker) -> None:
        several = sides.python.server.send_task(task("two_strings"))
        none = sides.python.server.send_task(task("nothing"))

        assert several.get(timeout=WAIT) == ("foo", "bar")
        assert none.get(timeout=WAIT) is None

    def test_an_error_in_go_is_raised_in_python(self, sides: Sides, go_worker: GoWorker) -> None:
        sent = sides.python.server.send_task(task("fail", TEXT))

        with pytest.raises(TaskFailed) as raised:
            sent.get(timeout=WAIT)
        assert raised.value.error == TEXT
        assert sent.task_state().is_failure

    def test_a_panic_in_go_is_raised_in_python(self, sides: Sides, go_worker: GoWorker) -> None:
        sent = sides.python.server.send_task(task("panic_task", "oops"))

        with pytest.raises(TaskFailed, match="oops"):
            sent.get(timeout=WAIT)

    def test_an_argument_of_the_wrong_type_fails_in_go(self, sides: Sides, go_worker: GoWorker) -> None:
        sent = sides.python.server.send_task(task("add", "one"))

        with pytest.raises(TaskFailed, match="string as type int64"):
            sent.get(timeout=WAIT)

    def test_a_delayed_task_does_not_run_before_its_eta(self, sides: Sides, go_worker: GoWorker) -> None:
        eta = datetime.now(UTC) + timedelta(seconds=1.2)
        sent = sides.python.server.send_task(task("add", 1, 1, eta=eta))

        assert sent.get(timeout=WAIT) == 2
        (run,) = go_worker.runs(sent.uuid)
        assert eta <= run.at <= eta + LATEST
        assert datetime.fromisoformat(run.signature["ETA"]) == eta

    def test_a_failing_task_is_retried_by_go_until_it_succeeds(self, sides: Sides, go_worker: GoWorker) -> None:
        sent = sides.python.server.send_task(task("fail_times", 2, retry_count=3))

        assert sent.get(timeout=WAIT) == 3
        assert [_retries_left(run.signature) for run in go_worker.runs(sent.uuid, 3)] == [(3, 0), (2, 1), (1, 2)]

    def test_retries_that_run_out_are_a_failure(self, sides: Sides, go_worker: GoWorker) -> None:
        sent = sides.python.server.send_task(task("fail", "still no", retry_count=1))

        with pytest.raises(TaskFailed, match="still no"):
            sent.get(timeout=WAIT)
        assert len(go_worker.runs(sent.uuid, 2)) == 2

    def test_retry_later_in_go_runs_the_task_again_without_using_a_retry(
        self, sides: Sides, go_worker: GoWorker
    ) -> None:
        sent = sides.python.server.send_task(task("retry_later", "later", 300, retry_count=1))

        assert sent.get(timeout=WAIT) == "later"
        first, second = go_worker.runs(sent.uuid, 2)
        assert second.at - first.at >= timedelta(milliseconds=300)
        assert second.signature["RetryCount"] == 1

    def test_headers_arrive_and_survive_a_retry(self, sides: Sides, go_worker: GoWorker) -> None:
        sent = sides.python.server.send_task(task("headers", headers=sides.headers))
        retried = sides.python.server.send_task(task("fail_times", 1, headers=sides.headers, retry_count=1))

        assert from_json(sent.get(timeout=WAIT)) == sides.headers
        assert retried.get(timeout=WAIT) == 2
        assert [run.signature["Headers"] for run in go_worker.runs(retried.uuid, 2)] == [sides.headers] * 2

    def test_on_success_gets_the_results_appended(self, sides: Sides, go_worker: GoWorker) -> None:
        last = task("multiply", 4)
        middle = task("add", 5, on_success=[last])
        sides.python.server.send_task(task("add", 1, 1, on_success=[middle]))

        assert result_of(sides, last).get(timeout=WAIT) == 28
        assert result_of(sides, middle).get(timeout=WAIT) == 7

    def test_several_on_success_all_run(self, sides: Sides, go_worker: GoWorker) -> None:
        callbacks = [task("add", 10), task("multiply", 10)]
        sides.python.server.send_task(task("add", 1, 1, on_success=callbacks))

        assert [result_of(sides, callback).get(timeout=WAIT) for callback in callbacks] == [12, 20]

    def test_an_immutable_task_keeps_its_results_to_itself(self, sides: Sides, go_worker: GoWorker) -> None:
        last = task("multiply", 4)
        middle = task("add", 5, on_success=[last], immutable=True)
        sides.python.server.send_task(task("add", 1, 1, on_success=[middle]))

        assert result_of(sides, last).get(timeout=WAIT) == 4
        assert result_of(sides, middle).get(timeout=WAIT) == 7

    def test_on_error_gets_the_error_first(self, sides: Sides, go_worker: GoWorker) -> None:
        callback = task("on_error", "own", "arguments")
        sides.python.server.send_task(task("fail", "boom", on_error=[callback]))

        assert result_of(sides, callback).get(timeout=WAIT) == "boom|own|arguments"

    def test_on_success_is_not_called_after_an_error_nor_on_error_after_a_success(
        self, sides: Sides, go_worker: GoWorker
    ) -> None:
        never = task("noargs")
        failed = sides.python.server.send_task(task("fail", "boom", on_success=[never]))
        succeeded = sides.python.server.send_task(task("noargs", on_error=[never]))

        go_worker.wait_for("done", failed.uuid)
        go_worker.wait_for("done", succeeded.uuid)
        with pytest.raises(StateNotFound):
            result_of(sides, never).task_state()

    def test_many_sent_in_one_batch_all_run_once(self, sides: Sides, go_worker: GoWorker) -> None:
        sent = sides.python.server.send_tasks([task("add", n, 1) for n in range(200)])

        assert [result.get(timeout=WAIT) for result in sent] == [n + 1 for n in range(200)]
        self.check_runs({result.uuid: len(go_worker.runs(result.uuid)) for result in sent})


class GoSendsAndPythonRuns(ReadsThroughGo):
    """Go's messages mean to a Python worker what they say, and Go reads what Python answers."""

    def test_a_plain_task_runs_once_and_answers(self, sides: Sides, python_worker: Application) -> None:
        sent = wire("add", int64(40), int64(2))
        sides.go.send(sent)

        answer = sides.go.result(sent["UUID"])
        assert (answer.state, answer.types, answer.values, answer.error) == ("SUCCESS", ("int64",), (42,), "")
        assert [run.signature.name for run in python_worker.runs(sent["UUID"])] == ["add"]

    @every_type
    def test_a_value_of_every_type_goes_there_and_back(
        self, sides: Sides, python_worker: Application, example: Example
    ) -> None:
        sent = wire(example.task, (example.type, example.wire))
        sides.go.send(sent)

        assert sides.python.server.result(sent["UUID"]).get(timeout=WAIT) == example.expected
        answer = sides.go.result(sent["UUID"])
        expected = example.wire if isinstance(example.value, bytes) else example.expected
        assert (answer.error, answer.types, answer.values) == ("", (example.answered_as,), (expected,))

    @pytest.mark.parametrize("example", [e for e in EXAMPLES if e.value == []], ids=str)
    def test_null_is_an_empty_list(self, sides: Sides, python_worker: Application, example: Example) -> None:
        sent = wire(example.task, (example.type, None))
        sides.go.send(sent, raw=True)

        assert self.values(sides, sent["UUID"]) == ([],)

    def test_several_results_and_none_are_read_by_go(self, sides: Sides, python_worker: Application) -> None:
        several, none = wire("two_strings"), wire("nothing")
        sides.go.send(several, none)

        assert self.values(sides, several["UUID"]) == ("foo", "bar")
        answer = sides.go.result(none["UUID"])
        assert (answer.state, answer.values) == ("SUCCESS", ())

    def test_an_exception_in_python_is_an_error_in_go(self, sides: Sides, python_worker: Application) -> None:
        sent = wire("fail", string(TEXT))
        sides.go.send(sent)

        answer = sides.go.result(sent["UUID"])
        assert (answer.state, answer.error) == ("FAILURE", TEXT)

    @pytest.mark.parametrize(
        "args",
        [
            [("int64", "text")],
            [("int64", 1.5)],
            [("int8", 300)],
            [("[]int64", True)],
            [("no such type", 1)],
            [],
            [("int64", 1), ("int64", 2)],
        ],
        ids=["text", "fraction", "overflow", "bool for a list", "unknown type", "too few", "too many"],
    )
    def test_arguments_that_do_not_fit_fail_the_task_and_nothing_else(
        self, sides: Sides, python_worker: Application, args: list[tuple[str, object]]
    ) -> None:
        bad, good = wire("echo_int64", *args), wire("noargs")
        sides.go.send(bad, good, raw=True)

        answer = sides.go.result(bad["UUID"])
        assert answer.state == "FAILURE"
        assert answer.error
        assert self.values(sides, good["UUID"]) == ("no arguments",)

    def test_a_delayed_task_does_not_run_before_its_eta(self, sides: Sides, python_worker: Application) -> None:
        eta = datetime.now(UTC) + timedelta(seconds=1.2)
        sent = wire("add", int64(1), int64(1), ETA=eta.isoformat())
        sides.go.send(sent)

        assert self.values(sides, sent["UUID"]) == (2,)
        (run,) = python_worker.runs(sent["UUID"])
        assert eta <= run.at <= eta + LATEST
        assert run.signature.eta == eta

    def test_a_failing_task_is_retried_by_python_until_it_succeeds(
        self, sides: Sides, python_worker: Application
    ) -> None:
        sent = wire("fail_times", int64(2), RetryCount=3)
        sides.go.send(sent)

        assert self.values(sides, sent["UUID"]) == (3,)
        runs = python_worker.runs(sent["UUID"])
        assert [(run.signature.retry_count, run.signature.retry_timeout) for run in runs] == [(3, 0), (2, 1), (1, 2)]
        assert runs[1].at - runs[0].at >= timedelta(seconds=1)
        assert runs[2].at - runs[1].at >= timedelta(seconds=2)

    def test_retries_that_run_out_are_a_failure(self, sides: Sides, python_worker: Application) -> None:
        sent = wire("fail", string("still no"), RetryCount=1)
        sides.go.send(sent)

        assert sides.go.result(sent["UUID"]).error == "still no"
        assert len(python_worker.runs(sent["UUID"])) == 2

    def test_retry_later_in_python_runs_the_task_again_without_using_a_retry(
        self, sides: Sides, python_worker: Application
    ) -> None:
        sent = wire("retry_later", string("later"), int64(300), RetryCount=1)
        sides.go.send(sent)

        assert self.values(sides, sent["UUID"]) == ("later",)
        first, second = python_worker.runs(sent["UUID"])
        assert second.at - first.at >= timedelta(milliseconds=300)
        assert second.signature.retry_count == 1

    def test_headers_arrive_and_survive_a_retry(self, sides: Sides, python_worker: Application) -> None:
        sent = wire("headers", Headers=sides.headers)
        retried = wire("fail_times", int64(1), Headers=sides.headers, RetryCount=1)
        sides.go.send(sent, retried)

        (text,) = self.values(sides, sent["UUID"])
        assert json.loads(text) == sides.headers
        assert self.values(sides, retried["UUID"]) == (2,)
        runs = python_worker.runs(retried["UUID"])
        assert [without_extensions(run.signature.headers) for run in runs] == [sides.headers] * 2

    def test_a_chain_of_go_runs_to_its_end(self, sides: Sides, python_worker: Application) -> None:
        first, middle, last = wire("add", int64(1), int64(1)), wire("add", int64(5)), wire("multiply", int64(4))
        sides.go.send({"chain": [first, middle, last]})

        assert self.values(sides, last["UUID"]) == (28,)
        assert self.values(sides, middle["UUID"]) == (7,)

    def test_a_callback_without_an_id_gets_one(self, sides: Sides, python_worker: Application) -> None:
        seen = f"{uuid4()}"
        callback = wire("concat", ("[]string", [seen]), UUID="")
        sides.go.send(wire("noargs", OnSuccess=[callback], Immutable=True))

        (run,) = python_worker.runs_where(lambda ran: ran.args == (Arg("[]string", [seen]),), 1)
        assert run.signature.uuid
        assert self.values(sides, run.signature.uuid) == (seen,)

    def test_several_on_success_all_run(self, sides: Sides, python_worker: Application) -> None:
        callbacks = [wire("add", int64(10)), wire("multiply", int64(10))]
        sides.go.send(wire("add", int64(1), int64(1), OnSuccess=callbacks))

        assert [self.values(sides, callback["UUID"]) for callback in callbacks] == [(12,), (20,)]

    def test_an_immutable_task_keeps_its_results_to_itself(self, sides: Sides, python_worker: Application) -> None:
        last = wire("multiply", int64(4))
        middle = wire("add", int64(5), OnSuccess=[last], Immutable=True)
        sides.go.send(wire("add", int64(1), int64(1), OnSuccess=[middle]))

        assert self.values(sides, last["UUID"]) == (4,)
        assert self.values(sides, middle["UUID"]) == (7,)

    def test_on_error_gets_the_error_first(self, sides: Sides, python_worker: Application) -> None:
        callback = wire("on_error", string("own"), string("arguments"))
        sides.go.send(wire("fail", string("boom"), OnError=[callback]))

        assert self.values(sides, callback["UUID"]) == ("boom|own|arguments",)

    def test_the_members_of_a_group_all_run(self, sides: Sides, python_worker: Application) -> None:
        members = [wire("add", int64(n), int64(n)) for n in range(20)]
        (answer,) = sides.go.send({"group": members})

        assert [self.values(sides, uuid) for uuid in answer["uuids"]] == [(n + n,) for n in range(20)]
        (run,) = python_worker.runs(answer["uuids"][0])
        assert (run.signature.group_uuid, run.signature.group_task_count) == (answer["group"], 20)

    def test_many_all_run_once(self, fresh_sides: Sides) -> None:
        many = [wire("add", int64(n), int64(1)) for n in range(200)]
        fresh_sides.go.send(*many)
        twice = fresh_sides.sent_twice(len(many))

        with fresh_sides.python.worker() as python_worker:
            results = [fresh_sides.python.server.result(sent["UUID"]).get(timeout=WAIT) for sent in many]
        assert results == [n + 1 for n in range(200)]
        self.check_runs({sent["UUID"]: len(python_worker.runs(sent["UUID"])) for sent in many}, twice)


class PythonSendsSomeAndGoRuns(PythonSendsAndGoRuns):
    """With a few of the types."""

    @some_types
    def test_a_value_of_every_type_goes_there_and_back(
        self, sides: Sides, go_worker: GoWorker, example: Example
    ) -> None:
        super().test_a_value_of_every_type_goes_there_and_back(sides, go_worker, example)


class GoSendsSomeAndPythonRuns(GoSendsAndPythonRuns):
    """With a few of the types."""

    @some_types
    def test_a_value_of_every_type_goes_there_and_back(
        self, sides: Sides, python_worker: Application, example: Example
    ) -> None:
        super().test_a_value_of_every_type_goes_there_and_back(sides, python_worker, example)


class EachReadsTheOther(ReadsThroughGo):
    """Records and messages that one side wrote, read by the other while nothing, or the other's worker, runs."""

    go_keeps_origins = True
    """Whether Go keeps a task's name and creation time when it writes its record anew (protocol §2.2)."""
    keeps_ttl = False
    """Whether a record says when it expires (protocol §2.2)."""

    def test_go_reads_pending_that_python_wrote(self, fresh_sides: Sides) -> None:
        before = datetime.now(UTC)
        sent = fresh_sides.python.server.send_task(task("add", 1, 1))

        state = fresh_sides.go.state(sent.uuid)
        assert (state["TaskUUID"], state["TaskName"], state["State"]) == (sent.uuid, "add", "PENDING")
        assert (state["Results"], state["Error"]) == (None, "")
        assert bool(state["TTL"]) == self.keeps_ttl
        assert before - PRECISION <= datetime.fromisoformat(state["CreatedAt"]) <= datetime.now(UTC)

    def test_python_reads_pending_that_go_wrote(self, fresh_sides: Sides) -> None:
        before = datetime.now(UTC)
        sent = wire("add", int64(1), int64(1))
        fresh_sides.go.send(sent)

        state = fresh_sides.python.server.result(sent["UUID"]).task_state()
        assert (state.task_uuid, state.task_name, state.state) == (sent["UUID"], "add", State.PENDING)
        assert (state.results, state.error) == (None, "")
        assert before - PRECISION <= state.created_at <= datetime.now(UTC)

    def test_go_reads_started_and_success_that_python_wrote(self, fresh_sides: Sides) -> None:
        sent = wire("hold")
        fresh_sides.go.send(sent)
        created = fresh_sides.go.state(sent["UUID"])["CreatedAt"]

        with fresh_sides.python.worker() as worker:
            worker.runs(sent["UUID"], 1)
            eventually(lambda: fresh_sides.go.state(sent["UUID"])["State"] == "STARTED")
            worker.answer("go on")
            assert self.values(fresh_sides, sent["UUID"]) == ("go on",)

        state = fresh_sides.go.state(sent["UUID"])
        assert (state["TaskName"], state["State"], state["Error"]) == ("hold", "SUCCESS", "")
        assert state["Results"] == [{"Type": "string", "Value": "go on"}]
        assert datetime.fromisoformat(state["CreatedAt"]) == datetime.fromisoformat(created)

    def test_python_reads_started_and_success_that_go_wrote(self, fresh_sides: Sides) -> None:
        sent = fresh_sides.python.server.send_task(task("hold"))
        created = sent.task_state().created_at

        with fresh_sides.go.worker() as worker:
            worker.wait_for("run", sent.uuid)
            assert sent.task_state().state is State.STARTED
            assert sent.touch() is None
            worker.answer("go on")
            assert sent.get(timeout=WAIT) == "go on"

        state = sent.task_state()
        assert (state.state, state.error) == (State.SUCCESS, "")
        assert (state.task_name, state.created_at) == (("hold", created) if self.go_keeps_origins else ("", ZERO_TIME))

    def test_go_reads_retry_that_python_wrote_and_the_delayed_copy(self, fresh_sides: Sides) -> None:
        sent = wire("retry_later", string("later"), int64(3_600_000), RetryCount=2, Headers=fresh_sides.headers)
        fresh_sides.go.send(sent)

        with fresh_sides.python.worker() as worker:
            worker.runs(sent["UUID"], 1)
            (copy,) = eventually(
                lambda: [each for each in fresh_sides.delayed_by_python() if each["UUID"] == sent["UUID"]]
            )

        assert fresh_sides.go.state(sent["UUID"])["State"] == "RETRY"
        assert datetime.fromisoformat(copy["ETA"]) > datetime.now(UTC) + timedelta(minutes=59)
        assert copy["Args"] == [
            {"Name": "", "Type": "string", "Value": "later"},
            {"Name": "", "Type": "int64", "Value": 3_600_000},
        ]
        assert (without_extensions(copy["Headers"]), copy["RetryCount"]) == (fresh_sides.headers, 2)

    def test_python_reads_the_delayed_copy_that_go_wrote(self, fresh_sides: Sides) -> None:
        sent = fresh_sides.python.server.send_task(
            task("retry_later", "later", 3_600_000, retry_count=2, headers=fresh_sides.headers)
        )

        with fresh_sides.go.worker() as worker:
            worker.wait_for("done", sent.uuid)

        (copy,) = [delayed for delayed in fresh_sides.python.server.delayed_tasks() if delayed.uuid == sent.uuid]
        assert copy.eta is not None
        assert copy.eta > datetime.now(UTC) + timedelta(minutes=59)
        assert copy.args == (Arg("string", "later"), Arg("int64", 3_600_000))
        assert (copy.headers, copy.retry_count) == (fresh_sides.headers, 2)

    def test_go_reads_failure_that_python_wrote(self, fresh_sides: Sides) -> None:
        sent = wire("fail", string("boom"))
        fresh_sides.go.send(sent)

        with fresh_sides.python.worker():
            answer = fresh_sides.go.result(sent["UUID"])

        assert (answer.state, answer.error) == ("FAILURE", "boom")
        state = fresh_sides.go.state(sent["UUID"])
        assert (state["TaskName"], state["Results"], state["Error"]) == ("fail", None, "boom")

    def test_python_reads_failure_that_go_wrote(self, fresh_sides: Sides) -> None:
        sent = fresh_sides.python.server.send_task(task("fail", "boom"))

        with fresh_sides.go.worker(), pytest.raises(TaskFailed, match="boom"):
            sent.get(timeout=WAIT)

        state = sent.task_state()
        assert state.task_name == ("fail" if self.go_keeps_origins else "")
        assert (state.state, state.results, state.error) == (State.FAILURE, None, "boom")

    def test_each_lists_what_the_other_sent(self, fresh_sides: Sides) -> None:
        from_go = wire("echo_strings", ("[]string", ["a", TEXT]), Headers=fresh_sides.headers, RetryCount=4)
        fresh_sides.go.send(from_go)
        from_python = fresh_sides.python.server.send_task(
            task("echo_float64", 2.0, headers=fresh_sides.headers, immutable=True)
        )

        by_python = {signature.uuid: signature for signature in fresh_sides.python.server.pending_tasks()}
        by_go = {signature["UUID"]: signature for signature in fresh_sides.go.pending()}
        read = by_python[from_go["UUID"]]
        assert read.args == (Arg("[]string", ["a", TEXT]),)
        assert (read.name, read.headers, read.retry_count) == ("echo_strings", fresh_sides.headers, 4)
        read_by_go = by_go[from_python.uuid]
        assert read_by_go["Args"] == [{"Name": "", "Type": "float64", "Value": 2.0}]
        assert (read_by_go["Name"], read_by_go["Headers"], read_by_go["Immutable"]) == (
            "echo_float64",
            fresh_sides.headers,
            True,
        )


class BothOnOneQueue(ReadsThroughGo):
    """Workers of both sides on the same queue."""

    def test_every_task_of_either_sender_runs_exactly_once(self, fresh_sides: Sides) -> None:
        from_go = [wire("add", int64(n), int64(1)) for n in range(200)]
        fresh_sides.go.send(*from_go)
        twice = fresh_sides.sent_twice(len(from_go))
        from_python = fresh_sides.python.server.send_tasks([task("add", n, 1) for n in range(200)])
        with fresh_sides.go.worker() as go_worker, fresh_sides.python.worker() as python_worker:
            by_go, by_python = [sent["UUID"] for sent in from_go], [result.uuid for result in from_python]
            results = [fresh_sides.python.server.result(uuid).get(timeout=WAIT) for uuid in (*by_go, *by_python)]

        assert results == [n + 1 for n in range(200)] * 2
        for uuids, sent_twice in ((by_go, twice), (by_python, 0)):
            runs = {uuid: go_worker.count_runs(uuid) + len(python_worker.runs(uuid)) for uuid in uuids}
            self.check_runs(runs, sent_twice)

    def test_tasks_known_to_one_side_alone_all_get_there(self, fresh_sides: Sides) -> None:
        names = ["runs_in_go", "runs_in_python", "noargs"] * 10
        with fresh_sides.go.worker(), fresh_sides.python.worker():
            sent = fresh_sides.python.server.send_tasks([task(name) for name in names])
            results = [result.get(timeout=2 * WAIT) for result in sent]

        assert results == ["go", "python", "no arguments"] * 10

    def test_callbacks_cross_from_one_side_to_the_other(self, fresh_sides: Sides) -> None:
        in_python = wire("runs_in_python")
        in_go = wire("runs_in_go", OnSuccess=[in_python], Immutable=True)
        with fresh_sides.go.worker(), fresh_sides.python.worker():
            fresh_sides.go.send(wire("runs_in_python", OnSuccess=[in_go], Immutable=True))

            assert self.values(fresh_sides, in_python["UUID"]) == ("python",)
            assert self.values(fresh_sides, in_go["UUID"]) == ("go",)

    def test_a_retry_that_python_began_is_ended_by_go(self, fresh_sides: Sides) -> None:
        callback = wire("on_error", string("own"))
        sent = wire("fail", string("boom"), RetryCount=1, RetryTimeout=1, OnError=[callback])
        fresh_sides.go.send(sent)

        with fresh_sides.python.worker_of_one_run() as python_worker:
            python_worker.runs(sent["UUID"], 1)
        with fresh_sides.go.worker() as go_worker:
            (run,) = go_worker.wait_for("run", sent["UUID"])
            assert self.values(fresh_sides, callback["UUID"]) == ("boom|own",)

        assert _retries_left(run.signature) == (0, 2)
        assert len(python_worker.runs(sent["UUID"])) == 1

    def test_a_retry_that_go_began_is_ended_by_python(self, fresh_sides: Sides) -> None:
        rounds = count(1)
        while True:
            callback = task("on_error", "own")
            sent = fresh_sides.python.server.send_task(
                task("fail", "boom", retry_count=1, retry_timeout=1, on_error=[callback])
            )
            with fresh_sides.go.worker() as go_worker:
                go_worker.wait_for("done", sent.uuid)
            if go_worker.count_runs(sent.uuid) == 1 or next(rounds) == ROUNDS:
                break
        with fresh_sides.python.worker() as python_worker:
            (run,) = python_worker.runs(sent.uuid, 1)
            assert result_of(fresh_sides, callback).get(timeout=WAIT) == "boom|own"

        assert (run.signature.retry_count, run.signature.retry_timeout) == (0, 2)
        assert go_worker.count_runs(sent.uuid) == 1


def _retries_left(signature: Any) -> tuple[int, int]:
    return signature["RetryCount"], signature["RetryTimeout"]
