"""The settler: save, then send what follows, then settle the message; each tried again, none at another's expense."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from datetime import timedelta

import pytest

from machinery import Config, Exponential, Reject, Server, Signature, State, TaskResult, TaskState
from machinery._worker._patience import GivenUp
from machinery._worker._run import Outcome
from machinery.errors import (
    BackendUnavailable,
    BrokerUnavailable,
    Closed,
    ConfigError,
    EncodeError,
    MessageTooLarge,
    PublishError,
    ResultTooLarge,
)
from tests.core.observed import Journal, ObservedBackend, ObservedBroker
from tests.core.worker_parts import Parts, delivery_of
from tests.interop.eventually import eventually


@pytest.fixture
def server(server: Server) -> Server:
    @server.task
    def good(number: int = 1) -> int:
        return number

    @server.task
    def bad() -> None:
        raise ValueError("no good")

    @server.task(retry_count=1, retry=Exponential(base=0.001))
    def shaky() -> None:
        raise ValueError("not yet")

    @server.task
    def rejected() -> None:
        raise Reject("never")

    return server


@pytest.fixture
def settling(parts: Parts) -> Iterator[Parts]:
    """`parts` with the settler's thread."""
    thread = threading.Thread(target=parts.settler.run)
    thread.start()
    yield parts
    parts.patience.give_up()
    parts.settler.stop()
    thread.join(10)
    assert not thread.is_alive()


def settle(parts: Parts, *signatures: Signature) -> None:
    """Run these and settle them as one batch."""
    runs = parts.run(signatures)
    parts.server.broker.journal.entries.clear()  # type: ignore[attr-defined]
    parts.settler.settle(runs)


def state_of(server: Server, uuid: str) -> TaskState:
    (found,) = server.backend.load([uuid])
    assert found is not None
    return found


FOLLOWER = Signature("good", uuid="task_follower")


def test_a_batch_is_one_call_for_each_step(parts: Parts, journal: Journal) -> None:
    settle(parts, Signature("good", on_success=[FOLLOWER]), Signature("good"), Signature("bad"))
    assert journal.entries == [
        "save SUCCESS good",
        "save SUCCESS good",
        "save FAILURE bad",
        "submit good",
        "publish good",
        "ack good",
        "ack good",
        "ack bad",
    ]
    assert not parts.fetcher.held


@pytest.mark.parametrize("operation", ["save", "submit", "publish", "ack"])
def test_each_step_is_tried_again_while_its_service_is_away(
    parts: Parts, server: Server, journal: Journal, operation: str
) -> None:
    error = (BackendUnavailable if operation in {"save", "submit"} else BrokerUnavailable)("away")
    runs = parts.run([Signature("good", on_success=[FOLLOWER])])
    journal.fail(operation, error, error)
    parts.settler.settle(runs)

    assert len(journal.of(f"{operation}?")) == 2
    assert journal.of("ack")[-1] == "ack good"
    assert [task.uuid for task in server.pending_tasks()] == ["task_follower"]


@pytest.mark.parametrize("operation", ["save", "publish", "ack"])
def test_told_to_leave_it_leaves_the_message_to_be_delivered_again(
    parts: Parts, journal: Journal, operation: str
) -> None:
    runs = parts.run([Signature("good", on_success=[FOLLOWER])])
    journal.be_away(operation, BrokerUnavailable("away"))
    parts.patience.give_up()
    with pytest.raises(GivenUp):
        parts.settler.settle(runs)
    assert "ack good" not in journal.entries
    assert list(parts.fetcher.held) == runs


def test_a_refusal_for_now_is_sent_again_alone(parts: Parts, server: Server, journal: Journal) -> None:
    runs = parts.run([Signature("good", on_success=[FOLLOWER, Signature("bad", uuid="task_other")])])
    refusal = PublishError("one was not taken", {1: BrokerUnavailable("busy")})
    journal.fail("publish", refusal)
    journal.entries.clear()
    parts.settler.settle(runs)
    assert journal.of("publish?", "publish") == ["publish? good", "publish? bad", "publish bad"]
    assert journal.of("ack") == ["ack good"]


def test_a_successor_refused_for_good_has_failed_and_sets_off_its_own_on_error(
    parts: Parts, server: Server, journal: Journal
) -> None:
    doomed = Signature("bad", uuid="task_doomed", on_error=[Signature("good", uuid="task_told")])
    runs = parts.run([Signature("good", uuid="task_parent", on_success=[FOLLOWER, doomed])])
    journal.fail("publish", MessageTooLarge("one is too large", {1: MessageTooLarge("9 MB")}))
    parts.settler.settle(runs)

    # Its record says so, what it sets off on an error is sent, and the parent's message is kept
    assert state_of(server, "task_parent").state is State.SUCCESS
    assert state_of(server, "task_doomed").error == "could not be sent: 9 MB"
    (told,) = [task for task in server.pending_tasks() if task.uuid == "task_told"]
    assert told.args[0].value == "could not be sent: 9 MB"
    (letter,) = server.dead_tasks()
    assert "bad task_doomed could not be sent after it: 9 MB" in letter.reason


def test_a_successor_that_cannot_be_encoded_is_not_the_end_of_the_others(
    parts: Parts, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit = server.sender.submit

    def refuse_some(signatures: list[Signature], sending: str = "") -> None:
        if any(signature.uuid == "task_doomed" for signature in signatures):
            raise EncodeError("unsayable")
        submit(signatures, sending)

    monkeypatch.setattr(server.sender, "submit", refuse_some)
    settle(
        parts,
        Signature("good", on_success=[FOLLOWER]),
        Signature("good", on_success=[Signature("good", uuid="task_doomed")]),
    )
    assert [task.uuid for task in server.pending_tasks()] == ["task_follower"]
    assert state_of(server, "task_doomed").error == "could not be sent: unsayable"
    assert len(server.dead_tasks()) == 1


def test_a_retry_refused_for_good_is_a_failure_with_on_error(parts: Parts, server: Server, journal: Journal) -> None:
    runs = parts.run([Signature("shaky", uuid="task_1", retry_count=1, on_error=[FOLLOWER])])
    journal.fail("publish", MessageTooLarge("too large", {0: MessageTooLarge("9 MB")}))
    failures: list[BaseException] = []
    parts.hooks.error = lambda error, _: failures.append(error)
    parts.settler.settle(runs)

    assert state_of(server, "task_1").error == "could not be sent: 9 MB"
    assert [task.uuid for task in server.pending_tasks()] == ["task_follower"]
    assert len(server.dead_tasks()) == 1
    assert isinstance(failures[0], ValueError)


def test_a_broker_that_was_closed_is_no_refusal(parts: Parts, server: Server, journal: Journal) -> None:
    runs = parts.run([Signature("good", on_success=[FOLLOWER])])
    journal.fail("publish", Closed("closed"))
    with pytest.raises(Closed):
        parts.settler.settle(runs)
    assert server.dead_tasks() == []


def test_a_result_too_large_to_store_is_a_failure_and_a_dead_letter_and_the_others_are_stored(
    parts: Parts, server: Server, journal: Journal
) -> None:
    runs = parts.run([Signature("good", uuid="task_1", on_success=[FOLLOWER]), Signature("good", uuid="task_2")])
    journal.fail("save", ResultTooLarge("9 MB", ["task_1"]))
    parts.settler.settle(runs)

    assert state_of(server, "task_1").error == "the result is too large to store: 9 MB"
    assert state_of(server, "task_2").state is State.SUCCESS
    (letter,) = server.dead_tasks()
    assert letter.reason == "result too large to store"
    assert server.pending_tasks() == []


def test_a_rejected_task_is_acknowledged_where_nobody_keeps_dead_letters(
    journal: Journal, backend: ObservedBackend
) -> None:
    server = Server(Config(), ObservedBroker(journal, dead_letters=False), backend)

    @server.task
    def rejected() -> None:
        raise Reject("never")

    settle(Parts(server), Signature("rejected"))
    assert journal.of("ack", "reject") == ["ack rejected"]


def test_the_dead_letter_is_the_delivery_that_is_still_ours(parts: Parts, server: Server) -> None:
    # Given a run whose own delivery went to somebody else and came back
    (run,) = parts.run([Signature("rejected")])
    ours = run.delivery
    run.delivery = delivery_of(ours.body, handle="lost")
    run.adopted = [ours]

    # When
    parts.settler.settle([run])

    # Then
    assert [letter.reason for letter in server.dead_tasks()] == ["never"]


def test_a_defect_in_one_holds_up_neither_the_others_nor_the_thread(
    settling: Parts, server: Server, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("machinery._worker._fetcher.LATER", timedelta(seconds=0.05))

    def refuse(signature: Signature) -> None:
        if signature.uuid == "task_follower":
            raise SystemExit("a defect")

    # Given
    runs = settling.run([Signature("good", uuid="task_1"), Signature("good", uuid="task_2", on_success=[FOLLOWER])])
    server.set_pre_task_handler(refuse)
    journal.entries.clear()

    # When
    for run in runs:
        settling.settler.finished(run)

    # Then
    eventually(lambda: journal.of("postpone"))
    assert journal.of("ack", "postpone") == ["ack good", "postpone good 0.05"]
    eventually(lambda: not settling.fetcher.held)


def test_what_was_sent_is_not_sent_again_when_the_rest_is_tried_again(settling: Parts, journal: Journal) -> None:
    # Given a batch whose acknowledgement meets a defect once
    runs = settling.run([Signature("good", on_success=[FOLLOWER]), Signature("shaky", retry_count=1)])
    journal.entries.clear()
    journal.fail("ack", ZeroDivisionError("a defect"))

    # When
    for run in runs:
        settling.settler.finished(run)
    eventually(lambda: len(journal.of("ack")) == 2)

    # Then
    assert sorted(journal.of("publish")) == ["publish good", "publish shaky"]


def test_an_abandoned_run_is_nobodys(parts: Parts, journal: Journal) -> None:
    (run,) = parts.run([Signature("good", on_success=[FOLLOWER])])
    journal.entries.clear()
    run.abandoned = True
    parts.settler.settle([run])
    assert journal.entries == []


def test_a_returned_run_is_handed_back_and_no_record_is_written(parts: Parts, server: Server, journal: Journal) -> None:
    (run,) = parts.send_and_receive([Signature("good")])
    journal.entries.clear()
    run.give_back()
    parts.settler.settle([run])
    assert journal.entries == ["nack good"]
    assert len(server.pending_tasks()) == 1


def test_a_task_that_somebody_else_ended_goes_on_with_what_is_stored(
    parts: Parts, server: Server, backend: ObservedBackend
) -> None:
    (run,) = parts.run([Signature("good", [1], uuid="task_1", on_success=[FOLLOWER])])
    backend.save([TaskState("task_1", "good", State.SUCCESS, (TaskResult("int64", 2),))])
    parts.settler.settle([run])
    (follower,) = server.pending_tasks()
    assert [arg.value for arg in follower.args] == [2]
    assert run.outcome is Outcome.REPLAYED


def test_a_retry_of_what_somebody_else_ended_is_not_sent(
    parts: Parts, server: Server, backend: ObservedBackend
) -> None:
    (run,) = parts.run([Signature("shaky", uuid="task_1", retry_count=1)])
    backend.save([TaskState("task_1", "shaky", State.SUCCESS, ())])
    parts.settler.settle([run])
    assert server.pending_tasks() == []
    assert server.delayed_tasks() == []
    assert state_of(server, "task_1").state is State.SUCCESS


def test_a_late_worker_sends_nothing_that_has_run_meanwhile(
    parts: Parts, server: Server, backend: ObservedBackend, journal: Journal
) -> None:
    (run,) = parts.run([Signature("good", on_success=[FOLLOWER])])
    backend.save([TaskState("task_follower", "good", State.SUCCESS, ())])
    parts.fetcher.lost([run.delivery])
    journal.entries.clear()
    parts.settler.settle([run])
    assert journal.of("publish") == []


def test_it_ends_only_when_everything_is_settled(parts: Parts, journal: Journal) -> None:
    runs = parts.run([Signature("good")] * 50)
    for run in runs:
        parts.settler.finished(run)
    parts.settler.stop()
    thread = threading.Thread(target=parts.settler.run)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert len(journal.of("ack")) == 50


def test_it_ends_when_it_is_told_to_in_the_middle_of_a_batch(parts: Parts, journal: Journal) -> None:
    journal.pause("ack", parts.settler.stop)
    (run,) = parts.run([Signature("good")])
    thread = threading.Thread(target=parts.settler.run)
    thread.start()
    parts.settler.finished(run)
    thread.join(10)
    assert not thread.is_alive()


def test_a_successor_that_has_begun_is_not_sent_again_when_the_answer_to_sending_it_was_lost(
    parts: Parts, server: Server, journal: Journal, backend: ObservedBackend
) -> None:
    # Given a task whose successor is sent, has run, and the sender never heard of it
    follower = Signature("good", uuid="task_follower")
    (run,) = parts.run([Signature("good", on_success=[follower])])
    journal.fail("publish", BrokerUnavailable("the answer was lost"))
    journal.pause("publish", lambda: backend.save([TaskState("task_follower", "good", State.SUCCESS, ())]))

    # When the task is settled
    parts.settler.settle([run])

    # Then the finished record stays, and the successor is not published a second time
    assert len(journal.of("publish")) == 1
    (state,) = backend.load(["task_follower"])
    assert state is not None
    assert state.is_success


@pytest.mark.parametrize(
    ("seen", "published"), [(State.PENDING, 2), (State.RECEIVED, 2), (State.STARTED, 1), (State.FAILURE, 1)]
)
def test_a_successor_that_only_waits_in_a_workers_hands_is_sent_again_when_the_answer_was_lost(
    parts: Parts, journal: Journal, backend: ObservedBackend, seen: State, published: int
) -> None:
    """The service may have gone down before it kept the message, and who has it drops it unstarted."""
    (run,) = parts.run([Signature("good", on_success=[Signature("good", uuid="task_follower")])])
    journal.fail("publish", BrokerUnavailable("the answer was lost"))
    journal.pause("publish", lambda: backend.inner.save([TaskState("task_follower", "good", seen)]))

    parts.settler.settle([run])

    assert len(journal.of("publish")) == published


def test_a_task_whose_record_can_never_be_stored_is_a_dead_letter_and_its_neighbours_are_not(
    settling: Parts, server: Server, journal: Journal, backend: ObservedBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a store that refuses one record for good, such as a key of another type
    save = backend.save

    def refuse(states: Sequence[TaskState]) -> list[TaskState]:
        if any(state.task_uuid == "task_bad" for state in states):
            raise ConfigError("the key holds something else")
        return save(states)

    monkeypatch.setattr(backend, "save", refuse)

    # When it is settled beside another
    for run in settling.run([Signature("good", uuid="task_bad"), Signature("good", uuid="task_fine")]):
        settling.settler.finished(run)

    # Then it is kept with the reason, instead of being run for ever
    eventually(server.dead_tasks)
    (letter,) = server.dead_tasks()
    assert "the key holds something else" in letter.reason
    eventually(lambda: server.result("task_fine").state is State.SUCCESS)
    eventually(lambda: not settling.fetcher.held)


def test_a_store_that_refuses_everything_makes_no_dead_letters(
    settling: Parts, server: Server, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("machinery._worker._fetcher.LATER", timedelta(seconds=30))
    runs = settling.run([Signature("good")])
    journal.be_away("save", ConfigError("wrong password"))
    settling.settler.finished(runs[0])
    eventually(lambda: journal.of("postpone"))
    assert server.dead_tasks() == []


def test_a_dead_letter_that_cannot_be_kept_does_not_end_the_thread(
    settling: Parts, server: Server, journal: Journal, backend: ObservedBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a store that refuses one record for good, and a broker whose dead letters have a defect
    save = backend.save

    def refuse(states: Sequence[TaskState]) -> list[TaskState]:
        if any(state.task_uuid == "task_bad" for state in states):
            raise ConfigError("the key holds something else")
        return save(states)

    monkeypatch.setattr(backend, "save", refuse)
    journal.fail("reject", ZeroDivisionError("a defect"))
    bad, fine = settling.run([Signature("good", uuid="task_bad"), Signature("good", uuid="task_fine")])

    # When the one is settled, and then another
    settling.settler.finished(bad)
    eventually(lambda: journal.of("postpone"))
    settling.settler.finished(fine)

    # Then
    eventually(lambda: server.result("task_fine").state is State.SUCCESS)
    assert not server.dead_tasks()


def test_what_was_adopted_by_a_task_whose_record_is_refused_is_settled_with_it(
    parts: Parts, server: Server, journal: Journal, backend: ObservedBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(states: Sequence[TaskState]) -> list[TaskState]:
        if any(state.task_uuid == "task_bad" for state in states):
            raise ConfigError("the key holds something else")
        return []

    monkeypatch.setattr(backend, "save", refuse)
    (run,) = parts.run([Signature("good", uuid="task_bad")])
    run.adopted = [delivery_of(run.delivery.body, redelivered=True)]

    parts.settler._settle_safely([run])

    assert len(server.dead_tasks()) == 1
    assert journal.of("reject", "ack") == ["reject good", "ack good"]
