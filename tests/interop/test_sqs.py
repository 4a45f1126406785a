"""Go Machinery and this project on one SQS, with results in Redis."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.application import Application
from tests.interop.gomachinery import wire
from tests.interop.matrix import WAIT, GoSendsSomeAndPythonRuns, int64, string, task
from tests.interop.matrix_workflows import GoSendsWorkflowsAndPythonRuns, PythonSendsWorkflowsAndGoRuns
from tests.interop.sqs_matrix import (
    BothOnOneQueueOnSqs,
    EachReadsTheGroupsOfTheOtherOnSqs,
    EachReadsTheOtherOnSqs,
    PythonSendsAndGoRunsOnSqs,
    WorkflowsOfBothOnOneQueueOnSqs,
)
from tests.interop.sqs_sides import SqsSides, both_sides

pytestmark = pytest.mark.interop


@pytest.fixture(scope="class")
def sides(go_program: Path, sqs_url: str, redis_url: str) -> Iterator[SqsSides]:
    with both_sides(go_program, sqs_url, redis_url) as sides:
        yield sides


@pytest.fixture
def fresh_sides(go_program: Path, sqs_url: str, redis_url: str) -> Iterator[SqsSides]:
    with both_sides(go_program, sqs_url, redis_url) as sides:
        yield sides


class TestPythonSendsAndGoRuns(PythonSendsAndGoRunsOnSqs):
    pass


class TestGoSendsAndPythonRuns(GoSendsSomeAndPythonRuns):
    pass


class TestEachReadsTheOther(EachReadsTheOtherOnSqs):
    pass


class TestBothOnOneQueue(BothOnOneQueueOnSqs):
    pass


class TestPythonSendsWorkflowsAndGoRuns(PythonSendsWorkflowsAndGoRuns):
    pass


class TestGoSendsWorkflowsAndPythonRuns(GoSendsWorkflowsAndPythonRuns):
    pass


class TestEachReadsTheGroupsOfTheOther(EachReadsTheGroupsOfTheOtherOnSqs):
    pass


class TestWorkflowsOfBothOnOneQueue(WorkflowsOfBothOnOneQueueOnSqs):
    pass


def test_go_runs_what_go_sent(sides: SqsSides) -> None:
    sent = wire("add", int64(40), int64(2))
    with sides.go.worker():
        sides.go.send(sent)
        assert sides.go.result(sent["UUID"]).values == (42,)
    assert sides.queues.counts(sides.go.queue) == (0, 0, 0)


def test_old_go_which_speaks_amazons_older_protocol_finds_the_same_queue(
    old_go_program: Path, sqs_url: str, redis_url: str
) -> None:
    with both_sides(old_go_program, sqs_url, redis_url) as sides:
        from_go = wire("add", int64(40), int64(2))
        sides.go.send(from_go)
        with sides.python.worker():
            assert sides.go.result(from_go["UUID"]).values == (42,)
        with sides.go.worker():
            assert sides.python.server.send_task(task("add", 1, 1)).get(timeout=WAIT) == 2


def test_the_receipt_that_go_left_in_a_retry_means_nothing_to_python(fresh_sides: SqsSides) -> None:
    sent = wire("fail_times", int64(1), RetryCount=1, SQSReceiptHandle="stale")
    fresh_sides.go.send(sent)
    with fresh_sides.python.worker() as worker:
        assert fresh_sides.python.server.result(sent["UUID"]).get(timeout=WAIT) == 2
    assert isinstance(worker, Application)
    assert fresh_sides.queues.counts(fresh_sides.go.queue) == (0, 0, 0)


# -- FIFO queues ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def fifo_sides(go_program: Path, sqs_url: str, redis_url: str) -> Iterator[SqsSides]:
    with both_sides(go_program, sqs_url, redis_url, fifo=True) as sides:
        yield sides


def test_what_go_puts_on_a_fifo_queue_runs_in_its_order_and_a_retry_is_not_dropped(fifo_sides: SqsSides) -> None:
    """Go's own worker would send the retry under the id that SQS has seen, and SQS would drop it (protocol §5.1)."""
    sent = [wire("join", string(f"{at}"), BrokerMessageGroupId="one") for at in range(8)]
    retried = wire("fail_times", int64(1), BrokerMessageGroupId="another", RetryCount=1)
    fifo_sides.go.send(*sent, retried)
    with fifo_sides.python.worker() as worker:
        assert [fifo_sides.python.server.result(each["UUID"]).get(timeout=WAIT) for each in sent] == list("01234567")
        assert fifo_sides.python.server.result(retried["UUID"]).get(timeout=WAIT) == 2
        runs = worker.runs_where(lambda signature: signature.name == "join", len(sent))
    assert [run.signature.uuid for run in runs] == [each["UUID"] for each in sent]


def test_go_runs_what_python_puts_on_a_fifo_queue_with_or_without_a_group(fifo_sides: SqsSides) -> None:
    tasks = [task("add", 1, 1, broker_message_group_id="one"), task("add", 1, 2)]
    with fifo_sides.go.worker() as worker:
        sent = fifo_sides.python.server.send_tasks(tasks)
        assert [result.get(timeout=WAIT) for result in sent] == [2, 3]
        assert worker.runs(tasks[0].uuid)[0].signature["BrokerMessageGroupId"] == "one"
