"""Queues of RabbitMQ that Go and Python share: who declares them, who gets copies, what is urgent, and what has to wait."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

import pytest

from machinery import chord
from tests.interop.amqp_sides import AmqpSides, both_sides, fresh_names
from tests.interop.application import Application
from tests.interop.eventually import eventually
from tests.interop.gomachinery import GoWorker, Wire, wire
from tests.interop.matrix import LATEST, WAIT, int64, result_of, string, task

pytestmark = pytest.mark.interop

RANDOM = Random(1)  # noqa: S311 - spans, the same in each run
MANY = 30

both_namings = pytest.mark.parametrize("has_orphan", [False, True], ids=["one name", "a key of its own"])
with_an_orphan = pytest.mark.parametrize("has_orphan", [True], ids=["a key of its own"])
with_priorities = pytest.mark.parametrize("declare_args", [{"x-max-priority": 10}], ids=["priorities"])


@pytest.fixture
def has_orphan() -> bool:
    """Whether the default queue's routing key is not called like the queue: then Go senders fill a queue that is."""
    return False


@pytest.fixture
def declare_args() -> dict[str, Any]:
    """How both sides declare queues."""
    return {}


@pytest.fixture
def undeclared_sides(
    go_program: Path, amqp_url: str, redis_url: str, has_orphan: bool, declare_args: dict[str, Any]
) -> Iterator[AmqpSides]:
    """Both sides, of which none has been here."""
    names = fresh_names(has_orphan=has_orphan, **declare_args)
    with both_sides(go_program, amqp_url, names, redis_url) as sides:
        yield sides


@pytest.fixture
def sides(undeclared_sides: AmqpSides) -> AmqpSides:
    """Both sides on a queue that has had a worker."""
    undeclared_sides.declare()
    return undeclared_sides


def values_of(sides: AmqpSides, uuids: list[str]) -> list[Any]:
    return [sides.python.server.result(uuid).get(timeout=WAIT) for uuid in uuids]


def run_counts(python: Application) -> Counter[str]:
    """How often each task ran in Python, of an application whose workers have ended."""
    return Counter(run.signature.uuid for run in python.runs_where(lambda _: True))


def once(uuids: list[str]) -> dict[str, int]:
    return dict.fromkeys(uuids, 1)


# -- who declares -----------------------------------------------------------------------------------------------------------

STARTERS = ["a Python worker", "a Go worker", "a Python sender", "a Go sender"]


@both_namings
@pytest.mark.parametrize("declare_args", [{}, {"x-max-priority": 10}], ids=["plain", "priorities"])
@pytest.mark.parametrize("first", STARTERS)
def test_whoever_declares_first_the_others_agree(undeclared_sides: AmqpSides, first: str) -> None:
    sides, sent, heard_by_nobody = undeclared_sides, list[str](), list[str]()
    go_workers: list[GoWorker] = []
    with ExitStack() as workers:
        for starter in sorted(STARTERS, key=lambda each: each != first):
            if starter == "a Python worker":
                workers.enter_context(sides.python.worker())
                eventually(lambda: sides.has_queue(sides.names.queue))
            elif starter == "a Go worker":
                go_workers.append(workers.enter_context(sides.go.worker()))
            elif starter == "a Python sender":
                sent += [each.uuid for each in sides.python.server.send_tasks([task("noargs") for _ in range(5)])]
            else:
                is_lost = sides.names.has_orphan and not sides.has_queue(sides.names.queue)
                uuids = [answer["uuid"] for answer in sides.go.send(*(wire("noargs") for _ in range(5)))]
                (heard_by_nobody if is_lost else sent).extend(uuids)
        sent += [answer["uuid"] for answer in sides.go.send(*(wire("noargs") for _ in range(5)))]
        assert values_of(sides, sent) == ["no arguments"] * len(sent)

    assert go_workers[0].run_counts() + run_counts(sides.python) == once(sent)
    assert len(heard_by_nobody) == (5 if first == "a Go sender" and sides.names.has_orphan else 0)


# -- who gets what ------------------------------------------------------------------------------------------------------------


@with_an_orphan
def test_what_senders_leave_in_the_queue_that_is_called_like_the_key_never_runs(sides: AmqpSides) -> None:
    with sides.go.worker() as go_worker, sides.python.worker() as python_worker:
        from_go = [answer["uuid"] for answer in sides.go.send(*(wire("add", int64(n)) for n in range(MANY)))]
        from_python = [each.uuid for each in sides.python.server.send_tasks([task("add", n) for n in range(MANY)])]
        assert values_of(sides, from_go + from_python) == [*range(MANY), *range(MANY)]

    assert go_worker.run_counts() + run_counts(python_worker) == once(from_go + from_python)
    assert sides.depth(sides.names.queue) == 0
    assert sides.depth(sides.names.binding_key) == 2 * MANY


@both_namings
@pytest.mark.parametrize("named", ["queue", "binding_key"])
def test_a_task_for_the_default_queue_by_whichever_of_its_names_runs_once(sides: AmqpSides, named: str) -> None:
    name = getattr(sides.names, named)
    with sides.go.worker() as go_worker, sides.python.worker() as python_worker:
        from_go = [answer["uuid"] for answer in sides.go.send(*(wire("noargs", RoutingKey=name) for _ in range(5)))]
        from_python = sides.python.server.send_tasks([task("noargs", routing_key=name) for _ in range(5)])
        uuids = from_go + [each.uuid for each in from_python]
        values_of(sides, uuids)

    assert go_worker.run_counts() + run_counts(python_worker) == once(uuids)


@both_namings
def test_retries_do_not_multiply(sides: AmqpSides) -> None:
    members = [wire("fail", string("boom"), RetryCount=1) for _ in range(5)]
    with sides.go.worker() as go_worker, sides.python.worker() as python_worker:
        uuids = [answer["uuid"] for answer in sides.go.send(*members)]
        uuids += [sides.python.server.send_task(task("fail", "boom", retry_count=1)).uuid for _ in range(5)]
        for uuid in uuids:
            assert sides.go.result(uuid).error == "boom"

    assert go_worker.run_counts() + run_counts(python_worker) == dict.fromkeys(uuids, 2)


@both_namings
def test_a_python_worker_of_another_queue_gets_no_copies_of_the_default_queues_tasks(sides: AmqpSides) -> None:
    other = f"{sides.names.queue}_other"
    with (
        sides.another_python() as other_python,
        other_python.worker(queues=[other]),
        sides.python.worker() as python_worker,
    ):
        eventually(lambda: sides.has_queue(other))
        by_default = [answer["uuid"] for answer in sides.go.send(*(wire("noargs") for _ in range(MANY)))]
        by_default += [each.uuid for each in sides.python.server.send_tasks([task("noargs") for _ in range(MANY)])]
        retried = wire("fail", string("boom"), RetryCount=1, RoutingKey=other)
        sides.go.send(retried)
        addressed = [answer["uuid"] for answer in sides.go.send(*(wire("noargs", RoutingKey=other) for _ in range(5)))]
        addressed.append(sides.python.server.send_task(task("noargs", routing_key=other)).uuid)
        values_of(sides, by_default + addressed)
        assert sides.go.result(retried["UUID"]).error == "boom"

    assert run_counts(python_worker) == once(by_default)
    assert run_counts(other_python) == {**once(addressed), retried["UUID"]: 2}
    sides.raw.queue_delete(other)


@both_namings
def test_a_go_worker_of_another_queue_gets_what_python_addresses_to_it_and_nothing_else(sides: AmqpSides) -> None:
    other = f"{sides.names.queue}_other"
    with sides.go_alone_on(other).worker() as go_worker, sides.python.worker() as python_worker:
        server = sides.python.server
        addressed = [each.uuid for each in server.send_tasks([task("noargs", routing_key=other) for _ in range(5)])]
        retried = server.send_task(task("fail_times", 1, retry_count=1, routing_key=other)).uuid
        by_default = [each.uuid for each in server.send_tasks([task("noargs") for _ in range(5)])]
        values_of(sides, [*addressed, retried, *by_default])

    assert go_worker.run_counts() == {**once(addressed), retried: 2}
    assert run_counts(python_worker) == once(by_default)
    sides.raw.queue_delete(other)


CHORDS = 15
"""Made by each side."""


@pytest.mark.slow
@both_namings
def test_every_chord_of_either_side_gathers_all_and_calls_back_once(sides: AmqpSides) -> None:
    sizes = [RANDOM.randint(5, 40) for _ in range(2 * CHORDS)]
    with sides.go.worker() as one, sides.go.worker() as other, sides.python.worker():
        callbacks = [
            sides.python.server.send_chord(
                chord([task("join", f"{at}") for at in range(size)], task("join", "own"))
            ).uuid
            for size in sizes[:CHORDS]
        ]
        callbacks += [answer["callback"] for answer in sides.go.send(*map(chord_of_go, sizes[CHORDS:]))]
        results = values_of(sides, callbacks)

    assert results == ["|".join(["own", *map(str, range(size))]) for size in sizes]
    runs = one.run_counts() + other.run_counts() + run_counts(sides.python)
    assert len(runs) == len(callbacks) + sum(sizes)
    assert set(runs.values()) == {1}


def chord_of_go(size: int) -> Wire:
    members = [wire("join", string(f"{at}")) for at in range(size)]
    return {"chord": {"group": members, "callback": wire("join", string("own"))}}


# -- what is urgent -----------------------------------------------------------------------------------------------------------

URGENT_FIRST = [9, 7, 5, 3, 1, 0]


def send_with_priorities(sides: AmqpSides) -> None:
    sides.go.send(*(wire("noargs", Priority=priority) for priority in (1, 9, 5)))
    sides.python.server.send_tasks([task("noargs", priority=priority) for priority in (3, 0, 7)])


@both_namings
@with_priorities
def test_a_python_worker_runs_what_is_urgent_first_whoever_sent_it(sides: AmqpSides) -> None:
    send_with_priorities(sides)
    with sides.python.worker(concurrency=1) as worker:
        runs = worker.runs_where(lambda _: True, len(URGENT_FIRST))
    assert [run.signature.priority for run in runs] == URGENT_FIRST


@both_namings
@with_priorities
def test_a_go_worker_runs_what_is_urgent_first_whoever_sent_it(sides: AmqpSides) -> None:
    send_with_priorities(sides)
    with sides.go.worker(concurrency=1) as worker:
        runs = worker.wait_for("run", count=len(URGENT_FIRST))
    assert [run.signature["Priority"] for run in runs] == URGENT_FIRST


@with_priorities
def test_what_python_retries_is_as_urgent_as_before(sides: AmqpSides) -> None:
    sent = sides.python.server.send_task(task("fail", "boom", priority=9, retry_count=1))
    with sides.python.worker_of_one_run() as worker:
        worker.runs(sent.uuid, 1)
    calm = sides.python.server.send_tasks([task("noargs", priority=1) for _ in range(3)])
    eventually(lambda: sides.depth(sides.names.queue) == 1 + len(calm))
    with sides.go.worker(concurrency=1) as go_worker:
        runs = go_worker.wait_for("run", count=1 + len(calm))
    assert [run.uuid for run in runs] == [sent.uuid, *(each.uuid for each in calm)]


# -- what has to wait ---------------------------------------------------------------------------------------------------------


def etas(count: int, soonest: float, latest: float) -> list[datetime]:
    """Instants at random; what is sent takes a while to be."""
    now = datetime.now(UTC)
    return [now + timedelta(seconds=RANDOM.uniform(soonest, latest)) for _ in range(count)]


def is_in_time(at: datetime, eta: datetime) -> bool:
    return eta <= at <= eta + LATEST


@both_namings
def test_what_go_delays_runs_in_python_once_and_not_early(sides: AmqpSides) -> None:
    # Go's queue for one that is due soon may have expired, on a busy machine, before Go puts it there: then it is lost.
    assert any(all_came(sides) for _ in range(3))


def all_came(sides: AmqpSides) -> bool:
    """Let Go delay some. None runs twice in Python, or early; whether all ran."""
    due = etas(MANY, 2, 3)
    with sides.python.worker() as worker:
        sent = [wire("noargs", ETA=eta.isoformat()) for eta in due]
        sides.go.send(*sent)
        sides.python.server.backend.wait([each["UUID"] for each in sent], 12)

    runs = [worker.runs(each["UUID"]) for each in sent]
    assert [each for each in runs if len(each) > 1] == []
    assert [run.at for each, eta in zip(runs, due, strict=True) for run in each if not is_in_time(run.at, eta)] == []
    return all(runs)


@both_namings
def test_what_go_delays_in_one_queue_runs_in_python_once_and_not_early(sides: AmqpSides) -> None:
    """There what is due later holds up what follows it; it comes for all that."""
    delayed_queue = f"interop_delayed_{uuid4()}"
    due = etas(MANY, 2, 3)
    with sides.python.worker() as worker:
        sent = [wire("noargs", ETA=eta.isoformat()) for eta in due]
        sides.go_with("-amqp-delayed-queue", delayed_queue).send(*sent)
        values_of(sides, [each["UUID"] for each in sent])

    runs = [worker.runs(each["UUID"]) for each in sent]
    assert [len(each) for each in runs] == [1] * MANY
    assert [run.at for (run,), eta in zip(runs, due, strict=True) if not is_in_time(run.at, eta)] == []
    sides.raw.queue_delete(delayed_queue)


@both_namings
def test_what_python_delays_runs_in_go_once_and_not_early(sides: AmqpSides) -> None:
    due = etas(MANY, 0.2, 2)
    with sides.go.worker() as worker:
        sent = sides.python.server.send_tasks([task("noargs", eta=eta) for eta in due])
        values_of(sides, [each.uuid for each in sent])

    runs = [worker.runs(each.uuid) for each in sent]
    assert [len(each) for each in runs] == [1] * MANY
    assert [run.at for (run,), eta in zip(runs, due, strict=True) if not is_in_time(run.at, eta)] == []


@both_namings
@pytest.mark.parametrize(
    "signature",
    [task("fail", "boom", retry_count=1), task("retry_later", "later", 1234)],
    ids=["retried", "retried later"],
)
def test_what_python_retries_runs_in_go_not_early(sides: AmqpSides, signature: Any) -> None:
    sent = sides.python.server.send_task(signature.with_(uuid=f"task_{uuid4()}"))
    with sides.python.worker_of_one_run() as python_worker:
        (before,) = python_worker.runs(sent.uuid, 1)
    with sides.go.worker() as go_worker:
        go_worker.wait_for("done", sent.uuid)
        (run,) = go_worker.runs(sent.uuid)

    eta = datetime.fromisoformat(run.signature["ETA"])
    assert before.at + timedelta(seconds=1) <= eta
    assert is_in_time(run.at, eta)


# -- headers ------------------------------------------------------------------------------------------------------------------

NUMBERS = {"number": 7, "long": 2**70, "fraction": 1.5, "none": None, "nested": {"list": [1, True]}, "text": "text"}
AS_TEXT = {
    "number": "7",
    "long": f"{2**70}",
    "fraction": "1.5",
    "none": "null",
    "nested": '{"list": [1, true]}',
    "text": "text",
}


def test_numbers_in_pythons_headers_survive_a_retry_in_go_as_text(sides: AmqpSides) -> None:
    with sides.go.worker() as worker:
        sent = sides.python.server.send_task(task("fail_times", 1, retry_count=1, headers=NUMBERS))
        assert sent.get(timeout=WAIT) == 2
    assert [run.signature["Headers"] for run in worker.runs(sent.uuid, 2)] == [AS_TEXT, AS_TEXT]


def test_so_do_those_of_what_go_sends_for_python(sides: AmqpSides) -> None:
    on_success, on_error = task("noargs", immutable=True, headers=NUMBERS), task("on_error", headers=NUMBERS)
    callback = task("join", headers=NUMBERS, on_success=[on_success], immutable=True)
    failing = task("fail", "boom", on_error=[on_error])
    with sides.go.worker() as worker:
        sent = sides.python.server.send_chord(chord([task("noargs"), task("noargs")], callback))
        sides.python.server.send_task(failing)
        sent.get(timeout=WAIT)
        assert result_of(sides, on_success).get(timeout=WAIT) == "no arguments"
        assert result_of(sides, on_error).get(timeout=WAIT) == "boom"
    assert [headers_of(worker, uuid) for uuid in (sent.uuid, on_success.uuid, on_error.uuid)] == [AS_TEXT] * 3


def headers_of(worker: GoWorker, uuid: str) -> Any:
    (run,) = worker.runs(uuid)
    return run.signature["Headers"]


def test_a_number_in_gos_headers_arrives_and_after_a_retry_in_python_go_can_retry_too(sides: AmqpSides) -> None:
    sent = wire("fail", string("boom"), RetryCount=2, Headers={"number": 7})
    with sides.python.worker_of_one_run() as python_worker:
        sides.go.send(sent)
        (run,) = python_worker.runs(sent["UUID"], 1)
    with sides.go.worker() as go_worker:
        runs = go_worker.wait_for("done", sent["UUID"], 2) and go_worker.runs(sent["UUID"], 2)

    assert run.signature.headers == {"number": 7}
    assert [each.signature["Headers"]["number"] for each in runs] == ["7", "7"]
