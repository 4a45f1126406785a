"""The fetcher: how much it asks for, and what becomes of what it gets."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta

import pytest

from machinery import Config, Server, Signature, State, TaskState
from machinery._worker._fetcher import GROWTH, LASTING, MAX_SURPLUS
from machinery._worker._run import Outcome, Run
from machinery._worker._sorter import FIRST_UNKNOWN_DELAY, LONGEST_UNKNOWN_DELAY
from machinery.abc import Message
from machinery.errors import BackendUnavailable, BrokerUnavailable, ConfigError, DecodeError
from machinery.null import NullBackend
from machinery.wire import encode_signature
from tests.core.observed import Journal, ObservedBackend, ObservedBroker
from tests.core.worker_parts import QUEUE, Parts, delivery_of
from tests.interop.eventually import eventually


@pytest.fixture
def parts(server: Server) -> Parts:
    @server.task
    def noop() -> None: ...

    return Parts(server, slots=4)


def test_as_many_are_asked_for_as_there_are_free_slots_while_nobody_knows_how_long_they_take(parts: Parts) -> None:
    assert parts.fetcher._wanted() == 4


@pytest.mark.parametrize(("mean", "surplus"), [(1e-6, MAX_SURPLUS), (0.001, 200), (0.05, 4), (0.1, 2), (10, 0)])
def test_the_surplus_is_what_can_be_started_within_the_horizon(parts: Parts, mean: float, surplus: int) -> None:
    parts.executor.mean_duration = mean
    assert parts.fetcher._wanted() == 4 + surplus


def test_the_surplus_grows_with_what_came_last(parts: Parts) -> None:
    parts.executor.mean_duration = 1e-6
    parts.fetcher._last_count = 3
    assert parts.fetcher._wanted() == 4 + (4 + GROWTH * 3)


def test_a_service_that_pushes_is_told_of_changes_that_matter(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []
    now = time.monotonic()
    monkeypatch.setattr(parts.fetcher.consumer, "resize", told.append)
    monkeypatch.setattr("machinery._worker._fetcher.time.monotonic", lambda: now)

    def want(*means: float) -> list[int]:
        for mean in means:
            parts.executor.mean_duration = mean
            parts.executor.last_end = now
            parts.fetcher._wanted()
        return told

    assert want(0.0, 0.01, 0.009, 0.001, 0.0012) == [4, 4 + 20, 4 + 200]
    assert want(10, 0.001, 10, 0.01) == [4, 4 + 20, 4 + 200]  # up and down in the same moment
    now += LASTING
    assert want(10) == [4, 4 + 20, 4 + 200, 4 + 20]  # the most that was enough meanwhile
    now += LASTING
    assert want(10) == [4, 4 + 20, 4 + 200, 4 + 20, 4]


def test_nothing_beyond_the_slots_is_asked_for_while_all_are_busy_with_long_tasks(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts.executor.mean_duration = 1e-6
    monkeypatch.setattr(type(parts.executor), "busy", property(lambda _: 4))
    parts.executor.last_end = time.monotonic() + 3600
    assert parts.fetcher._wanted() == MAX_SURPLUS
    parts.executor.last_end = time.monotonic() - 1
    assert parts.fetcher._wanted() == 0


def test_what_is_not_settled_counts_as_taken(parts: Parts) -> None:
    for run in parts.send_and_receive([Signature("noop")] * 3):
        parts.settler.finished(run)
    assert parts.fetcher._wanted() == 1


def test_an_undecodable_message_becomes_a_dead_letter(parts: Parts, server: Server) -> None:
    server.broker.publish([Message(b"{", QUEUE), Message(encode_signature(Signature("noop", uuid="task_1")), QUEUE)])
    (run,) = parts.receive()
    assert run.signature.name == "noop"
    (letter,) = server.dead_tasks()
    assert letter.body == b"{"
    assert letter.reason.startswith("undecodable: ")


def test_an_undecodable_message_is_dropped_with_its_body_in_the_log_where_nobody_keeps_dead_letters(
    journal: Journal, backend: ObservedBackend, caplog: pytest.LogCaptureFixture
) -> None:
    broker = ObservedBroker(journal, dead_letters=False)
    parts = Parts(Server(Config(), broker, backend))
    broker.publish([Message(b"{nonsense", QUEUE)])
    assert parts.receive() == []
    assert "{nonsense" in caplog.text
    assert journal.of("ack") == ["ack undecodable"]


def test_an_unknown_task_goes_back_with_a_growing_delay(parts: Parts, journal: Journal) -> None:
    for _ in range(40):
        parts.fetcher._sorter.sort_out([delivery_of(encode_signature(Signature("who", uuid="task_1")))], 0)
    delays = [float(entry.split()[-1]) for entry in journal.of("postpone")]
    assert delays[0] <= 2 * FIRST_UNKNOWN_DELAY.total_seconds()
    assert delays[0] < delays[10]
    assert 0.5 <= delays[39] / LONGEST_UNKNOWN_DELAY.total_seconds() <= 1.5


def test_unknown_tasks_are_not_remembered_without_end(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("machinery._worker._growing_delays.REMEMBERED", 10)
    for number in range(30):
        parts.fetcher._sorter.sort_out([delivery_of(encode_signature(Signature("who", uuid=f"task_{number}")))], 0)
    assert len(parts.fetcher._sorter._unknown) == 10


def test_a_member_of_a_chord_is_left_to_workers_that_can_join_it(broker: ObservedBroker, journal: Journal) -> None:
    # Given a worker without a result backend: were it to run the member, its chord would be without a callback for ever
    server = Server(None, broker, NullBackend())
    server.register_task("noop", lambda: None)
    server.send_task(Signature("noop", group_uuid="group_1", group_task_count=2, chord_callback=Signature("noop")))
    assert Parts(server).receive() == []
    assert [entry.split()[:2] for entry in journal.of("ack", "postpone")] == [["postpone", "noop"]]


def test_an_unknown_task_that_says_so_is_dropped(parts: Parts, server: Server, journal: Journal) -> None:
    server.send_task(Signature("who", ignore_when_task_not_registered=True))
    assert parts.receive() == []
    assert journal.of("ack", "postpone") == ["ack who"]


def test_a_batch_that_cannot_be_sorted_out_is_given_back_whole(
    parts: Parts, server: Server, journal: Journal, broker: ObservedBroker
) -> None:
    # Given a batch with something to look up, and a worker that is told to leave while the backend is away
    server.send_tasks([Signature("noop"), Signature("noop")])
    broker.let_a_worker_die(QUEUE)
    server.send_task(Signature("noop"))
    journal.be_away("load", BackendUnavailable("away"))
    parts.patience.give_up()

    # When
    parts.fetcher.run()

    # Then
    assert len(server.pending_tasks()) == 3
    assert not parts.fetcher.held
    assert not parts.fetcher._by_uuid


def test_what_arrives_while_it_stops_is_given_back(parts: Parts, server: Server, journal: Journal) -> None:
    server.send_task(Signature("noop"))
    journal.pause("receive", parts.fetcher._stopping.set)
    parts.fetcher.run()
    assert journal.of("nack") == ["nack noop"]
    assert len(server.pending_tasks()) == 1


def test_what_is_sorted_out_while_it_stops_is_given_back(
    parts: Parts, server: Server, journal: Journal, broker: ObservedBroker
) -> None:
    server.send_task(Signature("noop"))
    broker.let_a_worker_die(QUEUE)
    journal.pause("load", parts.fetcher._stopping.set)
    parts.fetcher.run()
    assert journal.of("nack") == ["nack noop"]
    assert not parts.fetcher.held


def test_a_record_that_cannot_be_read_does_not_stand_in_the_way_of_the_others(
    parts: Parts, server: Server, broker: ObservedBroker, backend: ObservedBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = server.send_tasks([Signature("noop"), Signature("noop")])
    backend.save([TaskState(second.uuid, "noop", State.SUCCESS, ())])
    broker.let_a_worker_die(QUEUE)
    load = backend.inner.load

    def load_some(ids: list[str]) -> list[TaskState | None]:
        if first.uuid in ids:
            raise DecodeError("not a state")
        return load(ids)

    monkeypatch.setattr(backend, "load", load_some)
    (run,) = parts.receive()
    assert run.signature.uuid == first.uuid
    assert parts.settler.backlog == 1


def test_what_may_have_been_delivered_before_and_is_pending_counts_as_new(parts: Parts, broker: ObservedBroker) -> None:
    broker.tells_redelivered = False
    (run,) = parts.send_and_receive([Signature("noop")])
    assert not run.suspect


def test_what_may_have_been_delivered_before_and_had_started_is_suspect(
    parts: Parts, server: Server, broker: ObservedBroker, backend: ObservedBackend
) -> None:
    broker.tells_redelivered = False
    result = server.send_task(Signature("noop"))
    backend.save([TaskState(result.uuid, "noop", State.STARTED)])
    (run,) = parts.receive()
    assert run.suspect
    assert run.crashes == 1


def test_a_suspect_that_has_ended_meanwhile_is_replayed(
    parts: Parts, server: Server, broker: ObservedBroker, backend: ObservedBackend
) -> None:
    result = server.send_task(Signature("noop"))
    broker.let_a_worker_die(QUEUE)
    (run,) = parts.receive()
    backend.save([TaskState(result.uuid, "noop", State.SUCCESS, ())])
    parts.executor.run_here(run)
    assert run.outcome is Outcome.REPLAYED
    assert run.started == 0.0


def test_a_suspect_does_not_start_when_that_cannot_be_stored(
    parts: Parts, server: Server, broker: ObservedBroker, journal: Journal
) -> None:
    server.send_task(Signature("noop"))
    broker.let_a_worker_die(QUEUE)
    (run,) = parts.receive()
    journal.be_away("save", BackendUnavailable("away"))
    parts.patience.give_up()
    parts.executor.run_here(run)
    assert run.outcome is Outcome.RETURNED


def test_a_fetch_that_fails_is_tried_again(
    parts: Parts, server: Server, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal.fail("receive", BrokerUnavailable("away"), ZeroDivisionError("a defect"))
    server.send_task(Signature("noop"))
    started: list[Run] = []

    def start(runs: Sequence[Run]) -> None:
        started.extend(runs)
        parts.fetcher.stop()

    monkeypatch.setattr(parts.executor, "start", start)
    parts.fetcher.run()
    assert len(started) == 1


def test_leases_count_from_the_oldest_delivery(
    journal: Journal, backend: ObservedBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(Config(), ObservedBroker(journal, leases=timedelta(seconds=9)), backend)
    server.register_task("noop", lambda: None)
    parts = Parts(server)
    monkeypatch.setattr(parts.executor, "start", lambda _: None)
    server.send_task(Signature("noop"))
    parts.fetcher._fetch_once()
    end = parts.fetcher._lease_ends
    assert 0 < end - time.monotonic() <= 9

    # Given that something is held, a further delivery renews nothing
    server.send_task(Signature("noop"))
    parts.executor.slots = 10
    parts.fetcher._fetch_once()
    assert len(parts.fetcher.held) == 2
    assert parts.fetcher._lease_ends == end

    # The keeper does
    parts.keeper._renew(parts.fetcher, time.monotonic())
    assert parts.fetcher._lease_ends > end


def test_what_cannot_be_handed_back_is_reported_and_handed_back_when_the_service_is_there_again(
    parts: Parts, journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a broker that is away in the moment of the hand-back
    runs = parts.send_and_receive([Signature("noop")])
    journal.fail("nack", BrokerUnavailable("away"))
    parts.fetcher.hand_back(runs)
    assert "cannot be handed back yet" in caplog.text
    assert not parts.fetcher.held
    assert len(parts.fetcher.debts) == 1

    # When the keeper comes round
    parts.fetcher.debts.pay()

    # Then it is delivered again, although this consumer still lives
    assert len(parts.fetcher.debts) == 0
    assert [run.signature.name for run in parts.receive()] == ["noop"]


def test_a_run_that_was_lost_and_comes_back_while_it_runs_is_held_again(parts: Parts, journal: Journal) -> None:
    # Given a run whose lease ran out while it runs
    (run,) = parts.send_and_receive([Signature("noop")])
    assert parts.fetcher.lost([run.delivery]) == 1
    assert not parts.fetcher.held

    # When its message comes back to us
    again = delivery_of(run.delivery.body, redelivered=True)
    assert parts.fetcher._sorter.sort_out([again], 0) == []

    # Then it is waited for and kept ours like any other, whatever the service says of the delivery that was lost
    assert list(parts.fetcher.held) == [run]
    assert again in parts.fetcher.deliveries()
    assert parts.fetcher.lost([run.delivery]) == 0
    assert list(parts.fetcher.held) == [run]


def test_an_adopted_delivery_is_kept_ours_and_handed_back_with_its_run(parts: Parts, journal: Journal) -> None:
    (run,) = parts.send_and_receive([Signature("noop")])
    again = delivery_of(run.delivery.body, redelivered=True)
    assert parts.fetcher._sorter.sort_out([again], 0) == []
    assert parts.fetcher.deliveries() == [run.delivery, again]

    parts.fetcher.hand_back([run])
    assert journal.of("nack") == ["nack noop", "nack noop"]
    assert parts.fetcher.deliveries() == []


def test_another_message_of_the_same_task_is_not_adopted(parts: Parts, server: Server) -> None:
    (run,) = parts.send_and_receive([Signature("noop")])
    other = run.signature.with_(headers={"machinery_attempt": "2"})
    (second,) = parts.fetcher._sorter.sort_out([delivery_of(encode_signature(other), redelivered=None)], 0)
    assert second is not run
    assert run.adopted is None
    assert server.config is parts.config()


def test_a_task_that_is_sent_again_is_not_adopted_where_messages_have_ids(parts: Parts, server: Server) -> None:
    # Given a task that has just ended, on a service that cannot tell whether it delivered a message before
    (run,) = parts.send_and_receive([Signature("noop")])
    run.delivery.message_id = "1"

    # When it is sent again, to the letter the same, before its first message is acknowledged
    again, redelivered = (delivery_of(run.delivery.body, redelivered=None) for _ in range(2))
    again.message_id, redelivered.message_id = "2", "1"

    # Then it runs, where a redelivery of the first would not
    assert parts.fetcher._sorter.sort_out([redelivered], 0) == []
    assert run.adopted == [redelivered]
    (second,) = parts.fetcher._sorter.sort_out([again], 0)
    assert second.delivery is again
    assert server.config is parts.config()


def test_an_unknown_task_without_an_id_goes_back_with_a_growing_delay_of_its_own(
    parts: Parts, journal: Journal
) -> None:
    for _ in range(40):
        parts.fetcher._sorter.sort_out([delivery_of(encode_signature(Signature("who")))], 0)
    parts.fetcher._sorter.sort_out([delivery_of(encode_signature(Signature("another")))], 0)
    delays = [float(entry.split()[-1]) for entry in journal.of("postpone")]
    assert delays[39] >= 0.5 * LONGEST_UNKNOWN_DELAY.total_seconds()
    assert delays[40] <= 2 * FIRST_UNKNOWN_DELAY.total_seconds()


def test_a_suspect_whose_start_is_refused_for_good_has_not_failed_and_comes_back_later(
    parts: Parts, server: Server, broker: ObservedBroker, journal: Journal
) -> None:
    # Given a task to be run once more, and a backend that takes nothing
    result = server.send_task(Signature("noop"))
    broker.let_a_worker_die(QUEUE)
    runs = parts.receive()
    journal.fail("save", ConfigError("wrong password"))

    # When
    parts.executor.start(runs)
    eventually(lambda: parts.ended)
    parts.settler.settle(parts.ended)

    # Then nothing is said of it
    assert runs[0].outcome is Outcome.RETURNED
    assert journal.of("nack", "postpone") == ["postpone noop 10"]
    assert result.state is State.PENDING


def test_what_cannot_be_settled_comes_back_later_each_time(parts: Parts, journal: Journal) -> None:
    for body in [b"{}", b"{}", b"{}", b"[]"]:
        run = Run(delivery_of(body), parts.fetcher, Signature("noop"), parts.server.registry.find("noop"), 0)  # type: ignore[arg-type]
        parts.fetcher.postpone_quietly(run)
    assert [float(entry.split()[-1]) for entry in journal.of("postpone")] == [10, 20, 40, 10]
