"""Messages that come more than once: what is run again, what is not, and what counts as a crash."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

import pytest

from machinery import (
    Config,
    RetryTaskLater,
    Server,
    Signature,
    State,
    TaskContext,
    TaskFailed,
    TaskResult,
    TaskState,
    Worker,
    chain,
)
from machinery.abc import Delivery, Message
from machinery.errors import BrokerUnavailable
from machinery.wire import encode_signature
from tests.core.gate import Gate
from tests.core.observed import Journal, ObservedBackend, ObservedBroker
from tests.interop.eventually import eventually

QUEUE = "machinery_tasks"


def test_a_redelivered_task_that_never_started_runs(server: Server, broker: ObservedBroker) -> None:
    @server.task
    def good() -> int:
        return 1

    result = good.send()
    assert broker.let_a_worker_die(QUEUE) == 1
    with server.new_worker("test", 1):
        assert result.get(timeout=10) == 1
    assert result.task_state().crashes == 0


def test_a_redelivered_task_that_has_ended_is_not_run_again_but_what_is_missing_is_sent(
    server: Server, broker: ObservedBroker, backend: ObservedBackend
) -> None:
    runs: list[str] = []

    @server.task
    def first() -> int:
        runs.append("first")
        return 1

    @server.task
    def second(number: int) -> int:
        runs.append("second")
        return number + 1

    # Given a worker that saved the result and died before it sent what follows
    result = server.send_chain(chain(first.signature(), Signature("second")))
    head = result.members[0]
    backend.save([TaskState(head.uuid, "first", State.SUCCESS, (TaskResult("int64", 41),))])
    broker.let_a_worker_die(QUEUE)

    with server.new_worker("test", 1):
        assert result.get(timeout=10) == 42

    assert runs == ["second"]
    assert server.pending_tasks() == []


def test_what_followed_already_is_not_sent_a_second_time(
    server: Server, broker: ObservedBroker, backend: ObservedBackend, journal: Journal
) -> None:
    @server.task
    def first() -> None:
        pass

    @server.task
    def second() -> None:
        pass

    # Given a worker that saved the result, sent what follows, which ran, and died before it acknowledged
    sent = first.options(on_success=Signature("second", uuid="task_second")).send()
    backend.save(
        [TaskState(sent.uuid, "first", State.SUCCESS, ()), TaskState("task_second", "second", State.SUCCESS, ())]
    )
    broker.let_a_worker_die(QUEUE)
    with server.new_worker("test", 1):
        eventually(lambda: journal.of("ack"))

    assert journal.of("ack") == ["ack first"]
    assert journal.of("publish") == ["publish first"]


def test_a_failed_task_delivered_again_sends_its_on_error(
    server: Server, broker: ObservedBroker, backend: ObservedBackend
) -> None:
    noted: list[str] = []

    @server.task
    def bad() -> None:
        raise AssertionError("it is not to run again")

    @server.task
    def note(error: str) -> None:
        noted.append(error)

    result = bad.options(on_error=Signature("note")).send()
    backend.save([TaskState(result.uuid, "bad", State.FAILURE, None, "it was bad")])
    broker.let_a_worker_die(QUEUE)
    with server.new_worker("test", 1):
        eventually(lambda: noted)
    assert noted == ["it was bad"]


def _crash(server: Server, broker: ObservedBroker, uuid: str, name: str, crashes: int) -> None:
    """What a worker leaves that died while it ran the task."""
    server.backend.save([TaskState(uuid, name, State.STARTED, crashes=crashes)])
    broker.let_a_worker_die(QUEUE)


def test_a_crash_counts_and_the_attempt_with_it(server: Server, broker: ObservedBroker) -> None:
    @server.task
    def risky(context: TaskContext) -> int:
        return context.attempt

    result = risky.send()
    _crash(server, broker, result.uuid, "risky", 0)
    with server.new_worker("test", 1):
        assert result.get(timeout=10) == 2
    assert result.task_state().crashes == 1


def test_too_many_crashes_are_a_dead_letter_with_a_failure_and_on_error(server: Server, broker: ObservedBroker) -> None:
    noted: list[str] = []

    @server.task
    def poison() -> None:
        raise AssertionError("it is not to run again")

    @server.task
    def note(error: str) -> None:
        noted.append(error)

    result = poison.options(on_error=Signature("note")).send()
    _crash(server, broker, result.uuid, "poison", server.config.max_crashes)
    with server.new_worker("test", 1):
        with pytest.raises(TaskFailed, match="crashed its worker 4 times"):
            result.get(timeout=10)
        (letter,) = eventually(server.dead_tasks)
        eventually(lambda: noted)

    assert letter.reason == "crashed its worker 4 times"
    assert noted == ["crashed its worker 4 times"]


@pytest.mark.usefixtures("long_moment")
def test_a_task_that_crashed_says_that_it_has_started_before_it_runs(
    server: Server, broker: ObservedBroker, journal: Journal
) -> None:
    seen: list[str] = []

    @server.task
    def risky() -> None:
        seen.extend(journal.of("save"))

    result = risky.send()
    broker.let_a_worker_die(QUEUE)
    with server.new_worker("test", 1):
        result.get(timeout=10)
    assert seen == ["save STARTED risky"]


def test_the_neighbours_of_a_poisonous_task_are_not_blamed(server: Server, broker: ObservedBroker, gate: Gate) -> None:
    @server.task
    def neighbour() -> None:
        pass

    # Given a worker of one slot that got a task and its neighbours once more, and runs the task
    gate_result = gate.task.send()
    results = [neighbour.send() for _ in range(5)]
    assert broker.let_a_worker_die(QUEUE) == 6
    worker = server.new_worker("test", 1)
    worker._executor.mean_duration = 1e-9  # it takes tasks for short ones, and fetches all six
    with worker:
        gate.wait_until_entered()

        # Then only that one would count, should the worker die now
        assert gate_result.state is State.STARTED
        assert State.STARTED not in {result.state for result in results}
        gate.opened.set()
        for result in results:
            result.get(timeout=10)


def test_a_redelivery_of_what_still_runs_is_adopted(
    server: Server, broker: ObservedBroker, gate: Gate, journal: Journal
) -> None:
    with server.new_worker("test", 2) as worker:
        # Given a running task
        result = gate.task.send()
        gate.wait_until_entered()

        # When its message is delivered once more
        again = redeliver(worker, broker)

        # Then it runs once, and both are acknowledged
        gate.opened.set()
        assert result.get(timeout=10) == "through"
        eventually(lambda: len(journal.of("ack")) == 2)
    assert gate.runs == 1
    assert again.redelivered


def redeliver(worker: Worker, broker: ObservedBroker) -> Delivery:
    """Deliver what the worker runs once more, and wait until it has seen that."""
    (run,) = worker._fetchers[0].held
    again = Delivery(run.delivery.body, QUEUE, redelivered=True)
    broker.consumers[0].injected.append(again)
    eventually(lambda: run.adopted == [again])
    return again


def test_a_redelivery_that_comes_while_its_acknowledgement_is_tried_again_is_not_forgotten(
    server: Server, broker: ObservedBroker, gate: Gate, journal: Journal
) -> None:
    with server.new_worker("test", 2) as worker:
        # Given a task that has ended, and a broker that does not take the acknowledgement
        journal.be_away("ack", BrokerUnavailable("away"))
        result = gate.task.send()
        gate.wait_until_entered()
        gate.opened.set()
        assert result.get(timeout=10) == "through"
        eventually(lambda: journal.of("ack?"))

        # When the connection comes back with the message on it once more
        redeliver(worker, broker)
        journal.come_back()

        # Then both are acknowledged
        eventually(lambda: len(journal.of("ack")) == 2)
    assert gate.runs == 1


def test_the_copy_of_a_retry_is_not_taken_for_a_redelivery(
    server: Server, broker: ObservedBroker, journal: Journal
) -> None:
    runs: list[int] = []

    @server.task
    def later(context: TaskContext) -> int:
        runs.append(context.attempt)
        if context.attempt == 1:
            raise RetryTaskLater("at once", 0)
        return context.attempt

    # Given a broker that cannot tell whether it delivered a message before
    broker.tells_redelivered = False
    with server.new_worker("test", 2):
        # When the copy arrives before the first message is acknowledged
        journal.be_away("ack", BrokerUnavailable("away"))
        result = later.send()

        # Then it runs
        eventually(lambda: runs == [1, 2])
        journal.come_back()
        assert result.get(timeout=10) == 2


def test_a_task_whose_lease_ran_out_before_it_started_is_not_started(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("machinery._worker._keeper.STALE", 60)  # nothing is given back for another reason
    broker = ObservedBroker(journal, leases=timedelta(seconds=0.6))
    server = Server(Config(), broker, ObservedBackend(journal))
    gate = Gate(server)
    given_back: list[bool] = []
    """For each run, whether it had been given back before."""

    @server.task
    def behind() -> None:
        given_back.append("nack behind" in journal.entries)

    worker = server.new_worker("test", 1)
    worker._executor.mean_duration = 1e-9  # it takes tasks for short ones, and fetches both
    gate.task.send()
    result = behind.send()
    journal.be_away("extend", BrokerUnavailable("away"))
    with worker:
        # Given a task that waits behind another, while no lease is renewed
        gate.wait_until_entered()
        fetcher = worker._fetchers[0]
        eventually(lambda: time.monotonic() > fetcher._lease_ends)
        journal.pause("receive", lambda: threading.Event().wait(0.05))

        # When it could start
        gate.opened.set()

        # Then it is given back instead, and runs when leases are renewed again
        eventually(lambda: "nack behind" in journal.entries)
        journal.come_back()
        result.get(timeout=10)
    assert given_back
    assert all(given_back)
    broker.close()


def test_a_task_that_is_no_longer_ours_and_still_runs_is_saved_all_the_same(journal: Journal) -> None:
    broker = ObservedBroker(journal, leases=timedelta(seconds=0.3))
    server = Server(Config(), broker, ObservedBackend(journal))
    gate = Gate(server)
    with server.new_worker("test", 2) as worker:
        # Given a running task whose lease has passed to nobody knows whom
        result = gate.task.send()
        gate.wait_until_entered()
        (run,) = worker._fetchers[0].held
        broker.consumers[0].not_ours.append(run.delivery)
        eventually(lambda: not worker._fetchers[0].held)

        # When it is delivered here again
        again = Delivery(run.delivery.body, QUEUE, redelivered=True)
        broker.consumers[0].injected.append(again)
        eventually(lambda: run.adopted == [again])

        # Then it does not run a second time beside itself
        gate.opened.set()
        assert result.get(timeout=10) == "through"
        eventually(lambda: len(journal.of("ack")) == 2)
    assert gate.runs == 1
    broker.close()


def test_messages_without_an_id_all_run_also_when_they_are_redelivered(
    server: Server, broker: ObservedBroker, backend: ObservedBackend
) -> None:
    runs: list[int] = []

    @server.task
    def note(number: int) -> None:
        runs.append(number)

    def push(*numbers: int) -> None:
        bodies = [encode_signature(Signature("note", [number], routing_key=QUEUE)) for number in numbers]
        broker.publish([Message(body, QUEUE) for body in bodies])

    # Given some that have ended, and more that a worker had received when it died
    push(0, 1, 1)
    with server.new_worker("test", 2):
        eventually(lambda: len(runs) == 3)
    push(2, 3, 3)
    broker.let_a_worker_die(QUEUE)

    # When another worker gets them
    with server.new_worker("test", 2):
        eventually(lambda: len(runs) == 6)

    # Then each has run, and no record was written that all of them would share
    assert sorted(runs) == [0, 1, 1, 2, 3, 3]
    assert backend.load([""]) == [None]


def test_messages_without_an_id_take_no_blame_for_the_crashes_of_others_that_look_the_same(
    server: Server, broker: ObservedBroker
) -> None:
    runs: list[int] = []

    @server.task
    def note(number: int) -> None:
        runs.append(number)

    # Given a broker that counts deliveries by what the messages say, and one that says nothing of its own
    body = encode_signature(Signature("note", [1], routing_key=QUEUE))
    with server.new_worker("test", 2):
        eventually(lambda: broker.consumers)
        broker.consumers[0].injected.append(Delivery(body, QUEUE, redelivered=True, attempt=100))

        # Then it runs
        eventually(lambda: runs)
    assert server.dead_tasks() == []


def test_a_poisonous_task_whose_worker_died_before_it_was_put_away_is_still_a_dead_letter(
    server: Server, broker: ObservedBroker, backend: ObservedBackend
) -> None:
    @server.task
    def poison() -> None:
        raise AssertionError("it is not to run again")

    # Given a record that says why it is not to run again, and a message that is still in the queue
    result = poison.send()
    backend.save([TaskState(result.uuid, "poison", State.FAILURE, None, "crashed its worker 4 times", crashes=4)])
    broker.let_a_worker_die(QUEUE)

    with server.new_worker("test", 1):
        (letter,) = eventually(server.dead_tasks)
    assert letter.reason == "crashed its worker 4 times"
